"""What early stopping cost, as an audit tells it: stopped trials, drawn at random, ran on to the end. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tune.audit import STOPPED
from tune.evaluation import wilson_interval
from tune.rungs import rung_epochs
from tune.sections import SchedulerConfig, SearchConfig
from tune.trials import DEAD, Trial, best_trial

_DRAWS = 1000  # of what might have been
_ENOUGH = 5  # values, below which nothing is fitted or correlated
_SEED = 0  # the same trials always give the same figures


@dataclass(frozen=True)
class Regret:
    """How much better the best of all stopped trials would have been at full length than what was found; 0 if not.

    In the metric's unit. low, high: 95 %.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Hindsight:
    """stopped: by the scheduler; audited: of them, those that an audit brought to full length, or saw diverge."""

    search: SearchConfig
    scheduler: SchedulerConfig
    trials: Sequence[Trial]
    stopped: Sequence[Trial]
    audited: Sequence[Trial]
    waiting: int  # drawn, and not at their end
    failed: int

    @cached_property
    def found(self) -> float | None:
        """The best value that the search found."""
        best = best_trial(self.trials, self.search.maximize)
        return best.best(self.search.maximize)[1] if best else None  # type: ignore[index]

    @cached_property
    def winners(self) -> list[Trial]:
        """The audited ones that would have won: better at full length than what was found."""
        return [trial for trial in self.audited if self._excess(trial) > 0]

    @property
    def share(self) -> tuple[float, float, float]:
        """Of the audited that would have won, with its 95 % interval."""
        won, of = len(self.winners), len(self.audited)
        return (won / of, *wilson_interval(won, of))

    @cached_property
    def regret(self) -> Regret | None:
        """Of stopping, over all stopped trials; None where too few were audited.

        The score of an audited trial at full length, its best value, is fitted by a line over its best value when it
        was stopped, with normal errors. Scores of those that were not audited are drawn from what that predicts
        (Gelman et al., Bayesian Data Analysis, 3rd edition, section 14.2), no worse than what a trial had, and none
        as often as audits diverged. The estimate is the mean, the interval the middle 95 %, of 1,000 draws. Where all
        were audited it is exact.
        """
        known = max([0.0, *map(self._excess, self.audited)])
        audited = {trial.number for trial in self.audited}
        others = [trial for trial in self.stopped if trial.number not in audited]
        if not others:
            return Regret(known, known, known)
        sound = [trial for trial in self.audited if trial.audit and trial.audit.state == "completed"]
        if len(sound) < _ENOUGH or self.found is None:
            return None
        draws = np.maximum(known, self._drawn(sound, others) - self.found * self._sign)
        low, high = np.quantile(draws, [0.025, 0.975])
        value = float(draws.mean())
        return Regret(value, float(low), max(value, float(high)))  # a cost that is rare has its mean beyond most of it

    def _drawn(self, sound: Sequence[Trial], others: Sequence[Trial]) -> np.ndarray:
        """Of each draw the best score of `others`, as it might have been; higher is better."""
        chance = np.random.default_rng(_SEED)
        x, y = np.array([self._at_stop(t) for t in sound]), np.array([self._score(t) for t in sound])
        there, freedom = np.array([self._at_stop(trial) for trial in others]), len(x) - 2
        spread = x.var() * len(x)
        slope = ((x - x.mean()) * (y - y.mean())).sum() / spread if spread > 1e-12 else 0.0
        errors = y - y.mean() - slope * (x - x.mean())
        sigma = np.sqrt((errors**2).sum() / chance.chisquare(freedom, size=(_DRAWS, 1)))
        heights = chance.normal(y.mean(), sigma / np.sqrt(len(x)))
        slopes = chance.normal(slope, sigma / np.sqrt(spread)) if spread > 1e-12 else 0.0
        scores = chance.normal(heights + slopes * (there - x.mean()), sigma)
        most = 1.0 if self.search.metric.endswith("_accuracy") else np.inf
        sunk = chance.random(scores.shape) < 1 - len(sound) / len(self.audited)
        best: np.ndarray = np.where(sunk, -np.inf, np.clip(scores, there, most)).max(axis=1)
        return best

    @cached_property
    def enough_grace(self) -> int | None:
        """The smallest grace period with which no audited trial that would have won would have been stopped.

        None where none is enough. Trials are compared at the rungs that follow from it, all at once, by their recorded
        values; an audited one stands for all that were stopped where it was.
        """
        numbers = {trial.number for trial in self.winners}
        longest = self.scheduler.max_epochs
        return next((grace for grace in range(1, longest) if numbers <= self._passing(grace)), None)

    def _passing(self, grace: int) -> set[int]:
        """The trials that would get to the end."""
        factor = self.scheduler.reduction_factor
        alive = {trial.number: trial for trial in self.trials if trial.values}
        for epoch in rung_epochs(grace, factor, self.scheduler.max_epochs):
            pool = [(self._sign * _curve(t)[epoch], self._stands_for(t, epoch), t) for t in alive.values()
                    if epoch in _curve(t)]  # fmt: skip
            pool = sorted((place for place in pool if place[1]), key=lambda place: -place[0])
            keep = max(1.0, sum(weight for _, weight, _ in pool) / factor)
            alive, before = {}, 0.0
            for _, weight, trial in pool:
                if before < keep:
                    alive[trial.number] = trial
                before += weight
        return set(alive)

    @cached_property
    def _weights(self) -> dict[int, float]:
        """How many trials that were stopped after an epoch one of the audited stands for, by epoch."""
        stopped = Counter(trial.epochs for trial in self.stopped)
        audited = Counter(trial.epochs for trial in self.audited)
        return {epoch: count / audited[epoch] for epoch, count in stopped.items() if audited[epoch]}

    def _stands_for(self, trial: Trial, epoch: int) -> float:
        """How many trials are like this one at an epoch, beyond which some of them were not trained."""
        return self._weights.get(trial.epochs, 1.0) if trial.audit and trial.epochs < epoch else 1.0

    @property
    def _sign(self) -> int:
        return 1 if self.search.maximize else -1

    def _at_stop(self, trial: Trial) -> float:
        best = trial.best(self.search.maximize)
        assert best is not None, "what was stopped has a value"
        return self._sign * best[1]

    def _score(self, trial: Trial) -> float:
        """At full length, its best value over all epochs; higher is better."""
        best = trial.audit.best(self.search.maximize) if trial.audit and trial.audit.state not in DEAD else None
        return self._sign * best[1] if best else -np.inf

    def _excess(self, trial: Trial) -> float:
        return self._score(trial) - self._sign * self.found if self.found is not None else 0.0


def hindsight(search: SearchConfig, scheduler: SchedulerConfig, trials: Sequence[Trial]) -> Hindsight | None:
    """What the audits of a search say; None where nothing was drawn."""
    drawn = [trial.audit for trial in trials if trial.audit]
    if not drawn:
        return None
    stopped = [trial for trial in trials if trial.state == "stopped" and trial.reason.startswith(STOPPED)]
    audited = [trial for trial in stopped if trial.audit and trial.audit.state in {"completed", "diverged"}]
    failed = sum(audit.state == "failed" for audit in drawn)
    return Hindsight(search, scheduler, trials, stopped, audited, len(drawn) - len(audited) - failed, failed)


def whole_curves(trials: Iterable[Trial]) -> list[Trial]:
    """The trainings whose curve is known to the end: trials that completed, and audits of others."""
    last = [trial.audit or trial for trial in trials]
    return [one for one in last if one.state == "completed" and one.best(maximize=True)]


def rank_correlations(trials: Iterable[Trial], *, maximize: bool) -> dict[int, float]:
    """How well the order of values after each epoch is that of the best values at the end, from -1 to 1, by epoch.

    Of the trials whose whole curve is known: completed, or audited to the end; Spearman's coefficient. Empty where
    they are fewer than 5; an epoch that one has no value of, or at which all are equal, is left out.
    """
    from scipy.stats import spearmanr

    whole = whole_curves(trials)
    ends = [best[1] for trial in whole if (best := trial.best(maximize))]
    if len(ends) < _ENOUGH or len(set(ends)) == 1:
        return {}
    told = {}
    for epoch in range(1, min(trial.epochs for trial in whole) + 1):
        then = [trial.values[epoch] for trial in whole if epoch in trial.values]  # one of a population began later
        if len(then) == len(whole) and len(set(then)) > 1:
            told[epoch] = float(spearmanr(then, ends).statistic)
    return told


def _curve(trial: Trial) -> dict[int, float]:
    return trial.audit.values if trial.audit else trial.values
