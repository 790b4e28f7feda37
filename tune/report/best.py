"""The best value so far, against epochs and against wall time."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tune.recorded import Recorded
from tune.report.colours import COLOURS
from tune.report.section import Section, figure_html, new_figure, numbers, section
from tune.standing import duration
from tune.trials import DEAD, Trial

_UNITS = (("hours", 3600.0, 4 * 3600), ("minutes", 60.0, 4 * 60), ("seconds", 1.0, 0))


@dataclass(frozen=True)
class Step:
    """An improvement: epochs that all trials had trained by then, seconds of the search, the value, and whose it is."""

    epochs: int
    seconds: float
    value: float
    trial: int


def improvements(trials: Iterable[Trial], maximize: bool) -> list[Step]:
    """Every new best value, in the order in which epochs were saved. Trials that went wrong only cost epochs."""
    steps: list[Step] = []
    for count, (seconds, trial, epoch) in enumerate(_epochs(trials), 1):
        value = trial.values.get(epoch, math.nan)  # its audit's epochs only cost, too
        better = not steps or (value > steps[-1].value if maximize else value < steps[-1].value)
        if trial.state not in DEAD and math.isfinite(value) and better:
            steps.append(Step(count, seconds, value, trial.number))
    return steps


def _epochs(trials: Iterable[Trial]) -> list[tuple[float, Trial, int]]:
    """Every epoch that was trained, in order, audits' too. One without a checkpoint counts when the next is saved."""
    known: list[tuple[float, Trial, int]] = []
    for trial in trials:
        known += _ends(trial, trial, trial.parent[1] if trial.parent else 0)
        if trial.audit:
            known += _ends(trial, trial.audit, trial.epochs)
    return sorted(known, key=lambda one: (one[0], one[1].number, one[2]))


def _ends(trial: Trial, training: Trial, since: int) -> Iterator[tuple[float, Trial, int]]:
    """The epochs of a training of `trial`, those after `since`."""
    seconds = math.inf if training.ended_at is None else training.ended_at
    for epoch in sorted(training.values, reverse=True):
        seconds = training.saved_at.get(epoch, seconds)
        if epoch > since:
            yield seconds, trial, epoch


def unit(seconds: float) -> tuple[str, float]:
    """The unit of an axis that goes so far, and how many seconds it is."""
    return next((name, size) for name, size, least in _UNITS if seconds >= least)


def best_section(known: Recorded) -> Section | None:
    """Two figures; None before the first value."""
    search, trials = known.experiment.search, known.trials
    steps = improvements(trials, search.maximize)
    if not steps:
        return None
    epochs, seconds = sum(trial.trained for trial in trials), known.search_seconds
    first, last = steps[0], steps[-1]
    rose = f"The best {search.metric} went from {first.value:.4f} (trial {first.trial}) to {last.value:.4f}"
    by_epochs = f"{rose} (trial {last.trial}) after {last.epochs:,} of the {epochs:,} epochs that all trials trained."
    by_time = f"{rose} after {duration(min(last.seconds, seconds))} of {duration(seconds)}."
    name, size = unit(seconds)
    figures = [
        figure_html(
            _figure(search.metric, "epochs of all trials", [each.epochs for each in steps], steps, epochs), by_epochs
        ),
        figure_html(
            _figure(
                search.metric, f"{name} of the search", [each.seconds / size for each in steps], steps, seconds / size
            ),
            by_time,
        ),
    ]
    return section("Best value over time", "report/best.html.j2", figures=figures)


def _figure(metric: str, title: str, x: Sequence[float], steps: list[Step], until: float) -> Any:
    figure = new_figure(
        height=320,
        xaxis={"title": {"text": title}, "rangemode": "tozero"},
        yaxis={"title": {"text": metric}, "range": steps_range([steps])},
    )
    add_steps(figure, x, steps, until, color=COLOURS["completed"])
    figure.layout.showlegend = False
    return figure


def steps_range(several: Sequence[list[Step]]) -> tuple[float, float] | None:
    """The range of stairs: from the best after a thirtieth of the epochs, since the first values say little."""
    shown = []
    for steps in several:
        if steps:
            early = [each for each in steps if 30 * each.epochs <= steps[-1].epochs] or steps
            shown += [early[-1 if early is not steps else 0].value, steps[-1].value]
    if not shown:
        return None
    low, high = min(shown), max(shown)
    room = 0.06 * (high - low) or 0.05
    return low - room, high + room


def add_steps(figure: Any, x: Sequence[float], steps: list[Step], until: float, **line: Any) -> None:
    """The best value as stairs, up to `until`, with a mark at each improvement."""
    there = [min(place, until) for place in x]
    values = [each.value for each in steps]
    figure.add_scatter(
        x=numbers([*there, until]),
        y=numbers([*values, values[-1]]),
        customdata=[*(each.trial for each in steps), steps[-1].trial],
        hovertemplate="%{y:.4f} of trial %{customdata}<extra></extra>",
        mode="lines+markers",
        line={"shape": "hv", "width": 2, **line},
        marker={"size": [*(6 for _ in steps), 0]},
    )
