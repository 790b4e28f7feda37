"""The best few trials over fresh seeds: which of them wins, and how much of its score in the search was luck. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev
from typing import TYPE_CHECKING

from tune.objectives import chosen_by
from tune.sections import RetrainConfig, SchedulerConfig, SearchConfig
from tune.trials import Trial

if TYPE_CHECKING:
    from tune.spec import Experiment

SEEDS = 3  # where the plan says auto
CONFIDENCE = 0.95


def fresh_seeds(plan: RetrainConfig, scheduler: SchedulerConfig, search: SearchConfig) -> tuple[int, ...]:
    """The seeds of the finalists' trainings: none of them the search's own."""
    count = plan.seeds
    if count == "auto":
        count = 0 if scheduler.type == "pbt" else SEEDS
    return tuple((search.seed + one) % 2**32 for one in range(1, count + 1))


def finalist_count(experiment: "Experiment") -> int:
    """Of how many trials one is chosen: one where an objective decides that fresh seeds do not measure."""
    search = experiment.search
    decides = chosen_by(search).metric == search.metric
    return experiment.retrain.finalists if decides else 1


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values that are normal (Student, Biometrika 1908); None of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return mean(values) - half, mean(values) + half


@dataclass(frozen=True)
class Finalist:
    """A trial, and what its HParams gave with each fresh seed, of those trainings that came to their end.

    score: of the search, for which it was among the best few. values: the best over all epochs of a training at full
    length, by which the winner is chosen. alike: the best over as many epochs as the trial had, to hold its score
    against. broken: how many diverged, or failed.
    """

    trial: Trial
    score: float
    values: tuple[float, ...]
    alike: tuple[float, ...]
    broken: int = 0

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
        return self.score - mean(self.alike) if maximize else mean(self.alike) - self.score


def best_few(ranked: Iterable[Trial], count: int) -> list[Trial]:
    """The first of the trials that can win, as `tune.objectives.ranked` gives them; no HParams twice."""
    few: list[Trial] = []
    for trial in ranked:
        if len(few) == count:
            break
        if all(trial.hparams != other.hparams for other in few):
            few.append(trial)
    return few


def finalists(
    few: Sequence[Trial], curves: Mapping[int, Sequence[Sequence[float] | None]], maximize: bool
) -> tuple[Finalist, ...]:
    """The best first: by the mean of its values, one that broke off with a seed after all that did not.

    few: as `best_few` gave them, which decides where nothing else does; curves: the metric after each epoch of each
    training, by number of the trial, None where that training diverged or failed.
    """
    best, sign = (max, -1) if maximize else (min, 1)
    known = []
    for trial in few:
        _, score = trial.winning(maximize)
        ended = [curve for curve in curves[trial.number] if curve is not None]
        values = tuple(best(curve) for curve in ended)
        alike = tuple(best(curve[: trial.epochs]) for curve in ended)
        known.append(Finalist(trial, score, values, alike, len(curves[trial.number]) - len(ended)))
    return tuple(sorted(known, key=lambda each: (each.broken, sign * each.mean) if each.values else (inf, 0.0)))
