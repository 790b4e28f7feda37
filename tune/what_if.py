"""A search once more under other rungs, from its recorded curves: what it would have cost, and found. Pure.

The same trials come in the order of their recorded time stamps. Where a curve was cut short, what it would have been is
unknown, and the search is replayed twice: with unknown values behind all known ones, and ahead of all. Curves that an
audit went on with (tune/audit.py) are known.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tune.rungs import Rungs, Verdict
from tune.sections import SchedulerConfig
from tune.trials import DEAD, Trial

_FAR = 1e300  # an unknown value is so far from the known ones


@dataclass(frozen=True)
class Curve:
    """What is known of a trial. values and saved_at: by epoch, its audit's too; pace: seconds of an epoch.

    ends: it trains no further than it did, whoever lets it: it failed, diverged or stopped itself. dead: it counts for
    nothing then.
    """

    number: int
    values: Mapping[int, float]
    saved_at: Mapping[int, float]
    pace: float
    ends: bool
    dead: bool


def curves(trials: Iterable[Trial], max_epochs: int) -> list[Curve]:
    """Of the trials that began. max_epochs: of the search as it was."""
    known = []
    for trial in trials:
        last = trial.audit or trial
        saved_at = {**trial.saved_at, **(trial.audit.saved_at if trial.audit else {})}
        dead = last.state in DEAD
        ends = dead or (last.state == "completed" and last.epochs < max_epochs)
        pace = trial.seconds / max(1, trial.epochs)
        known.append(Curve(trial.number, dict(last.values), saved_at, pace, ends, dead))
    return known


@dataclass(frozen=True)
class Outcome:
    """How a search ends. reached: the epochs that each trial trained, by number; stopped: why some ended before.

    best: number, epoch and value of the best known one. unknown: decisions that needed a value that nobody knows.
    """

    reached: Mapping[int, int]
    stopped: Mapping[int, str]
    best: tuple[int, int, float] | None
    unknown: int = 0

    @property
    def epochs(self) -> int:
        """What it cost."""
        return sum(self.reached.values())


@dataclass(frozen=True)
class WhatIf:
    """was: as recorded. behind, ahead: with unknown values behind, and ahead of, all known ones.

    audited: the epochs of audits, which all three leave out.
    """

    settings: SchedulerConfig
    winner: Trial | None
    was: Outcome
    behind: Outcome
    ahead: Outcome
    maximize: bool
    audited: int

    @property
    def certain(self) -> bool:
        """Whether no decision needed an unknown value."""
        return not self.behind.unknown and not self.ahead.unknown

    def keeps_winner(self, outcome: Outcome) -> bool:
        """Whether the trial that won gets to the epoch that it won by."""
        if self.winner is None:
            return False
        best = self.winner.best(self.maximize)
        return best is not None and outcome.reached.get(self.winner.number, 0) >= best[0]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        told: dict[str, Any] = {"scheduler": self.settings.model_dump(), "winner": self.winner and self.winner.number}
        for name in ("was", "behind", "ahead"):
            outcome: Outcome = getattr(self, name)
            told[name] = {"epochs": outcome.epochs, "keeps_winner": self.keeps_winner(outcome), **asdict(outcome)}
        return told


def what_if(
    trials: Iterable[Trial],
    winner: Trial | None,
    before: SchedulerConfig,
    settings: SchedulerConfig,
    *,
    maximize: bool,
) -> WhatIf:
    """The search of these trials, whose scheduler was `before`, with `settings` of asha. winner: of the search."""
    trials = [trial for trial in trials if trial.begun]
    known = curves(trials, before.max_epochs)
    was = Outcome(
        {trial.number: trial.epochs for trial in trials},
        {trial.number: trial.reason for trial in trials if trial.state == "stopped"},
        best_known({trial.number: trial.values for trial in trials if trial.state not in DEAD}, maximize),
    )
    behind, ahead = (_Replay(known, settings, maximize, optimist).run() for optimist in (False, True))
    return WhatIf(settings, winner, was, behind, ahead, maximize, sum(trial.audited for trial in trials))


def best_known(values: Mapping[int, Mapping[int, float]], maximize: bool) -> tuple[int, int, float] | None:
    """Number, epoch and value of the best: of equal ones the one that took fewer epochs, then the earlier trial."""
    points = [(number, epoch, value) for number, curve in values.items() for epoch, value in curve.items()]
    return min(points, key=lambda one: (-one[2] if maximize else one[2], one[1], one[0]), default=None)


@dataclass
class _Replay:
    """Events are the ends of epochs, in order of time: an epoch that comes later than it was recorded comes then."""

    curves: list[Curve]
    settings: SchedulerConfig
    maximize: bool
    optimist: bool  # of unknown values
    _events: list[tuple[float, int, int]] = field(default_factory=list)
    _paused: dict[int, int] = field(default_factory=dict)
    _reached: dict[int, int] = field(default_factory=dict)
    _stopped: dict[int, str] = field(default_factory=dict)
    _unknown: int = 0

    def __post_init__(self) -> None:
        settings = self.settings
        self._rungs = Rungs(settings.rungs, settings.reduction_factor, self.maximize, settings.min_peers or 0)
        self._of = {curve.number: curve for curve in self.curves}

    def run(self) -> Outcome:
        for curve in self.curves:
            self._reached[curve.number] = 0
            if curve.values:
                self._go_on(curve, 0, 0.0)
        now = 0.0
        while self._events:
            now, number, epoch = heapq.heappop(self._events)
            self._finish(self._of[number], epoch, now)
            if not self._events:
                self._promote(now, finishing=True)
        for number, epoch in self._paused.items():
            self._stopped[number] = _in_words(self._rungs.standing(number, epoch))
        trained = {
            curve.number: {e: value for e, value in curve.values.items() if e <= self._reached[curve.number]}
            for curve in self.curves
            if not (curve.dead and self._reached[curve.number] >= max(curve.values, default=0))
        }
        return Outcome(self._reached, self._stopped, best_known(trained, self.maximize), self._unknown)

    def _go_on(self, curve: Curve, epoch: int, now: float) -> None:
        """After `epoch`, to the next one."""
        at = curve.saved_at.get(epoch + 1, now + curve.pace)
        heapq.heappush(self._events, (max(now, at), curve.number, epoch + 1))

    def _finish(self, curve: Curve, epoch: int, now: float) -> None:
        self._reached[curve.number] = epoch
        ends = curve.ends and epoch >= max(curve.values)
        if ends and curve.dead:
            self._rungs.forget(curve.number)
            if self.settings.promotes:
                self._promote(now)
        elif epoch in self._rungs.epochs:
            self._compare(curve, epoch, now)
        elif epoch < self.settings.max_epochs and not ends:
            self._go_on(curve, epoch, now)

    def _compare(self, curve: Curve, epoch: int, now: float) -> None:
        value = curve.values.get(epoch)
        if value is None:
            self._unknown += 1
            value = _FAR if self.maximize == self.optimist else -_FAR
        if self.settings.promotes:
            self._rungs.record(curve.number, epoch, value)
            self._paused[curve.number] = epoch
            self._promote(now)
            return
        verdict = self._rungs.judge(curve.number, epoch, value)
        if verdict is None or verdict.passes:
            self._go_on(curve, epoch, now)
        else:
            self._stopped[curve.number] = _in_words(verdict)

    def _promote(self, now: float, *, finishing: bool = False) -> None:
        if not self.settings.promotes:
            return
        while found := self._rungs.promotable(self._paused, finishing=finishing):
            self._go_on(self._of[found[0]], self._paused.pop(found[0]), now)
            if finishing:  # one by one, as the search does
                return


def _in_words(verdict: Verdict) -> str:
    return f"stopped at rung {verdict.rung}" if abs(verdict.value) == _FAR else str(verdict)


def show(told: WhatIf, before: SchedulerConfig, metric: str, console: Console) -> None:
    """A table, what was beside what would have been, and what that does not say."""
    sides = {"replayed": told.behind} if told.certain else {"unknown behind": told.behind, "unknown ahead": told.ahead}
    outcomes = {"as it was": told.was, **sides}
    table = Table("", *outcomes, box=None, header_style="bold", pad_edge=False)
    for name, cells in _rows(told, before, metric, list(outcomes.values())).items():
        table.add_row(name, *map(Text, cells))
    console.print(table)
    for line in _notes(told, before):
        console.print(line, soft_wrap=True, markup=False)


def _rows(told: WhatIf, before: SchedulerConfig, metric: str, outcomes: list[Outcome]) -> dict[str, list[str]]:
    plans = [before, *[told.settings] * (len(outcomes) - 1)]
    rows = {
        "scheduler": [f"{plan.type} {plan.mode or ''}".strip() for plan in plans],
        "rungs": [", ".join(map(str, plan.rungs)) or "none" for plan in plans],
        "epochs": [str(outcome.epochs) for outcome in outcomes],
        "stopped": [str(len(outcome.stopped)) for outcome in outcomes],
    }
    for epoch in told.settings.rungs:
        there = [sum(at == epoch for n, at in outcome.reached.items() if n in outcome.stopped) for outcome in outcomes]
        rows[f"  at epoch {epoch}"] = [str(count) for count in there]
    if told.winner is not None:
        rows[f"winner, trial {told.winner.number}"] = [_fate(told, outcome) for outcome in outcomes]
    rows[f"best {metric}"] = [
        f"{outcome.best[2]:.4f} (trial {outcome.best[0]}, epoch {outcome.best[1]})" if outcome.best else "none"
        for outcome in outcomes
    ]
    rows["on unknown values"] = ["", *(f"{outcome.unknown} decisions" for outcome in outcomes[1:])]
    return rows


def _fate(told: WhatIf, outcome: Outcome) -> str:
    assert told.winner is not None, "who has a fate is known"
    number = told.winner.number
    kept = "kept" if told.keeps_winner(outcome) else "lost"
    return f"{kept}, {outcome.reached.get(number, 0)} epochs"


def _notes(told: WhatIf, before: SchedulerConfig) -> Iterator[str]:
    if not told.certain:
        yield (
            "Curves that were cut short are unknown beyond that: both columns are replays, with every unknown value "
            "behind all known ones, and ahead of all; the best value is of the known ones."
        )
    if told.settings.max_epochs != before.max_epochs:
        yield (
            f"The curves are of trainings of {before.max_epochs} epochs: with a learning rate that follows the length, "
            f"those of {told.settings.max_epochs} epochs would be others."
        )
    if told.audited:
        yield f"Epochs are the search's: its audits trained {told.audited} more."
    yield "The trials are those that were: other values would have led the sampler to others."
