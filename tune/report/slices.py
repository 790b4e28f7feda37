"""The value against each searched HParam, and against pairs of the most important ones."""

from itertools import combinations
from typing import Any

import numpy as np

from tune.importance import comparable
from tune.open_study import levels
from tune.recorded import Recorded
from tune.report.axes import axis, coordinate, params, place, searched, value_range
from tune.report.colours import COLOURS, SCALE, SIGNS
from tune.report.curves import chosen
from tune.report.influence import importances_of
from tune.report.section import Section, figure_html, new_figure, numbers, section
from tune.space import Choice, Numeric
from tune.summary import shown
from tune.trials import DEAD, Trial

Domain = Numeric | Choice
_MOST_SLICES, _MOST_POINTS, _PAIRED = 12, 600, 3
_CELLS = 32  # of a contour, each way
_LEAST = 8  # trials for a contour


def slices_section(known: Recorded) -> Section | None:
    """A small figure for each HParam; None where nothing is searched, or no trial has a value."""
    search, space = known.experiment.search, known.experiment.space
    domains = searched(space, importances_of(known))
    valued = [trial for trial in known.trials if trial.best(search.maximize)]
    if not domains or not valued:
        return None
    drawn, words = chosen(valued, search.maximize, _MOST_POINTS)
    points = params(space, drawn)
    figures = [_slice(known, domain, drawn, points) for domain in domains[:_MOST_SLICES]]
    left_out = ", ".join(domain.key for domain in domains[_MOST_SLICES:])
    return section(
        "Slices", "report/slices.html.j2", figures=figures, metric=search.metric, words=words, left_out=left_out
    )


def _slice(known: Recorded, domain: Domain, trials: list[Trial], points: list[dict[str, Any]]) -> Any:
    search = known.experiment.search
    told = [
        (trial, point[domain.key], (trial.best(search.maximize) or (0, 0.0))[1])
        for trial, point in zip(trials, points, strict=True)
        if domain.key in point
    ]
    within = value_range([value for *_, value in told], search.maximize)
    figure = new_figure(
        height=270, showlegend=False, xaxis=axis(domain, 10), yaxis={"title": {"text": search.metric}, "range": within}
    )
    for state in COLOURS:
        few = [each for each in told if each[0].state == state]
        if few:
            figure.add_scatter(
                x=numbers(coordinate(domain, value) for _, value, _ in few),
                y=numbers(value for *_, value in few),
                customdata=[trial.number for trial, *_ in few],
                hovertemplate=f"trial %{{customdata}}, {state}<br>%{{y:.4f}} at %{{x}}<extra></extra>",
                mode="markers",
                marker={"color": COLOURS[state], "symbol": SIGNS[state], "size": 6, "opacity": 0.6},
            )
    return figure_html(figure, _best_of(domain, told, search.metric, search.maximize))


def _best_of(domain: Domain, told: list[tuple[Trial, Any, float]], metric: str, maximize: bool) -> str:
    sound = sorted((each for each in told if each[0].state not in DEAD), key=lambda each: each[2], reverse=maximize)
    if not sound:
        return f"{metric} against {domain.key}: no trial that has it ended soundly."
    _, value, best = sound[0]
    few = sound[: max(1, len(sound) // 10)]
    if isinstance(domain, Choice):
        named = [each[1] for each in few]
        where = ", ".join(f"{shown(option)} {named.count(option)}" for option in domain.options if option in named)
    else:
        where = f"from {shown(min(each[1] for each in few))} to {shown(max(each[1] for each in few))}"
    return f"{metric} against {domain.key}: best {best:.4f} at {shown(value)}; the best {len(few)} of {len(sound)}: {where}."


def contours_section(known: Recorded) -> Section | None:
    """A figure for each pair of the most important HParams; None where too few trials compare."""
    shares, search = importances_of(known), known.experiment.search
    domains = [domain for domain in searched(known.experiment.space, shares) if domain.key in shares][:_PAIRED]
    seen = comparable(known.study.study, levels(known.experiment))
    figures = []
    for one, other in combinations(domains, 2):
        there = [trial for trial in seen if one.key in trial.params and other.key in trial.params]
        if len(there) >= _LEAST:
            values = np.array([trial.value for trial in there])
            x, y = (np.array([place(domain, trial.params[domain.key]) for trial in there]) for domain in (one, other))
            figures.append(_contour(search.metric, search.maximize, (one, other), (x, y), values, there))
    if not figures:
        return None
    return section("Contours", "report/contours.html.j2", figures=figures, metric=search.metric, count=len(seen))


def _contour(
    metric: str, maximize: bool, pair: tuple[Domain, Domain], places: Any, values: Any, trials: list[Any]
) -> Any:
    one, other = pair
    (across, down), cells = (_cells(domain) for domain in pair), None
    cells = _smoothed(places, values, across[0], down[0])
    within = value_range(values, maximize) or (0.0, 1.0)
    figure = new_figure(height=340, showlegend=False, xaxis=axis(one, 10), yaxis=axis(other, 10))
    coloured = {"colorscale": SCALE if maximize else [[1 - at, colour] for at, colour in reversed(SCALE)]}
    coloured |= {
        "zmin": within[0],
        "zmax": within[1],
        "colorbar": {"thickness": 10, "title": {"text": metric, "side": "right"}},
    }
    choice = isinstance(one, Choice) or isinstance(other, Choice)
    kind, more = (figure.add_heatmap, {}) if choice else (figure.add_contour, {"line": {"width": 0.5}, "ncontours": 12})
    kind(
        x=across[1], y=down[1], z=cells.astype(np.float32), hovertemplate="%{z:.4f}<extra></extra>", **coloured, **more
    )
    some = list(range(0, len(trials), -(-len(trials) // 300)))
    figure.add_scatter(
        x=numbers(coordinate(one, trials[index].params[one.key]) for index in some),
        y=numbers(coordinate(other, trials[index].params[other.key]) for index in some),
        customdata=[[trials[index].number, float(values[index])] for index in some],
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.4f}<extra></extra>",
        mode="markers",
        marker={"color": "#fff", "size": 5, "line": {"color": "#1f2933", "width": 1}},
    )
    order = np.argsort(values)
    best = trials[int(order[-1] if maximize else order[0])]
    at = ", ".join(f"{domain.key} {shown(best.params[domain.key])}" for domain in pair)
    return figure_html(
        figure, f"{metric} over {one.key} and {other.key}, {len(trials)} trials: best {best.value:.4f} at {at}."
    )


def _cells(domain: Domain) -> tuple[np.ndarray, list[float]]:
    """The middles of cells from 0 to 1, and as coordinates of the figure."""
    if isinstance(domain, Choice):
        return np.array([place(domain, option) for option in domain.options]), list(
            map(float, range(len(domain.options)))
        )
    places = np.linspace(0, 1, _CELLS)
    if domain.log:
        return places, [domain.lower * (domain.upper / domain.lower) ** at for at in places.tolist()]
    return places, [domain.lower + (domain.upper - domain.lower) * at for at in places.tolist()]


def _smoothed(places: Any, values: Any, across: Any, down: Any) -> Any:
    """The mean of the values near each cell, the nearer ones counting more (Nadaraya and Watson, 1964); NaN far from all."""
    width = 0.35 * len(values) ** (-1 / 6)
    columns, rows = (
        np.exp(-0.5 * ((cells[:, None] - seen) / width) ** 2)
        for cells, seen in ((across, places[0]), (down, places[1]))
    )
    weights = np.einsum("yn,xn->yxn", rows, columns)
    total = weights.sum(-1)
    return np.where(total > 0.05, (weights @ values) / np.maximum(total, 1e-12), np.nan)
