"""The value over pairs of the most important HParams."""

from itertools import combinations
from typing import Any

import numpy as np

from tune.importance import comparable
from tune.open_study import levels
from tune.points import shown
from tune.recorded import Recorded
from tune.report.axes import axis, coordinate, place, searched, steps, value_range
from tune.report.colours import SCALE
from tune.report.influence import importances_of
from tune.report.section import Section, figure_html, new_figure, numbers, section
from tune.sections import SearchConfig
from tune.space import Choice, Numeric

Domain = Numeric | Choice
Pair = tuple[Domain, Domain]
_PAIRED = 3  # HParams, of which each pair has a figure
_CELLS = 32  # of a figure, each way
_LEAST = 8  # trials for a figure
_MOST_POINTS = 300


def contours_section(known: Recorded) -> Section | None:
    """A figure for each pair of the most important HParams; None where too few trials compare."""
    shares, search = importances_of(known), known.experiment.search
    domains = [domain for domain in searched(known.experiment.space, shares) if domain.key in shares][:_PAIRED]
    seen = comparable(known.study.study, levels(known.experiment))
    figures = []
    for pair in combinations(domains, 2):
        there = [trial for trial in seen if all(domain.key in trial.params for domain in pair)]
        if len(there) >= _LEAST:
            figures.append(_contour(search, pair, there))
    if not figures:
        return None
    return section("Contours", "report/contours.html.j2", figures=figures, metric=search.metric, count=len(seen))


def _contour(search: SearchConfig, pair: Pair, trials: list[Any]) -> str:
    one, other = pair
    values = np.array([trial.value for trial in trials])
    figure = new_figure(height=340, showlegend=False, xaxis=axis(one, 10), yaxis=axis(other, 10))
    _add_ground(figure, search, pair, trials, values)
    some = trials[:: -(-len(trials) // _MOST_POINTS)]
    figure.add_scatter(
        x=numbers(coordinate(one, trial.params[one.key]) for trial in some),
        y=numbers(coordinate(other, trial.params[other.key]) for trial in some),
        customdata=[[trial.number, trial.value] for trial in some],
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.4f}<extra></extra>",
        mode="markers",
        marker={"color": "#fff", "size": 5, "line": {"color": "#1f2933", "width": 1}},
    )
    best = trials[int(values.argmax() if search.maximize else values.argmin())]
    at = ", ".join(f"{domain.key} {shown(best.params[domain.key])}" for domain in pair)
    over = f"{search.metric} over {one.key} and {other.key}, {len(trials)} trials"
    return figure_html(figure, f"{over}: best {best.value:.4f} at {at}.")


def _add_ground(figure: Any, search: SearchConfig, pair: Pair, trials: list[Any], values: Any) -> None:
    """The smoothed values; cells where one of the two has few steps, between which there is nothing."""
    (across, x), (down, y) = (_cells(domain) for domain in pair)
    places = [np.array([place(domain, trial.params[domain.key]) for trial in trials]) for domain in pair]
    lowest, highest = value_range(values, search.maximize) or (0.0, 1.0)
    common = {
        "x": x,
        "y": y,
        "z": _smoothed(places, values, across, down).astype(np.float32),
        "zmin": lowest,
        "zmax": highest,
        "colorscale": SCALE if search.maximize else [(1 - at, colour) for at, colour in reversed(SCALE)],
        "colorbar": {"thickness": 10},
        "hovertemplate": "%{z:.4f}<extra></extra>",
    }
    if any(steps(domain) for domain in pair):
        figure.add_heatmap(**common)
    else:
        figure.add_contour(line={"width": 0.5}, ncontours=12, **common)


def _cells(domain: Domain) -> tuple[Any, list[float]]:
    """The middles of cells from 0 to 1, and as coordinates of the figure."""
    if few := steps(domain):
        return np.array([place(domain, value) for value in few]), [coordinate(domain, value) for value in few]
    assert isinstance(domain, Numeric), "a choice has steps"
    places = np.linspace(0, 1, _CELLS)
    if domain.log:
        return places, (domain.lower * (domain.upper / domain.lower) ** places).tolist()
    return places, (domain.lower + (domain.upper - domain.lower) * places).tolist()


def _smoothed(places: list[Any], values: Any, across: Any, down: Any) -> Any:
    """The mean of the values near each cell, the nearer ones counting more; NaN far from all. (down, across).

    Nadaraya and Watson, 1964, with a normal kernel whose width falls as the trials get more.
    """
    width = 0.35 * len(values) ** (-1 / 6)
    near = [
        np.exp(-0.5 * ((cells[:, None] - seen) / width) ** 2)
        for cells, seen in ((across, places[0]), (down, places[1]))
    ]
    columns, rows = near
    total = rows @ columns.T
    return np.where(total > 0.05, (rows * values) @ columns.T / np.maximum(total, 1e-12), np.nan)
