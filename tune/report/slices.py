"""The value against each searched HParam."""

from typing import Any

from tune.points import shown
from tune.recorded import Recorded
from tune.report.axes import axis, coordinate, params, searched, value_range
from tune.report.colours import COLOURS, SIGNS
from tune.report.curves import chosen
from tune.report.influence import importances_of
from tune.report.section import Section, figure_html, new_figure, numbers, section
from tune.space import Choice, Numeric
from tune.trials import DEAD, Trial

Domain = Numeric | Choice
_MOST_SLICES, _MOST_POINTS = 12, 600


def slices_section(known: Recorded) -> Section | None:
    """A small figure for each HParam; None where nothing is searched, or no trial has a value."""
    search, space = known.experiment.search, known.experiment.space
    domains = searched(space, importances_of(known))
    valued = [trial for trial in known.trials if trial.best(search.maximize)]
    if not domains or not valued:
        return None
    drawn, words = chosen(search, valued, _MOST_POINTS)
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
        where = ", ".join(f"{shown(option)} ({named.count(option)})" for option in domain.options if option in named)
    else:
        least, most = min(each[1] for each in few), max(each[1] for each in few)
        where = f"from {shown(least)} to {shown(most)}" if least < most else f"at {shown(least)}"
    top = f"best {best:.4f} at {shown(value)}"
    return f"{metric} against {domain.key}: {top}; the best {len(few)} of {len(sound)}: {where}."
