"""The whole page, from what is known of the finished experiment."""

from typing import Any

from tune.experiment import versions, write_text
from tune.objectives import best_figures
from tune.recorded import Recorded
from tune.report.audit_section import audit_section
from tune.report.critic_section import critic_section
from tune.report.section import load_template, new_figure
from tune.summary import Summary
from tune.trainings import validation_metric
from tune.trials import DEAD

_CARD_CLASSES, _CARD_WORST = 20, 10  # a card shows every class of so many; of more, the worst
_COLOURS = {"completed": "#1b7f4b", "stopped": "#b26a00", "diverged": "#b00020", "failed": "#6b6b6b"}


_SECTIONS = (audit_section, critic_section)


def write_report(summary: Summary, known: Recorded | None = None) -> None:
    """Writes report.html and the model's card, from what is known of the finished experiment."""
    context = _context(summary)
    context["sections"] = [made for make in _SECTIONS if known and (made := make(known))]
    figures = {"Pareto front": _front(summary)} if summary.front else {}
    figures |= {"Learning curves": _curves(summary), "Best value so far": _best_so_far(summary)}
    figures["Confusion matrix, test set"] = _confusion(summary)
    html = load_template("report.html.j2").render(**context, figures=_as_html(figures))
    write_text(summary.directory.report, html)
    write_text(summary.directory.model / "README.md", load_template("card.md.j2").render(**context))


def _context(summary: Summary) -> dict[str, Any]:
    from tune import yaml_file

    record, _ = yaml_file.read(summary.directory.spec)
    epoch, value = summary.best
    classes = list(summary.worst_first.items())
    return {
        "summary": summary,
        "experiment": summary.experiment,
        "epoch": epoch,
        "value": value,
        "classes": classes,
        "card_classes": classes if len(classes) <= _CARD_CLASSES else classes[:_CARD_WORST],
        "provenance": record["provenance"],
        "versions": versions(),
        "epochs": sum(trial.trained for trial in summary.trials),
        "front": [(trial, best_figures(summary.experiment.search, trial)) for trial in summary.front],
        "maximize": summary.experiment.search.maximize,
        "validation_metric": validation_metric(summary.experiment.search.metric),
    }


def _as_html(figures: dict[str, Any]) -> dict[str, str]:
    """Each figure as HTML; the first brings plotly's code."""
    return {
        title: figure.to_html(full_html=False, include_plotlyjs=index == 0, config={"responsive": True})
        for index, (title, figure) in enumerate(figures.items())
    }


def _curves(summary: Summary) -> Any:
    scheduler, metric = summary.experiment.scheduler, summary.experiment.search.metric
    figure = new_figure(xaxis={"title": "epoch"}, yaxis={"title": metric}, showlegend=False)
    for trial in summary.trials:
        winner = trial.number == summary.trial.number
        figure.add_scatter(
            x=list(trial.values),
            y=list(trial.values.values()),
            mode="lines+markers",
            marker={"size": 4},
            line={"width": 3 if winner else 1, "color": "#1a4fd6" if winner else _COLOURS.get(trial.state)},
            name=f"trial {trial.number}, {trial.state}",
        )
    if scheduler.type == "asha":
        for rung in scheduler.rungs:
            figure.add_vline(rung, line={"dash": "dot", "color": "#999"}, annotation_text="rung")
    return figure


def _front(summary: Summary) -> Any:
    """All trials by the first two objectives; the front is a line through those that none beats in all of them."""
    search = summary.experiment.search
    x, y = [each.metric for each in (search.objectives or [])[:2]]
    told = {trial.number: best_figures(search, trial) for trial in summary.trials if trial.state not in DEAD}
    front = [trial.number for trial in summary.front]
    groups = {
        "other trials": (sorted(told.keys() - set(front)), "markers", "#999", "circle"),
        "front": (front, "lines+markers", "#1b7f4b", "circle"),
        "winner": ([summary.trial.number], "markers", "#1a4fd6", "star"),
    }
    figure = new_figure(xaxis={"title": x}, yaxis={"title": y})
    for name, (numbers, mode, colour, symbol) in groups.items():
        known = [number for number in numbers if told.get(number)]
        figure.add_scatter(
            x=[told[number][x] for number in known],
            y=[told[number][y] for number in known],
            text=[f"trial {number}" for number in known],
            mode=mode,
            name=name,
            line={"dash": "dot", "color": colour},
            marker={"color": colour, "symbol": symbol, "size": 14 if name == "winner" else 8},
        )
    for objective, bounds in (search.choose.subject_to if search.choose else {}).items():
        add_line = {x: figure.add_vline, y: figure.add_hline}.get(objective)
        for bound in (bounds.lower, bounds.upper):
            if add_line and bound is not None:
                add_line(bound, line={"dash": "dash", "color": "#b00020"}, annotation_text="bound")
    return figure


def _best_so_far(summary: Summary) -> Any:
    search = summary.experiment.search
    choose = max if search.maximize else min
    numbers: list[int] = []
    values: list[float] = []
    for trial in summary.trials:
        if best := trial.best(search.maximize):
            numbers.append(trial.number)
            values.append(choose([best[1], *values[-1:]]))
    figure = new_figure(xaxis={"title": "trial"}, yaxis={"title": f"best {search.metric}"})
    figure.add_scatter(x=numbers, y=values, mode="lines+markers", line={"shape": "hv"})
    return figure


def _confusion(summary: Summary) -> Any:
    names = summary.classes
    figure = new_figure(xaxis={"title": "predicted"}, yaxis={"title": "true", "autorange": "reversed"})
    figure.add_heatmap(z=summary.test.confusion, x=names, y=names, colorscale="Blues", texttemplate="%{z}")
    return figure
