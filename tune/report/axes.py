"""Axes of figures: the range of a metric, and the values of a searched HParam."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tune.points import shown, to_params
from tune.report.section import label
from tune.space import Choice, Numeric, Space
from tune.trials import Trial

_TAIL, _STRETCH = 0.1, 3.0


def value_range(values: Iterable[float], maximize: bool) -> tuple[float, float] | None:
    """The range of a metric that shows most of `values`; None where there are none.

    Where the worst tenth would take most of the room, it is left outside: a loss may be 10,000.
    """
    ordered = sorted((value for value in values if math.isfinite(value)), reverse=maximize)
    if not ordered:
        return None
    best, worst = ordered[0], ordered[-1]
    usual = ordered[int((1 - _TAIL) * (len(ordered) - 1))]
    if abs(worst - best) > _STRETCH * abs(usual - best) > 0:
        worst = usual
    room = 0.05 * abs(worst - best) or 0.05 * abs(best) or 0.05
    return min(best, worst) - room, max(best, worst) + room


def searched(space: Space, importances: dict[str, float]) -> list[Numeric | Choice]:
    """What is searched, the most important first, the others in the order of the file."""
    return sorted(space.searched(), key=lambda domain: -importances.get(domain.key, 0.0))


def params(space: Space, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Of each trial what it has of the space, by the study's names: none of an option that it has not."""
    return [to_params(space, trial.hparams) for trial in trials]


def place(domain: Numeric | Choice, value: Any) -> float:
    """Where a value stands on an axis: from 0 to 1, on a log axis where the domain is one."""
    if isinstance(domain, Choice):
        index = domain.options.index(value)
        return index / (len(domain.options) - 1) if len(domain.options) > 1 else 0.5
    lower, upper = domain.lower, domain.upper
    if domain.log:
        lower, upper, value = math.log(lower), math.log(upper), math.log(value)
    return (value - lower) / (upper - lower) if upper > lower else 0.5


def ticks(domain: Numeric | Choice, most: int = 18) -> list[tuple[float, str]]:
    """Places of an axis, and what is written there: every option, or the bounds."""
    if isinstance(domain, Choice):
        return [(place(domain, option), label(shown(option), most)) for option in domain.options]
    ends = [domain.lower, domain.upper]
    middle = math.sqrt(ends[0] * ends[1]) if domain.log else sum(ends) / 2
    if domain.step is None:
        ends.insert(1, middle)
    whole = domain.step is not None
    return [(place(domain, end), f"{end:.0f}" if whole else f"{end:.2g}") for end in ends]


def axis(domain: Numeric | Choice, most: int = 18) -> dict[str, Any]:
    """The axis of a figure whose values are those of `coordinate`."""
    title = {"text": label(domain.key, 40)}
    if isinstance(domain, Choice):
        places = list(range(len(domain.options)))
        names = [label(shown(option), most) for option in domain.options]
        few = {"tickvals": places, "ticktext": names, "range": [-0.5, len(places) - 0.5]}
        return {"title": title, **few}
    few = {"title": title, "range": _wider(domain), "tickangle": 0}
    if domain.log:
        decades = math.log10(domain.upper / domain.lower)
        dtick = "D2" if decades < 2 else max(1, round(decades / 4))  # D2: at 1, 2 and 5
        return {**few, "type": "log", "dtick": dtick, "tickformat": "~g" if decades < 2 else "~e"}
    if domain.step is not None:
        return {**few, "dtick": max(1, round((domain.upper - domain.lower) / 5)), "tickformat": "d"}
    return {**few, "nticks": 5, "tickformat": "~g"}


def steps(domain: Numeric | Choice, most: int = 12) -> list[Any]:
    """The values of a domain that has few of them, else none."""
    if isinstance(domain, Choice):
        return list(domain.options)
    few = range(int(domain.lower), int(domain.upper) + 1, domain.step) if domain.step else range(0)
    return list(few) if len(few) <= most else []


def coordinate(domain: Numeric | Choice, value: Any) -> float:
    """A value's place on `axis`."""
    return float(domain.options.index(value) if isinstance(domain, Choice) else value)


def _wider(domain: Numeric) -> list[float]:
    """The bounds with room at both ends, as plotly has the range of an axis."""
    lower, upper = (math.log10(end) if domain.log else end for end in (domain.lower, domain.upper))
    room = 0.04 * (upper - lower) or 0.5
    return [lower - room, upper + room]
