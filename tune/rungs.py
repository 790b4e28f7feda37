"""ASHA's arithmetic: where the rungs are, and whether a value passes one. Pure.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (arXiv:1810.05934).
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice


def rung_epochs(grace_period: int, reduction_factor: int, max_epochs: int) -> tuple[int, ...]:
    """The epochs at which trials are compared: grace_period * reduction_factor**k, all below max_epochs.

    >>> rung_epochs(1, 3, 10)
    (1, 3, 9)
    """
    epochs = []
    epoch = grace_period
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction_factor
    return tuple(epochs)


def expected_trials(trials: int, rungs: tuple[int, ...], reduction_factor: int) -> tuple[int, ...]:
    """How many of `trials` are expected to reach each rung, and last, how many the full length."""
    return tuple(max(1, trials // reduction_factor**level) for level in range(len(rungs) + 1))


def expected_epochs(trials: int, rungs: tuple[int, ...], reduction_factor: int, max_epochs: int) -> int:
    """Epochs a search costs if every rung stops the share it should."""
    reached = expected_trials(trials, rungs, reduction_factor)
    lengths = [until - since for since, until in zip((0, *rungs), (*rungs, max_epochs), strict=True)]
    return sum(count * length for count, length in zip(reached, lengths, strict=True))


@dataclass(frozen=True)
class Verdict:
    """Whether a trial goes on from `rung`, and why: its value's rank among `peers` values, `keep` of which pass."""

    passes: bool
    rung: int
    value: float
    rank: int
    peers: int
    keep: int
    cutoff: float

    def __str__(self) -> str:
        outcome = "passes" if self.passes else "stopped at"
        return (
            f"{outcome} rung {self.rung}: {self.value:.4g} ranks {self.rank} of {self.peers}, "
            f"{self.keep} pass (cutoff {self.cutoff:.4g})"
        )


@dataclass
class Rungs:
    """The values seen at each rung, by trial; a value passes while it is in the best 1 / reduction_factor.

    Of equal values the earlier is the better one (among paused trials, that of the earlier trial), so that equal trials
    are thinned out too. No trial goes on or is stopped before `min_peers` values stand at its rung (default:
    reduction_factor), but for those that `finishing` lets through and those that are `hopeless` whatever comes.
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    maximize: bool
    min_peers: int = 0
    values: dict[int, dict[int, float]] = field(default_factory=dict)
    # the same as (value, a better one smaller; number), the best first: what a trial costs must not grow with theirs
    _rankings: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    def record(self, number: int, epoch: int, value: float) -> None:
        """Adds the value of trial `number`, which must be finite, where `epoch` is a rung."""
        if epoch in self.epochs:
            if not math.isfinite(value):
                raise ValueError(f"got {value}, a rung takes finite values")
            self._take_back(number, epoch)
            self.values.setdefault(epoch, {})[number] = value
            insort(self._rankings.setdefault(epoch, []), (self._key(value), number))

    def forget(self, number: int) -> None:
        """Takes back all values of a trial, which failed or diverged: its place at each rung is free again."""
        for epoch in self.values:
            self._take_back(number, epoch)

    def _take_back(self, number: int, epoch: int) -> None:
        if number in self.values.get(epoch, {}):
            place = self._key(self.values[epoch].pop(number)), number
            del self._rankings[epoch][bisect_left(self._rankings[epoch], place)]

    def _key(self, value: float) -> float:
        return -value if self.maximize else value

    def judge(self, number: int, epoch: int, value: float) -> Verdict | None:
        """Records a value, and whether the trial may go on at once (mode stop); None where `epoch` is no rung."""
        self.record(number, epoch, value)
        if epoch not in self.epochs:
            return None
        rank = bisect_right(self._rankings[epoch], (self._key(value), math.inf))
        verdict = self._verdict(number, epoch, rank, at_least=1)
        return verdict if self._enough(epoch) else replace(verdict, passes=True)

    def promotable(self, paused: Mapping[int, int], *, finishing: bool = False) -> tuple[int, Verdict] | None:
        """The trial that goes on next (mode promote) of those `paused` (number -> rung), and why.

        The highest rung first, and there the best. `finishing`: no trial will be started any more, so that each rung
        lets at least one through, however few stand there.
        """
        for epoch in reversed(self.epochs):
            if finishing or self._enough(epoch):
                ranking = self._rankings.get(epoch, [])
                for _, number in islice(ranking, self._keep(epoch, int(finishing))):
                    if paused.get(number) == epoch:
                        return number, self.standing(number, epoch, at_least=int(finishing))
        return None

    def hopeless(self, paused: Mapping[int, int], trials: int) -> list[tuple[int, Verdict]]:
        """The `paused` trials that will not be promoted, though all of `trials` came, and why: ranks only get worse.

        Unless those before them die; so `reduction_factor` more than can pass are spared.
        """
        found, passing = [], set[int]()
        to_come = trials - sum(len(self.values.get(epoch, {})) for epoch in self.epochs[:1])  # to a rung, at most
        for epoch in self.epochs:
            seen = self.values.get(epoch, {})
            to_come += len(passing - seen.keys())
            ranking = [number for _, number in self._rankings.get(epoch, [])]
            keep = max(1, (len(seen) + to_come) // self.reduction_factor)
            behind = [number for number in ranking[keep + self.reduction_factor :] if paused.get(number) == epoch]
            found += [(number, self.standing(number, epoch, at_least=keep)) for number in behind]
            passing = set(ranking[: keep + self.reduction_factor])
        return found

    def standing(self, number: int, epoch: int, *, at_least: int = 0) -> Verdict:
        """Where a paused trial stands at its rung, where `at_least` so many pass."""
        place = self._key(self.values[epoch][number]), number
        return self._verdict(number, epoch, 1 + bisect_left(self._rankings[epoch], place), at_least)

    def _enough(self, epoch: int) -> bool:
        return len(self._rankings.get(epoch, [])) >= (self.min_peers or self.reduction_factor)

    def _keep(self, epoch: int, at_least: int) -> int:
        return max(at_least, len(self._rankings.get(epoch, [])) // self.reduction_factor)

    def _verdict(self, number: int, epoch: int, rank: int, at_least: int) -> Verdict:
        ranking, keep = self._rankings[epoch], self._keep(epoch, at_least)
        cutoff = self.values[epoch][ranking[max(keep, 1) - 1][1]]
        return Verdict(rank <= keep, epoch, self.values[epoch][number], rank, len(ranking), keep, cutoff)
