"""A part of the report: a title and its HTML, made of text, tables and figures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from tune.objectives import in_digits
from tune.points import shown
from tune.standing import duration
from tune.summary import difference, with_interval

if TYPE_CHECKING:
    from jinja2 import Template

_AXIS = {
    "gridcolor": "#e4e7eb",
    "linecolor": "#9aa5b1",
    "zeroline": False,
    "automargin": True,
    "showline": True,
    "ticks": "outside",
    "tickcolor": "#9aa5b1",
    "title": {"standoff": 8},
}
_LAYOUT = {
    "template": {"layout": {"xaxis": _AXIS, "yaxis": _AXIS}},
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
    "paper_bgcolor": "#fff",
    "plot_bgcolor": "#fff",
    "height": 380,
    "margin": {"t": 16, "r": 12, "b": 8, "l": 8},
    "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    "hoverlabel": {"namelength": -1, "bgcolor": "#fff", "font": {"color": "#1f2933"}},
    "hovermode": "closest",
}


@dataclass(frozen=True)
class Section:
    """html: whole elements, every text from users escaped in them."""

    title: str
    html: Markup


def section(title: str, template: str, **context: Any) -> Section:
    """The section that a template of `tune/templates` gives."""
    return Section(title, Markup(load_template(template).render(**context)))


def figure_html(figure: Any, described: str) -> Markup:
    """A plotly figure, without plotly's code, which the page brings once and draws it with.

    described: what it shows, in numbers: for who cannot see it, and as its caption.
    """
    data = figure.to_json().replace("<", "\\u003c")  # so that no text in it ends the element
    height = figure.layout.height
    return Markup(load_template("report/figure.html.j2").render(data=Markup(data), described=described, height=height))


def new_figure(**layout: Any) -> Any:
    """An empty plotly figure as all of the report look."""
    from plotly.graph_objects import Figure

    return Figure(layout=_LAYOUT | layout)


def label(text: object, most: int = 24) -> str:
    """Text from users in a figure, in one line and cut after so many characters.

    Plotly takes some of it for HTML, for entities and for places in a template: a space of no width keeps it from that.
    What is between two dollars it takes for mathematics: they become wide ones.
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    line = line.replace("$", "\uff04") if line.count("$") > 1 else line
    return re.sub(r"([<&%])", "\\1\u200b", line)


def numbers(values: Iterable[float | None]) -> "np.ndarray":
    """Numbers as a figure should hold thousands of them: four bytes each. None is a gap."""
    return np.array([np.nan if value is None else value for value in values], np.float32)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose first column names its rows. It scrolls in a box of its own."""
    context = {"caption": caption, "columns": columns, "rows": list(rows)}
    return Markup(load_template("report/table.html.j2").render(**context))


def facts(caption: str, told: Mapping[str, object]) -> Markup:
    """A table of two columns, name and fact."""
    return table(caption, (), told.items())


def load_template(name: str) -> "Template":
    """A template of `tune/templates`: names with .html in them escape what they are given."""
    template: Template = _environment().get_template(name)
    return template


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tune"),
        autoescape=lambda template: template is not None and ".html" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "shown": shown,
        "in_digits": in_digits,
        "duration": duration,
        "difference": difference,
        "share": share,
        "cell": _cell,
    }
    environment.globals["with_interval"] = with_interval
    return environment


def in_unicode(text: str) -> str:
    """The same with a ? for what is no Unicode: names of files need not be, and so those of classes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def share(value: float | None) -> str:
    """A share of 1 for people."""
    return "none" if value is None else f"{value:.1%}"


def _cell(text: object) -> str:
    """Text that ends neither a cell nor a row of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
