"""Where a search stands: the figures that every view of it shows, reckoned in one place. Pure but for the clock."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from tune.limits import Limits
from tune.objectives import in_order
from tune.rungs import expected_trials
from tune.spec import Experiment
from tune.trials import DEAD, ENDED, State, Trial

_ENOUGH = 3  # ended trials, before their mean length says more than the longest possible


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 20 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True)
class Goal:
    """A limit of the search that is set, by its field, and how far the search is; None before there is a value."""

    field: str
    done: float | None
    of: float


@dataclass(frozen=True)
class _Seen:
    """What was counted of a trial when it was told last: the trial itself changes."""

    state: State
    epochs: int
    trained: int
    seconds: float
    audit: State | None


class Standing:
    """Is told of a trial whenever it changes. A figure costs little however many trials there are.

    limits: has heard of the same trials. slots: how many trials fit at once; None where that is not known. elapsed:
    seconds that the search has run in all its sessions, for one that does not run in this process.
    """

    def __init__(self, experiment: Experiment, slots: int | None, limits: Limits, elapsed: float | None = None) -> None:
        self.experiment, self.slots, self.limits = experiment, slots, limits
        self.trials: dict[int, Trial] = {}
        self.ends: list[Trial] = []  # in the order of their ends
        self.counts: Counter[State] = Counter()
        self.audits: Counter[State] = Counter()
        self.epochs = 0  # trained by all trials and audits, each counted once
        self.best: Trial | None = None  # the one that would win, by the values of the search
        self._elapsed = elapsed
        self._seconds = 0.0  # in slots
        self._seen: dict[int, _Seen] = {}

    def recall(self, trials: Iterable[Trial]) -> None:
        """Hears of trials that were there before, in the order of their ends; of those that never began, nothing."""
        begun = [trial for trial in trials if trial.begun or trial.state in ENDED]
        for trial in begun:
            self._count(trial)
        # some may have been told before: what a kill left undecided is decided when the conductor is made
        self.ends.sort(key=lambda trial: (trial.ended_at is None, trial.ended_at or 0.0, trial.number))
        self.best = next(iter(in_order(self.experiment.search, list(self.trials.values()))), None)

    def update(self, trial: Trial) -> None:
        """A trial or its audit has begun, finished an epoch, paused or ended."""
        self._count(trial)
        again = self.best is not None and self.best.number == trial.number
        field = list(self.trials.values()) if again and self._may_fall(trial) else [*filter(None, [self.best]), trial]
        self.best = next(iter(in_order(self.experiment.search, field)), None)

    def _count(self, trial: Trial) -> None:
        before = self._seen.get(trial.number, _Seen("paused", 0, 0, 0.0, None))
        audit = trial.audit.state if trial.audit else None
        now = self._seen[trial.number] = _Seen(trial.state, trial.epochs, trial.trained, trial.spent, audit)
        if trial.number in self.trials:
            self.counts[before.state] -= 1
        if before.audit:
            self.audits[before.audit] -= 1
        if now.audit:
            self.audits[now.audit] += 1
        self.trials[trial.number] = trial
        self.counts[now.state] += 1
        self.epochs += now.trained - before.trained
        self._seconds += now.seconds - before.seconds
        if now.state in ENDED and before.state not in ENDED:
            self.ends.append(trial)

    def _may_fall(self, best: Trial) -> bool:
        """Whether a trial may be the best no more: of one metric the best value stays."""
        return best.state in DEAD or bool(self.experiment.search.objectives)

    @property
    def planned(self) -> int:
        """Trials in all, those included that repeat others or that a population has bred."""
        return max(self.experiment.trials, len(self.trials))

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        return len(self.ends)

    @property
    def busy(self) -> int:
        """Slots that train."""
        return self.counts["running"] + self.audits["running"]

    @property
    def audits_left(self) -> int:
        """Audits that train or wait."""
        return sum(count for state, count in self.audits.items() if state not in ENDED)

    @property
    def states(self) -> dict[str, int]:
        """How many trials are in each state, those in which some are; by name."""
        return {state: count for state, count in sorted(self.counts.items()) if count}

    @property
    def elapsed(self) -> float:
        """Seconds of the search, in all its sessions."""
        return self.limits.elapsed if self._elapsed is None else self._elapsed

    @property
    def best_value(self) -> tuple[int, float] | None:
        """(epoch, value) of the best trial."""
        return self.best.best(self.experiment.search.maximize) if self.best else None

    @property
    def epoch_seconds(self) -> float | None:
        """What an epoch took of a slot's time, on average; None before the first has ended."""
        return self._seconds / self.epochs if self.epochs and self._seconds > 0 else None

    def goals(self) -> list[Goal]:
        """Every limit that is set, the number of trials first."""
        search = self.experiment.search
        found = [Goal("search.trials", self.ended, self.planned)]
        if search.epoch_budget is not None:
            found.append(Goal("search.epoch_budget", self.epochs, search.epoch_budget))
        if search.time_budget_s is not None:
            found.append(Goal("search.time_budget_s", round(self.elapsed, 3), search.time_budget_s))
        if search.target is not None:
            best = self.best_value
            found.append(Goal("search.target", best[1] if best else None, search.target))
        if search.patience is not None:
            found.append(Goal("search.patience", self.limits.without_improvement, search.patience))
        return found

    def epochs_left(self) -> int:
        """Epochs that are expected to be trained yet, as far as can be known: not when a target will be reached.

        By rungs, if each lets through the share that it should, or that it has let through so far if that is more;
        without, if trials become as long as those that have ended; in a population, to the full length of each line.
        Audits go on to the end; how many will be drawn yet is not known.
        """
        scheduler, budget = self.experiment.scheduler, self.experiment.search.epoch_budget
        seen = list(self._seen.values())
        searched = self.ended >= self.planned
        if self.limits.spent if searched else self.limits.reason:  # as for the conductor: audits may be left
            return 0
        if searched:
            left = 0.0
        elif scheduler.type == "pbt":
            left = float(self.experiment.trials * scheduler.max_epochs - self.epochs)
        elif scheduler.type == "asha":
            left = self._left_by_rungs(seen)
        else:
            left = self._left_by_length(seen)
        audits = [one for one in seen if one.audit and one.audit not in ENDED]
        left = max(0.0, left) + sum(scheduler.max_epochs - one.trained for one in audits)
        return max(0, round(left if budget is None else min(left, budget - self.epochs)))

    def _left_by_length(self, seen: list[_Seen]) -> float:
        ended = [one.epochs for one in seen if one.state in ENDED - DEAD]
        longest = self.experiment.scheduler.max_epochs
        length = fmean(ended) if len(ended) >= _ENOUGH else longest
        live = [one for one in seen if one.state not in ENDED]
        return sum(max(0, length - one.epochs) for one in live) + length * (self.planned - len(seen))

    def _left_by_rungs(self, seen: list[_Seen]) -> float:
        scheduler = self.experiment.scheduler
        sound = [one for one in seen if one.state not in DEAD]
        share = 1 / scheduler.reduction_factor
        planned = expected_trials(self.planned - (len(seen) - len(sound)), scheduler.rungs, scheduler.reduction_factor)
        bounds = list(pairwise((0, *scheduler.rungs, scheduler.max_epochs)))
        left, reach = 0.0, float(planned[0])
        for count, (since, until) in zip(planned, bounds, strict=True):
            there = sum(one.epochs >= since for one in sound)
            passed = sum(one.epochs > since for one in sound)
            if since:
                reach = max(count, reach * max(share, passed / there if there >= scheduler.reduction_factor else 0.0))
            trained = sum(min(max(one.epochs - since, 0), until - since) for one in sound)
            begun = sum(until - one.epochs for one in sound if one.state == "running" and since <= one.epochs < until)
            left += max(reach * (until - since) - trained, begun)
        return left

    def seconds_left(self) -> float | None:
        """Until the search is over, if epochs take as long as before; None before the first has ended.

        No longer than the search's time budget lasts.
        """
        budget, each = self.experiment.search.time_budget_s, self.epoch_seconds
        if each is None:
            return None
        at_once = max(1, min(self.slots or 1, self.planned - self.ended + self.audits_left))
        seconds = self.epochs_left() * each / at_once
        return seconds if budget is None else max(0.0, min(seconds, budget - self.elapsed))
