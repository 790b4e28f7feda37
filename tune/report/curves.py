"""Every learning curve, with the ends of trials and the rungs marked; of thousands, some."""

from collections.abc import Iterable, Sequence
from typing import Any

from tune.objectives import in_order
from tune.recorded import Recorded
from tune.report.axes import value_range
from tune.report.colours import COLOURS, SIGNS, WINNER, WINNER_SIGN
from tune.report.leader import leader
from tune.report.section import Section, figure_html, new_figure, numbers, section
from tune.sections import SearchConfig
from tune.summary import counts
from tune.trials import State, Trial

_MOST = 300  # curves, so that file and browser stay light


def chosen(search: SearchConfig, trials: Sequence[Trial], most: int = _MOST) -> tuple[list[Trial], str]:
    """At most so many trials, and in words which of them: the best half, and of the others every so manyth."""
    if len(trials) <= most:
        return list(trials), ""
    best = in_order(search, trials)[: most // 2]
    taken = {trial.number for trial in best}
    others = [trial for trial in trials if trial.number not in taken]
    step = -(-len(others) // (most - len(best)))
    some = others[::step]
    drawn = [*best, *some]
    words = f"{len(drawn):,} of {len(trials):,} are drawn: the best {len(best)}, and one in {step} of the others."
    return drawn, words


def curves_section(known: Recorded) -> Section | None:
    """The figure; None before the first value."""
    search = known.experiment.search
    trials = [trial for trial in known.trials if trial.values]
    best = leader(known)
    if not trials:
        return None
    drawn, left_out = chosen(search, trials)
    told = [f"{counts(known.trials)}.", left_out]
    if best is not None:
        epoch, value = best.best(search.maximize) or (0, 0.0)
        words = (
            f"Trial {best.number}, {_whose(known)}, is drawn thickest: {search.metric} {value:.4f} at epoch {epoch}."
        )
        told.insert(0, words)
    within = value_range([value for trial in trials for value in trial.values.values()], search.maximize)
    if within and (
        outside := sum(not within[0] <= value <= within[1] for one in drawn for value in one.values.values())
    ):
        told.append(f"{outside} values lie outside the figure.")
    figure = _figure(known, drawn, best, within)
    return section(
        "Learning curves",
        "report/curves.html.j2",
        figure=figure_html(figure, " ".join(filter(None, told))),
        rungs=_rungs(known),
    )


def _whose(known: Recorded) -> str:
    return "the winner" if known.winner else "the best"


def _rungs(known: Recorded) -> tuple[int, ...]:
    scheduler = known.experiment.scheduler
    return scheduler.rungs if scheduler.type in {"asha", "hyperband"} else ()


def _figure(known: Recorded, drawn: list[Trial], best: Trial | None, within: tuple[float, float] | None) -> Any:
    metric = known.experiment.search.metric
    longest = max(trial.epochs for trial in drawn)
    figure = new_figure(
        height=460,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero", "dtick": max(1, round(longest / 8))},
        yaxis={"title": {"text": metric}, "range": within},
    )
    faint = max(0.25, min(0.9, 30 / len(drawn)))
    for state in COLOURS:
        if some := [trial for trial in drawn if trial.state == state]:
            _add_curves(figure, some, state, faint)
    if best is not None:
        figure.add_scatter(
            x=numbers(best.values),
            y=numbers(best.values.values()),
            name=f"trial {best.number}, {_whose(known)}",
            mode="lines+markers",
            line={"color": WINNER, "width": 3},
            marker={
                "symbol": [*("circle" for _ in range(len(best.values) - 1)), WINNER_SIGN],
                "size": [*(3 for _ in range(len(best.values) - 1)), 13],
            },
        )
    for rung in _rungs(known):
        figure.add_vline(rung, line={"dash": "dot", "color": "#7b8794", "width": 1})
        figure.add_annotation(
            x=rung, y=1, yref="paper", yanchor="bottom", text=str(rung), showarrow=False, font={"size": 11}
        )
    return figure


def _add_curves(figure: Any, trials: list[Trial], state: State, faint: float) -> None:
    """All curves of a state as one line with gaps, and a mark where each ended."""
    common = {"legendgroup": state, "name": state}
    figure.add_scatter(
        x=numbers(joined(list(trial.values) for trial in trials)),
        y=numbers(joined(list(trial.values.values()) for trial in trials)),
        mode="lines",
        line={"color": COLOURS[state], "width": 1},
        opacity=faint,
        hoverinfo="skip",
        showlegend=False,
        **common,
    )
    figure.add_scatter(
        x=numbers(trial.epochs for trial in trials),
        y=numbers(trial.values[trial.epochs] for trial in trials),
        customdata=[trial.number for trial in trials],
        hovertemplate=f"trial %{{customdata}}, {state}<br>%{{y:.4f}} at epoch %{{x}}<extra></extra>",
        mode="markers",
        marker={"color": COLOURS[state], "symbol": SIGNS[state], "size": 7, "opacity": min(0.9, 2 * faint)},
        **common,
    )


def joined(lists: Iterable[list[float]]) -> list[float | None]:
    """Several lines as one, with a gap after each."""
    return [value for each in lists for value in (*each, None)]
