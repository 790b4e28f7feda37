"""The best few trials over fresh seeds: which of them wins, and how much of its score in the search was luck. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from tune.sections import RetrainConfig, SchedulerConfig, SearchConfig
from tune.trials import Trial

SEEDS = 3  # where the plan says auto
CONFIDENCE = 0.95


def fresh_seeds(plan: RetrainConfig, scheduler: SchedulerConfig, search: SearchConfig) -> tuple[int, ...]:
    """The seeds of the finalists' trainings: none of them the search's own."""
    count = plan.seeds
    if count == "auto":
        count = 0 if scheduler.type == "pbt" else SEEDS
    return tuple((search.seed + one) % 2**32 for one in range(1, count + 1))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values that are normal (Student, Biometrika 1908); None of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return mean(values) - half, mean(values) + half


@dataclass(frozen=True)
class Finalist:
    """A trial, and what its HParams gave with each fresh seed.

    score: of the search, for which it was among the best few; values: as that, the best over a training's epochs, of
    those that did not diverge.
    """

    trial: Trial
    score: float
    values: tuple[float, ...]
    diverged: int = 0

    @property
    def mean(self) -> float:
        """Of the values."""
        return mean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean, 95 %."""
        return mean_interval(self.values)

    def drop(self, maximize: bool) -> float:
        """By how much the search flattered it: the winner's curse (Thaler, J. Economic Perspectives 1988)."""
        return self.score - self.mean if maximize else self.mean - self.score


def best_few(ranked: Iterable[Trial], count: int) -> list[Trial]:
    """The first of the trials that can win, as `tune.objectives.ranked` gives them; no HParams twice."""
    few: list[Trial] = []
    for trial in ranked:
        if all(trial.hparams != other.hparams for other in few):
            few.append(trial)
    return few[:count]


def finalists(
    few: Sequence[Trial], values: Mapping[int, Sequence[float | None]], maximize: bool
) -> tuple[Finalist, ...]:
    """The best first: by the mean of its values, one that diverged with a seed after all that did not.

    few: as `best_few` gave them, which decides where nothing else does; values: by number of the trial, None where
    that training diverged.
    """
    sign = -1 if maximize else 1
    known = []
    for trial in few:
        best = trial.best_kept(maximize)
        assert best is not None, "one of the best few has a value"
        sound = tuple(value for value in values.get(trial.number, ()) if value is not None)
        known.append(Finalist(trial, best[1], sound, len(values.get(trial.number, ())) - len(sound)))
    return tuple(
        sorted(known, key=lambda each: (each.diverged, sign * each.mean) if each.values else (float("inf"), 0.0))
    )
