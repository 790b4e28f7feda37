"""Rules by which trials are stopped early, by the scheduler's name. Pure.

A rule is told every value, and says of some epochs whether the trial may go on. What it knows is the values alone, so
that it can be built again from the study.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from tune.rungs import Rungs
from tune.sections import SchedulerConfig, SearchConfig
from tune.trials import ENDED, State, Trial


class Decision(Protocol):
    """Whether a trial goes on; as text, why."""

    @property
    def passes(self) -> bool: ...


class Rule(Protocol):
    """Stops trials. Values are finite; numbers are the trials'."""

    def record(self, number: int, epoch: int, value: float) -> None:
        """Adds a value that has been judged before."""

    def forget(self, number: int) -> None:
        """Takes back all values of a trial, which failed or diverged."""

    def judge(self, number: int, epoch: int, value: float) -> Decision | None:
        """Adds a value; whether its trial goes on, or None where this epoch decides nothing."""


def make_rule(scheduler: SchedulerConfig, search: SearchConfig) -> Rule:
    """The rule of that name."""
    peers = scheduler.min_peers or 0
    match scheduler.type:
        case "asha":
            return Rungs(scheduler.rungs, scheduler.reduction_factor, search.maximize, peers)
        case "hyperband":
            return Brackets(scheduler.rungs, scheduler.reduction_factor, search.maximize, peers)
        case "median":
            return Median(scheduler.grace_period, search.maximize, peers or 3)
        case _:
            return Rungs((), scheduler.reduction_factor, search.maximize)


def recall(rule: Rule, trials: Iterable[Trial], no_peers: Container[State]) -> None:
    """Builds a rule again from what a study holds: every value but those that a kill left unjudged.

    no_peers: states of trials whose values count for nothing.
    """
    for trial in trials:
        for epoch, value in trial.values.items():
            if trial.state in ENDED or epoch in trial.judged or epoch < trial.epochs:
                rule.record(trial.number, epoch, value)
        if trial.state in no_peers:
            rule.forget(trial.number)


@dataclass
class Brackets:
    """Hyperband with asynchronous brackets: bracket s compares its trials from the rung s on.

    The more rungs a bracket has, the more trials it gets, so that each costs about the same (Li et al., JMLR 2018,
    section 2.2; asynchronous as in MLSys 2020). A trial's bracket follows from its number alone.
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    maximize: bool
    min_peers: int = 0
    _brackets: list[Rungs] = field(init=False)
    _assigned: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._brackets = [
            Rungs(self.epochs[skipped:], self.reduction_factor, self.maximize, self.min_peers)
            for skipped in range(len(self.epochs) + 1)
        ]

    def bracket(self, number: int) -> int:
        """The bracket of a trial: always the one that is furthest behind its share."""
        top = len(self.epochs)
        weights = [self.reduction_factor ** (top - s) / (top - s + 1) for s in range(top + 1)]
        for _ in range(len(self._assigned), number + 1):
            counts = [self._assigned.count(s) for s in range(top + 1)]
            self._assigned.append(min(range(top + 1), key=lambda s: ((counts[s] + 1) / weights[s], s)))
        return self._assigned[number]

    def record(self, number: int, epoch: int, value: float) -> None:
        """As Rule."""
        self._brackets[self.bracket(number)].record(number, epoch, value)

    def forget(self, number: int) -> None:
        """As Rule."""
        self._brackets[self.bracket(number)].forget(number)

    def judge(self, number: int, epoch: int, value: float) -> Decision | None:
        """As Rule."""
        return self._brackets[self.bracket(number)].judge(number, epoch, value)


@dataclass(frozen=True)
class MedianDecision:
    """A trial's best value so far against the median of its peers' running means."""

    passes: bool
    epoch: int
    best: float
    median: float
    peers: int

    def __str__(self) -> str:
        outcome = "passes" if self.passes else "stopped at"
        return (
            f"{outcome} epoch {self.epoch}: best {self.best:.4g}, "
            f"median of {self.peers} running means {self.median:.4g}"
        )


@dataclass
class Median:
    """Stops a trial whose best value is worse than the median of the others' running means at the same epoch.

    Golovin et al., "Google Vizier", KDD 2017, section 3.2.1. From `grace_period` on, among at least `min_peers` others.
    """

    grace_period: int
    maximize: bool
    min_peers: int
    _values: dict[int, dict[int, float]] = field(default_factory=dict)
    _means: dict[int, list[float]] = field(default_factory=dict)  # of the trials that got to an epoch, in order

    def record(self, number: int, epoch: int, value: float) -> None:
        """As Rule. Of an epoch that is trained again the first value stays."""
        own = self._values.setdefault(number, {})
        if epoch not in own:
            own[epoch] = value
            insort(self._means.setdefault(epoch, []), fmean(_until(own, epoch)))

    def forget(self, number: int) -> None:
        """As Rule."""
        own = self._values.pop(number, {})
        for epoch in own:
            means = self._means[epoch]
            del means[bisect_left(means, fmean(_until(own, epoch)))]

    def judge(self, number: int, epoch: int, value: float) -> Decision | None:
        """As Rule."""
        self.record(number, epoch, value)
        own, means = self._values[number], self._means[epoch]
        peers = len(means) - 1
        if epoch < self.grace_period or peers < self.min_peers:
            return None
        mine = bisect_left(means, fmean(_until(own, epoch)))
        halves = (means[place + (place >= mine)] for place in ((peers - 1) // 2, peers // 2))  # of the others
        middle = fmean(halves)
        best = (max if self.maximize else min)(_until(own, epoch))
        passes = best >= middle if self.maximize else best <= middle
        return MedianDecision(passes, epoch, best, middle, peers)


def _until(values: dict[int, float], epoch: int) -> Iterable[float]:
    return [value for at, value in values.items() if at <= epoch]
