"""The last mile: the finalists over fresh seeds, and the ways to make the model."""

from tune.averaging import Evidence, Way
from tune.finalists import Finalist
from tune.recorded import Recorded
from tune.report.colours import COLOURS, WINNER, WINNER_SIGN
from tune.report.section import Section, figure_html, new_figure, numbers, section, table
from tune.summary import difference, with_interval
from tune.trainings import validation_metric


def finalists_section(known: Recorded) -> Section | None:
    """None where nothing was trained again, or not yet."""
    winner, search = known.winner, known.experiment.search
    if winner is None or not winner.finalists:
        return None
    few = winner.finalists
    rows = [_row(each, search.metric, search.maximize) for each in few]
    columns = ["trial", "search", "mean over seeds", "drop", "of each seed"]
    figure = new_figure(
        height=170 + 42 * len(few),
        xaxis={"title": {"text": search.metric}},
        yaxis={"type": "category", "autorange": "reversed"},
    )
    names = [f"trial {each.trial.number}" for each in few]
    for name, each in zip(names, few, strict=True):
        figure.add_scatter(
            x=numbers(each.values),
            y=[name] * len(each.values),
            mode="markers",
            marker={"color": COLOURS["completed"], "size": 10, "symbol": "circle-open", "line": {"width": 2}},
            name="a fresh seed",
            showlegend=each is few[0],
        )
    for name, symbol, colour, values in (
        ("mean", "line-ns-open", COLOURS["completed"], [each.mean if each.values else None for each in few]),
        ("in the search", WINNER_SIGN, WINNER, [each.score for each in few]),
    ):
        marker = {
            "symbol": symbol,
            "color": colour,
            "size": 18 if name == "mean" else 11,
            "line": {"width": 3, "color": colour},
        }
        figure.add_scatter(x=numbers(values), y=names, mode="markers", marker=marker, name=name)
    best = few[0]
    described = f"{search.metric} of {len(few)} finalists over fresh seeds: " + "; ".join(
        f"trial {each.trial.number} {each.mean:.4f}, the mean of {len(each.values)}, {each.score:.4f} in the search"
        for each in few
        if each.values
    )
    assert best.values, "a winner has values"
    return section(
        "Finalists over fresh seeds",
        "report/finalists.html.j2",
        metric=search.metric,
        figure=figure_html(figure, f"{described}."),
        table=table("Finalists, the best first", columns, rows),
    )


def _row(each: Finalist, metric: str, maximize: bool) -> list[str]:
    seeds = ", ".join(f"{one:.4f}" for one in each.values)
    broken = f"{each.broken} diverged or failed" if each.broken else ""
    mean = with_interval(each.mean, each.interval, metric) if each.values else "none"
    drop = f"{each.drop(maximize):+.4f}" if each.values else ""
    return [str(each.trial.number), f"{each.score:.4f}", mean, drop, "; ".join(filter(None, [seeds, broken]))]


def ways_section(known: Recorded) -> Section | None:
    """None where there is no winner yet."""
    winner, search = known.winner, known.experiment.search
    if winner is None:
        return None
    metric = validation_metric(search.metric)
    rows = [_way_row(row, metric, winner.way) for row in winner.evidence]
    columns = [
        "start",
        "tail",
        "weights",
        "",
        f"{metric}, mean",
        "val_loss, mean",
        "than its last weights",
        "than no tail",
    ]
    sound = [row for row in winner.evidence if row.sound]
    figure = ""
    if sound:
        described = f"Mean {metric} of each way: " + "; ".join(f"{row.way} {row.mean:.4f}" for row in sound) + "."
        figure = figure_html(_ways_figure(sound, metric, winner.way), described)
    return section(
        "How the model is made: raw, SWA, EMA",
        "report/ways.html.j2",
        epochs=known.experiment.retrain.epochs,
        way=str(winner.way),
        repeated=bool(winner.finalists),
        figure=figure,
        table=table("Ways to make the model, on the validation images", columns, rows) if rows else "",
    )


def _ways_figure(rows: list[Evidence], metric: str, chosen: Way) -> object:
    figure = new_figure(
        height=110 + 40 * len(rows),
        showlegend=False,
        xaxis={"title": {"text": metric}},
        yaxis={"type": "category", "autorange": "reversed"},
    )
    names = [_short(row.way) + (" ★" if row.way == chosen else "") for row in rows]
    for name, row in zip(names, rows, strict=True):
        colour = WINNER if row.way == chosen else COLOURS["completed"]
        figure.add_scatter(
            x=numbers(row.values),
            y=[name] * len(row.values),
            mode="markers",
            marker={"color": colour, "size": 7, "opacity": 0.5},
            hoverinfo="x",
        )
        figure.add_scatter(
            x=numbers([row.mean]),
            y=[name],
            mode="markers",
            marker={"color": colour, "size": 18, "symbol": "line-ns-open", "line": {"width": 3, "color": colour}},
            hoverinfo="x",
        )
    return figure


def _short(way: Way) -> str:
    start = "afresh" if way.start == "scratch" else "checkpoint"
    return start if way.lr_schedule == "none" else f"{start}<br>{way.lr_schedule}, {way.average}"


def _way_row(row: Evidence, metric: str, chosen: Way) -> list[str]:
    start = "afresh" if row.way.start == "scratch" else "checkpoint"
    mark = "chosen" if row.way == chosen else ("" if row.open else "not open")
    told = ["diverged", "", "", ""]
    if row.sound:
        told = [
            with_interval(row.mean, row.interval, metric),
            f"{row.loss:.4f}",
            difference(row.against_raw) if row.against_raw else "",
            difference(row.against_plain) if row.against_plain else "",
        ]
    return [start, row.way.lr_schedule, row.way.average, mark, *told]
