"""Several experiments side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tune.finalists import mean_interval
from tune.objectives import best_figures, in_digits
from tune.points import of_use, searched, shown
from tune.recorded import Recorded
from tune.report.best import Step, add_steps, improvements, steps_range, unit
from tune.report.colours import DASHES, SERIES, WINNER
from tune.report.leader import leader
from tune.report.page import page, write_to
from tune.report.result import state
from tune.report.section import Section, figure_html, label, new_figure, section, table
from tune.standing import duration
from tune.summary import counts, summary_of, with_interval

_ABSENT = "none"


def write_comparison(several: Sequence[Recorded], output: Path) -> Path:
    """Writes a page that compares experiments, and returns where. Raises UserError if it cannot be written."""
    title = f"Comparison: {', '.join(known.name for known in several)}"
    notes = [f"{known.name}: {note}" for known in several if (note := state(known))]
    sections = [make(several) for make in (results_section, paths_section, winners_section, settings_section)]
    write_to(output, page(title, _headline(several), " ".join(notes), sections))
    return output


def _headline(several: Sequence[Recorded]) -> str:
    """Which one has the best model, and whether that may be chance."""
    made = [(summary_of(known).test, known) for known in several if known.metrics is not None]
    if not made:
        return "None of them has a model yet"
    made.sort(key=lambda pair: -pair[0].accuracy)
    test, first = made[0]
    said = f"{first.name} has the highest test accuracy, {test.accuracy:.2%}"
    if len(made) == 1:
        return f"{said}; no other one has a model"
    apart = test.low > made[1][0].high
    return f"{said}; its interval {'lies above that' if apart else 'overlaps with that'} of {made[1][1].name}"


def results_section(several: Sequence[Recorded]) -> Section:
    """How good each is, and what it cost."""
    rows = {name: [tell(known) for known in several] for name, tell in _RESULTS.items()}
    columns = ["", *(known.name for known in several)]
    told = table("Results, and what they cost", columns, [[name, *cells] for name, cells in rows.items()])
    made = [known for known in several if known.metrics is not None]
    figure = figure_html(_accuracies(made), _in_words(made)) if made else ""
    return section("Results", "report/compare_results.html.j2", table=told, figure=figure, several=len(made) > 1)


def _in_words(made: Sequence[Recorded]) -> str:
    return "Test accuracy with 95 % intervals: " + "; ".join(
        f"{known.name} {summary_of(known).interval()}" for known in made
    )


def _accuracies(made: Sequence[Recorded]) -> Any:
    tests = [summary_of(known).test for known in made]
    figure = new_figure(
        height=130 + 44 * len(made),
        xaxis={"title": {"text": "test accuracy"}, "tickformat": ".1%"},
        yaxis={
            "tickvals": list(range(len(made))),
            "ticktext": [label(known.name) for known in made],
            "autorange": "reversed",
        },
    )
    figure.add_scatter(
        x=[test.accuracy for test in tests],
        y=list(range(len(made))),
        error_x={
            "array": [test.high - test.accuracy for test in tests],
            "arrayminus": [test.accuracy - test.low for test in tests],
            "color": SERIES[0],
            "thickness": 2,
        },
        mode="markers",
        marker={"size": 10, "color": WINNER},
        hovertemplate="%{x:.2%}<extra></extra>",
    )
    return figure


def _test(known: Recorded) -> str:
    return summary_of(known).interval() if known.metrics is not None else "no model"


def _best(known: Recorded) -> str:
    best = leader(known)
    told = best_figures(known.experiment.search, best) if best else {}
    return ", ".join(f"{name} {in_digits(value)}" for name, value in told.items()) or _ABSENT


def _over_seeds(known: Recorded) -> str:
    finalist = known.winner.finalist if known.winner else None
    if finalist is None:
        return _ABSENT
    metric = known.experiment.search.metric
    return f"{with_interval(finalist.mean, mean_interval(finalist.values), metric)}, {len(finalist.values)} seeds"


_RESULTS: Mapping[str, Callable[[Recorded], str]] = {
    "test accuracy": _test,
    "winner, or the best, in the search": _best,
    "winner over fresh seeds": _over_seeds,
    "trials": lambda known: counts(known.trials),
    "epochs": lambda known: f"{sum(trial.trained for trial in known.trials):,}",
    "search": lambda known: duration(known.search_seconds),
    "slots": lambda known: str(known.slots or "unknown"),
    "last mile": lambda known: duration(known.retrain_seconds),
    "ended early": lambda known: known.ended_because or "no",
}


def paths_section(several: Sequence[Recorded]) -> Section | None:
    """The best value over time on common axes, of those that are ranked by the same metric; None before any has one."""
    search = several[0].experiment.search
    alike = [known for known in several if _ranked_by(known) == _ranked_by(several[0])]
    others = [f"{known.name} ({known.experiment.search.metric})" for known in several if known not in alike]
    paths = [improvements(known.trials, search.maximize) for known in alike]
    if not any(paths):
        return None
    name, size = unit(max(known.search_seconds for known in alike))
    ends = [(float(sum(trial.trained for trial in known.trials)), known.search_seconds / size) for known in alike]
    by_epochs = _paths(alike, paths, "epochs of all trials", [end for end, _ in ends], lambda step: step.epochs)
    by_time = _paths(alike, paths, f"{name} of the search", [end for _, end in ends], lambda step: step.seconds / size)
    reached = "; ".join(
        f"{known.name} {steps[-1].value:.4f} after {steps[-1].epochs:,} epochs, "
        f"{duration(min(steps[-1].seconds, known.search_seconds))}"
        for known, steps in zip(alike, paths, strict=True)
        if steps
    )
    figures = [
        figure_html(by_epochs, f"Best {search.metric}: {reached}."),
        figure_html(by_time, "The same against wall time."),
    ]
    return section(
        "Best value over time", "report/compare_paths.html.j2", figures=figures, metric=search.metric, others=others
    )


def _ranked_by(known: Recorded) -> tuple[str, bool]:
    search = known.experiment.search
    return search.metric, search.maximize


def _paths(
    alike: Sequence[Recorded],
    paths: Sequence[list[Step]],
    title: str,
    ends: Sequence[float],
    place: Callable[[Step], float],
) -> Any:
    metric = alike[0].experiment.search.metric
    figure = new_figure(
        xaxis={"title": {"text": title}, "rangemode": "tozero"},
        yaxis={"title": {"text": metric}, "range": steps_range(paths)},
    )
    for index, (known, steps, end) in enumerate(zip(alike, paths, ends, strict=True)):
        if steps:
            line = {"color": SERIES[index % len(SERIES)], "dash": DASHES[index % len(DASHES)]}
            add_steps(figure, [place(step) for step in steps], steps, end, **line)
            figure.data[-1].name = label(known.name)
    figure.layout.showlegend = True
    return figure


def winners_section(several: Sequence[Recorded]) -> Section:
    """The HParams of each winner, or of the best so far, those that differ first and marked."""
    best = [leader(known) for known in several]
    points = [of_use(trial.hparams) if trial else {} for trial in best]
    found = [
        searched(known.experiment.space, trial.hparams) if trial else {}
        for known, trial in zip(several, best, strict=True)
    ]
    names = list(dict.fromkeys(name for point in points for name in point))
    rows = {
        name: [
            (shown(point[name]) + (" (searched)" if name in known else "")) if name in point else _ABSENT
            for point, known in zip(points, found, strict=True)
        ]
        for name in names
    }
    different = {name for name in names if len({shown(point.get(name, _ABSENT)) for point in points}) > 1}
    trials = [f"trial {trial.number}" if trial else _ABSENT for trial in best]
    told = _side_by_side("HParams of the winners", several, {"trial": trials, **rows}, different)
    return section("Winners", "report/compare_winners.html.j2", table=told, count=len(different))


def settings_section(several: Sequence[Recorded]) -> Section:
    """What was set otherwise in one experiment than in another: settings, data, code and machine."""
    told = [dict(_settings(known)) for known in several]
    names = list(dict.fromkeys(name for settings in told for name in settings))
    rows = {name: [settings.get(name, _ABSENT) for settings in told] for name in names}
    different = {name: cells for name, cells in rows.items() if len(set(cells)) > 1}
    return section(
        "Settings that differ",
        "report/compare_settings.html.j2",
        table=_side_by_side("In the order of the experiment file", several, different, set()) if different else "",
    )


def _settings(known: Recorded) -> Iterator[tuple[str, str]]:
    yield from _flat("", known.experiment.to_dict())
    told = known.provenance
    yield "data fingerprint", told["data_fingerprint"]
    yield "git commit", told["git_commit"] or _ABSENT
    yield "Python", told["python"]
    yield "platform", told["platform"]
    yield "processor", told.get("processor") or "unknown"
    yield from ((f"version of {name}", version) for name, version in told.get("versions", {}).items())


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Nested settings by dotted names."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}".lstrip("."), inner)
    else:
        yield prefix, _ABSENT if value is None else shown(value)


def _side_by_side(
    caption: str, several: Sequence[Recorded], rows: Mapping[str, Sequence[str]], marked: set[str]
) -> Markup:
    """Rows with a cell for each experiment; those marked come first, and say so to who sees no colours."""
    ordered = sorted(rows, key=lambda name: name not in marked and name != "trial")
    cells = [
        [f"{name} (differs)", *(Markup("<mark>{}</mark>").format(cell) for cell in rows[name])]
        if name in marked
        else [name, *rows[name]]
        for name in ordered
    ]
    return table(caption, ["", *(known.name for known in several)], cells)
