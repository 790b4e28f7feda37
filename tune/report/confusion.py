"""The test set: the confusion matrix, and how each class fared."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tune.recorded import Recorded
from tune.report.section import Section, figure_html, label, new_figure, section, share, table
from tune.summary import summary_of

_NUMBERED = 12  # classes, up to which each cell shows its count
_OPEN = 20  # classes, up to which the table is not folded
_PAIRS = 20
# Few images of a class in a wrong column are what one looks for: they get most of the colours.
_SCALE = [[0, "#fff"], [0.001, "#e3ebf6"], [0.1, "#c3d5ec"], [0.4, "#9dbbe0"], [0.55, "#2f5f9f"], [1, "#0b2a66"]]


def confusion_section(known: Recorded) -> Section | None:
    """None before the test set was read."""
    if known.metrics is None:
        return None
    summary = summary_of(known)
    counts, names = np.array(summary.test.confusion), summary.classes
    mixed = [
        (int(counts[true, named]), true, named)
        for true, named in zip(*np.nonzero(counts), strict=True)
        if true != named
    ]
    mixed.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    pairs = [
        [names[true], names[named], f"{count:,}", share(count / counts[true].sum())]
        for count, true, named in mixed[:_PAIRS]
    ]
    right = int(counts.trace())
    described = f"{right:,} of {summary.test.images:,} test images are on the diagonal, which is right."
    if mixed:
        count, true, named = mixed[0]
        described += f" The most frequent mistake: {count:,} of {counts[true].sum():,} images of {_cut(names[true])}"
        described += f" named {_cut(names[named])}."
    worst = [
        [name, share(one.recall), share(one.precision), share(one.f1), f"{one.images:,}"]
        for name, one in summary.worst_first.items()
    ]
    return section(
        "Confusion matrix",
        "report/confusion.html.j2",
        figure=figure_html(_figure(counts, names), described),
        pairs=table(
            f"The most frequent mistakes, {len(pairs)} of {len(mixed):,} pairs",
            ["true class", "named", "images", "of the class"],
            pairs,
        )
        if pairs
        else "",
        classes=table(
            "Classes, those that were recognised least first", ["class", "recall", "precision", "F1", "images"], worst
        ),
        folded=len(names) > _OPEN,
        count=len(names),
    )


def _figure(counts: Any, names: Sequence[str]) -> Any:
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    few = len(names) <= _NUMBERED
    shown = _apart(names, 14 if few else 10)
    axis = {"type": "category", "ticks": "", "tickfont": {"size": 11 if few else 9}, "showgrid": False}
    figure = new_figure(
        height=520 if few else 700,
        xaxis={**axis, "title": {"text": "predicted"}, "tickangle": -90 if max(map(len, shown)) > 2 else 0},
        yaxis={**axis, "title": {"text": "true"}, "autorange": "reversed"},
    )
    numbered = {"text": counts.tolist(), "texttemplate": "%{text}", "textfont": {"size": 11}} if few else {}
    figure.add_heatmap(
        z=(counts / totals).astype(np.float32),
        x=shown,
        y=shown,
        zmin=0,
        zmax=1,
        colorscale=_SCALE,
        showscale=False,
        xgap=1 if few else 0,
        ygap=1 if few else 0,
        hovertemplate="true %{y}, predicted %{x}<br>%{z:.1%} of the class<extra></extra>",
        **numbered,
    )
    return figure


def _cut(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _apart(names: Sequence[str], most: int) -> list[str]:
    """The names cut, and still different from each other."""
    cut = [label(name, most) for name in names]
    return [name if cut.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(cut)]
