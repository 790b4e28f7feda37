"""What mattered: how much each searched HParam decided, in two ways."""

from functools import lru_cache
from typing import Any

from tune.importance import comparable, fanova, importances
from tune.open_study import levels
from tune.recorded import Recorded
from tune.report.colours import SERIES
from tune.report.section import Section, figure_html, label, new_figure, numbers, section, table


@lru_cache(maxsize=8)
def _reckoned(study: Any, at: tuple[int, ...], ended: int) -> tuple[dict[str, float], dict[str, float], int]:
    """For several parts of a page; ended: trials, with which it changes."""
    return importances(study, at), fanova(study, at), len(comparable(study, at))


def importances_of(known: Recorded) -> dict[str, float]:
    """Shares of 1 by parameter of the study, by PED-ANOVA; empty where too few trials compare."""
    return _of(known)[0]


def _of(known: Recorded) -> tuple[dict[str, float], dict[str, float], int]:
    ended = sum(trial.ended_at is not None for trial in known.trials)
    return _reckoned(known.study.study, levels(known.experiment), ended)


def influence_section(known: Recorded) -> Section | None:
    """A figure and a table, or why there is none. None where nothing is searched."""
    search, searched = known.experiment.search, list(known.experiment.space.searched())
    if not searched:
        return None
    ped, forest, count = _of(known)
    context = {"count": count, "metric": search.metric, "objectives": bool(search.objectives)}
    if not ped:
        return section("What mattered", "report/influence.html.j2", figure="", table="", **context)
    rows = [[name, _percent(share), _percent(forest.get(name))] for name, share in ped.items()]
    most = next(iter(ped))
    most_forest = next(iter(forest), "")
    described = f"By PED-ANOVA {most} mattered most, with {_percent(ped[most])}"
    described += f"; by fANOVA {most_forest}, with {_percent(forest[most_forest])}." if forest else "."
    return section(
        "What mattered",
        "report/influence.html.j2",
        figure=figure_html(_figure(ped, forest), described),
        table=table("Importance of each parameter", ["parameter", "PED-ANOVA", "fANOVA"], rows),
        **context,
    )


def _percent(part: float | None) -> str:
    return "not asked" if part is None else f"{100 * part:.0f} %"


def _figure(ped: dict[str, float], forest: dict[str, float]) -> Any:
    figure = new_figure(
        height=150 + 44 * len(ped),
        barmode="group",
        xaxis={"title": {"text": "share"}, "tickformat": ".0%", "rangemode": "tozero"},
        yaxis={"tickvals": list(range(len(ped))), "ticktext": [label(name) for name in ped], "autorange": "reversed"},
    )
    for (name, shares), colour in zip({"PED-ANOVA": ped, "fANOVA": forest}.items(), SERIES, strict=False):
        figure.add_bar(
            x=numbers(shares.get(each) for each in ped),
            y=list(range(len(ped))),
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate="%{x:.0%}",
        )
    return figure
