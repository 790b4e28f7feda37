"""ASHA's arithmetic: where the rungs are, and whether a value passes one. Pure.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (arXiv:1810.05934).
"""

import math
from dataclasses import dataclass, field


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
    """The values seen at each rung, and the rule: a value passes while it is in the best 1 / reduction_factor.

    Of equal values the earlier is the better one, so that equal trials are thinned out too. Nothing is stopped
    before `min_peers` values stand at a rung (default: reduction_factor).
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    maximize: bool
    min_peers: int = 0
    values: dict[int, list[float]] = field(default_factory=dict)

    def judge(self, epoch: int, value: float) -> Verdict | None:
        """Records a value, and the verdict on it; None where `epoch` is no rung. `value` must be finite."""
        if epoch not in self.epochs:
            return None
        if not math.isfinite(value):
            raise ValueError(f"got {value}, a rung takes finite values")
        seen = self.values.setdefault(epoch, [])
        sign = 1 if self.maximize else -1
        better = sum(1 for other in seen if sign * other >= sign * value)
        seen.append(value)
        keep = max(1, len(seen) // self.reduction_factor)
        cutoff = sorted(seen, reverse=self.maximize)[keep - 1]
        enough = len(seen) >= (self.min_peers or self.reduction_factor)
        return Verdict(not enough or better < keep, epoch, value, better + 1, len(seen), keep, cutoff)
