"""Parallel coordinates: every searched HParam has a line of its own, and a trial crosses them all."""

from collections.abc import Iterator
from typing import Any

from tune.objectives import in_order
from tune.points import in_words
from tune.recorded import Recorded
from tune.report.axes import params, place, searched, ticks
from tune.report.colours import STEPS
from tune.report.curves import chosen
from tune.report.influence import importances_of
from tune.report.section import Section, figure_html, label, new_figure, numbers, section
from tune.space import Choice, Numeric
from tune.trials import Trial, by_value

Domain = Numeric | Choice
_MOST = 300  # trials
_MOST_AXES = 16
_ROW = 62  # pixels between two axes
_ABSENT = -0.14  # where a trial is that has not the HParam


def parallel_section(known: Recorded) -> Section | None:
    """None where nothing is searched, or fewer than two trials have values.

    Drawn with plain lines, from top to bottom: that needs no WebGL, which not every browser has, and fits a phone.
    """
    search, space = known.experiment.search, known.experiment.space
    domains = searched(space, importances_of(known))[:_MOST_AXES]
    trials = in_order(search, known.trials)
    if not domains or len(trials) < 2:
        return None
    best = trials[0]
    drawn, words = chosen(search, trials, _MOST)
    drawn = by_value(drawn, search.maximize)  # which the colours show
    value = (best.best(search.maximize) or (0, 0.0))[1]
    described = (
        f"The best trial, {best.number}, with {search.metric} {value:.4f}: {in_words(space, best.hparams)}. {words}"
    )
    figure = figure_html(_figure(known, domains, drawn), described.strip())
    left_out = len(list(space.searched())) - len(domains)
    return section(
        "Parallel coordinates", "report/parallel.html.j2", figure=figure, metric=search.metric, left_out=left_out
    )


def _figure(known: Recorded, domains: list[Domain], trials: list[Trial]) -> Any:
    search, count = known.experiment.search, len(domains)
    points = params(known.experiment.space, trials)
    lacking = [any(domain.key not in point for point in points) for domain in domains]
    rows = list(enumerate(domains))
    figure = new_figure(
        annotations=[one for row, domain in rows for one in _written(row, domain, lacking[row])],
        shapes=[line for row, domain in rows for line in _lines(row, domain)],
        height=70 + _ROW * count,
        xaxis={"visible": False, "range": [-0.2 if any(lacking) else -0.03, 1.03], "fixedrange": True},
        yaxis={"visible": False, "range": [count - 0.5, -0.5], "fixedrange": True},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    )
    per_step = -(-len(trials) // len(STEPS))
    values = [best[1] for trial in trials if (best := trial.best(search.maximize))]
    for first in reversed(range(0, len(trials), per_step)):  # the best last, above all others
        part = slice(first, first + per_step)
        _add_lines(figure, domains, points[part], values[part], first // per_step)
    return figure


def _add_lines(
    figure: Any, domains: list[Domain], points: list[dict[str, Any]], values: list[float], step: int
) -> None:
    """The trials of one step of values, the best of which is step 0."""
    x, y = list[float | None](), list[float | None]()
    for point in points:
        x += [*(place(domain, point[domain.key]) if domain.key in point else _ABSENT for domain in domains), None]
        y += [*range(len(domains)), None]
    ends = sorted({f"{min(values):.4g}", f"{max(values):.4g}"}, key=float)
    line = {"color": STEPS[len(STEPS) - 1 - step], "width": 1.8 if step == 0 else 1}
    name = " to ".join(ends)
    figure.add_scatter(x=numbers(x), y=numbers(y), mode="lines", line=line, opacity=0.85, name=name, hoverinfo="skip")


def _written(row: int, domain: Domain, some_lack_it: bool) -> Iterator[dict[str, Any]]:
    """What is written at an axis: its name above, what is at its ends or options below."""
    common = {"y": row, "showarrow": False, "bgcolor": "rgba(255,255,255,0.75)", "borderpad": 0}
    below = {"yanchor": "top", "yshift": -2, "font": {"size": 11}, **common}
    scale = ", log" if isinstance(domain, Numeric) and domain.log else ""
    name = f"<b>{label(domain.key, 30)}</b>{scale}"
    yield {"x": 0, "text": name, "xanchor": "left", "yanchor": "bottom", "yshift": 2, **common}
    most = max(4, 44 // len(domain.options)) if isinstance(domain, Choice) else 10
    for at, text in ticks(domain, most):
        yield {"x": at, "text": text, "xanchor": "left" if at == 0 else "right" if at == 1 else "center", **below}
    if some_lack_it:
        yield {"x": _ABSENT, "text": "none", "xanchor": "center", **below}


def _lines(row: int, domain: Domain) -> Iterator[dict[str, Any]]:
    """An axis and its ticks."""
    common = {"type": "line", "line": {"color": "#1f2933", "width": 1}}
    yield {"x0": 0, "x1": 1, "y0": row, "y1": row, **common}
    for at, _ in ticks(domain):
        yield {"x0": at, "x1": at, "y0": row - 0.06, "y1": row + 0.06, **common}
