"""Several objectives: the trials that none beats in all of them."""

from typing import Any

from tune.objectives import best_figures, front, in_digits
from tune.points import in_words
from tune.recorded import Recorded
from tune.report.colours import COLOURS, WINNER, WINNER_SIGN
from tune.report.leader import leader
from tune.report.section import Section, figure_html, new_figure, numbers, section, table
from tune.trials import DEAD


def front_section(known: Recorded) -> Section | None:
    """A figure and a table; None where there is one metric, or no trial has all figures yet."""
    search, best = known.experiment.search, leader(known)
    unbeaten = front(search, known.trials)
    if best is None or not unbeaten:
        return None
    rows = []
    for trial in unbeaten:
        mark = f" ({'winner' if known.winner else 'best'})" if trial.number == best.number else ""
        figures = [in_digits(value) for value in best_figures(search, trial).values()]
        rows.append([f"{trial.number}{mark}", *figures, in_words(known.experiment.space, trial.hparams)])
    objectives = search.objectives or []
    columns = ["trial", *(f"{each.metric} ({each.mode})" for each in objectives), "HParams searched"]
    told = (
        f"{len(unbeaten)} of {len(known.trials)} trials are beaten by none in all objectives: "
        f"of each at its best epoch by {search.metric}, and what it costs."
    )
    x, y = (each.metric for each in objectives[:2])
    ends = [best_figures(search, trial) for trial in (unbeaten[0], unbeaten[-1])]
    described = (
        f"{y} against {x}. The front goes from {x} {in_digits(ends[0][x])}, {y} {in_digits(ends[0][y])} "
        f"to {x} {in_digits(ends[1][x])}, {y} {in_digits(ends[1][y])}."
    )
    return section(
        "Pareto front",
        "report/front.html.j2",
        told=told,
        figure=figure_html(_figure(known, x, y, best.number), described),
        table=table("Trials of the front", columns, rows),
    )


def _figure(known: Recorded, x: str, y: str, best: int) -> Any:
    """All trials by the first two objectives; the front is a line through those that none beats in all of them."""
    search = known.experiment.search
    told = {trial.number: best_figures(search, trial) for trial in known.trials if trial.state not in DEAD}
    told = {number: figures for number, figures in told.items() if figures}
    unbeaten = [trial.number for trial in front(search, known.trials)]
    others = [number for number in told if number not in unbeaten]
    groups = {
        "other trials": (others, "markers", "#7b8794", "circle", 7),
        "front": (unbeaten, "lines+markers", COLOURS["completed"], "diamond", 9),
        "winner" if known.winner else "best": ([best], "markers", WINNER, WINNER_SIGN, 15),
    }
    figure = new_figure(xaxis={"title": {"text": x}}, yaxis={"title": {"text": y}})
    for name, (few, mode, colour, symbol, size) in groups.items():
        figure.add_scatter(
            x=numbers(told[number][x] for number in few),
            y=numbers(told[number][y] for number in few),
            customdata=few,
            hovertemplate=f"trial %{{customdata}}<br>{x} %{{x}}<br>{y} %{{y}}<extra></extra>",
            mode=mode,
            name=name,
            line={"dash": "dot", "color": colour},
            marker={"color": colour, "symbol": symbol, "size": size},
        )
    for objective, bounds in (search.choose.subject_to if search.choose else {}).items():
        add_line = {x: figure.add_vline, y: figure.add_hline}.get(objective)
        for bound in (bounds.lower, bounds.upper):
            if add_line and bound is not None:
                add_line(bound, line={"dash": "dash", "color": COLOURS["diverged"]}, annotation_text="bound")
    return figure
