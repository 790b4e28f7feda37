"""Several objectives: what a trial has of each, which trials none beats in all, and which one wins. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from cifar.config import METRICS
from tune.errors import SearchFailedError
from tune.sections import Objective, SearchConfig
from tune.trials import DEAD, Trial

if TYPE_CHECKING:
    from tune.spec import Experiment


def figures(objectives: Sequence[Objective], trial: Trial, epoch: int) -> dict[str, float]:
    """What a trial has of each objective, by name and in order; empty where one is missing.

    Of what a training logs, that of `epoch`; of what it costs, the median over its epochs.
    """
    told: dict[str, float] = {}
    for name in [each.metric for each in objectives]:
        seen = {at: measured[name] for at, measured in trial.figures.items() if name in measured}
        if epoch not in seen:
            return {}
        told[name] = seen[epoch] if name in METRICS else median(seen.values())
    return told


def best_figures(search: SearchConfig, trial: Trial, *, kept: bool = False) -> dict[str, float]:
    """The same at the trial's best epoch of the main metric, or at the best that has a checkpoint.

    Of a search for one metric, that alone.
    """
    best = trial.best_kept(search.maximize) if kept else trial.best(search.maximize)
    if best is None:
        return {}
    return figures(search.objectives, trial, best[0]) if search.objectives else {search.metric: best[1]}


def chosen_by(search: SearchConfig) -> Objective:
    """The objective by which the winner is taken, with its direction."""
    objectives = search.objectives or [Objective(metric=search.metric, mode="max" if search.maximize else "min")]
    name = (search.choose and (search.choose.max or search.choose.min)) or objectives[0].metric
    return next(each for each in objectives if each.metric == name)


def misses(search: SearchConfig, told: dict[str, float]) -> float:
    """By how much figures miss the bounds of `search.choose`, each in units of its bound; 0 where they meet all."""
    far = 0.0
    for name, bounds in (search.choose.subject_to if search.choose else {}).items():
        for bound, sign in ((bounds.lower, -1), (bounds.upper, 1)):
            if bound is not None:
                far += max(0.0, sign * (told[name] - bound)) / (abs(bound) or 1.0)
    return far


def in_order(search: SearchConfig, trials: Iterable[Trial], *, kept: bool = False) -> list[Trial]:
    """The trials that neither failed nor diverged and have all figures, the best first.

    As `search.choose` says: those that meet its bounds, then the others, the closest first. Of equal ones the better by
    the next objectives, then the one that was as good in fewer epochs, then the earlier. kept: as `best_figures`.
    """
    chosen = chosen_by(search)
    objectives = [chosen, *(each for each in search.objectives or () if each != chosen)]
    placed = []
    for trial in trials:
        told = best_figures(search, trial, kept=kept)
        best = trial.best_kept(search.maximize) if kept else trial.best(search.maximize)
        if best and told and trial.state not in DEAD:
            placed.append((misses(search, told), _lowest(objectives, told), best[0], trial.number, trial))
    return [trial for *_, trial in sorted(placed, key=lambda place: place[:4])]


def ranked(experiment: "Experiment", trials: Iterable[Trial]) -> list[Trial]:
    """The trials that can win, the best first: ended soundly, with a checkpoint, and within the bounds.

    Raises SearchFailedError where there are such trials, and none is within the bounds; it names the closest.
    """
    search = experiment.search
    ended = [trial for trial in trials if trial.state in {"completed", "stopped"}]
    sound = in_order(search, ended, kept=True)
    within = [trial for trial in sound if not misses(search, best_figures(search, trial, kept=True))]
    if sound and not within:
        told = best_figures(search, sound[0], kept=True)
        closest = ", ".join(f"{name} {in_digits(value)}" for name, value in told.items())
        raise SearchFailedError(
            f"none of {len(ended)} trials is within search.choose ({', '.join(bounds_in_words(search))}): the closest, "
            f"trial {sound[0].number}, has {closest}; to go on, move the bound or raise search.trials, with --resume"
        )
    return within


def front(search: SearchConfig, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other one beats: as good in every objective, and better in one. By the first objective.

    Those that failed or diverged have no part. Without objectives there is no front.
    """
    if not search.objectives:
        return []
    sound = [(trial, best_figures(search, trial)) for trial in trials if trial.state not in DEAD]
    points = [(_lowest(search.objectives, told), trial.number, trial) for trial, told in sound if told]
    unbeaten = not_dominated([point for point, *_ in points])
    best = [place for place, stays in zip(points, unbeaten, strict=True) if stays]
    return [trial for *_, trial in sorted(best, key=lambda place: place[:2])]


def not_dominated(points: Sequence[tuple[float, ...]]) -> Iterator[bool]:
    """Of each point whether no other is as low in every coordinate and lower in one, as an equal one is not."""
    import numpy as np

    table = np.array(points)
    for point in table:
        yield not bool(((table <= point).all(1) & (table < point).any(1)).any())


def bounds_in_words(search: SearchConfig) -> list[str]:
    """The bounds of `search.choose`: 'inference_ms at most 2'."""
    rule = search.choose.subject_to if search.choose else {}
    words = [(name, "at least", bounds.lower) for name, bounds in rule.items()]
    words += [(name, "at most", bounds.upper) for name, bounds in rule.items()]
    return [f"{name} {how} {in_digits(bound)}" for name, how, bound in words if bound is not None]


def within_bounds(search: SearchConfig) -> str:
    """Of which trials the winner is the best: ' with inference_ms at most 2', or nothing."""
    bounds = bounds_in_words(search)
    return f" with {' and '.join(bounds)}" if bounds else ""


def in_digits(value: float) -> str:
    """A figure for people: a count in full, else four digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _lowest(objectives: Sequence[Objective], told: dict[str, float]) -> tuple[float, ...]:
    """Figures of which lower ones are better."""
    return tuple(-told[each.metric] if each.maximize else told[each.metric] for each in objectives)
