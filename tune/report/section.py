"""A part of the report: a title and its HTML."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tune.objectives import in_digits
from tune.progress import duration
from tune.summary import difference, shown, with_interval

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Section:
    """html: whole elements, every text from users escaped in them."""

    title: str
    html: Markup


def section(title: str, template: str, **context: Any) -> Section:
    """The section that a template of `tune/templates` gives."""
    return Section(title, Markup(load_template(template).render(**context)))


def figure_html(figure: Any, described: str) -> Markup:
    """A plotly figure, without plotly's code, which the page brings once. described: for who cannot see it."""
    div = figure.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True, "displaylogo": False})
    return Markup('<div class="wide" role="img" aria-label="{}">').format(described) + Markup(div) + Markup("</div>")


def new_figure(**layout: Any) -> Any:
    """An empty plotly figure as all of the report look."""
    from plotly.graph_objects import Figure

    return Figure(layout={"template": "plotly_white", "height": 420, "margin": {"t": 20, "r": 10}, **layout})


def load_template(name: str) -> "Template":
    """A template of `tune/templates`: names with .html in them escape what they are given."""
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
        "share": _share,
        "cell": _cell,
    }
    environment.globals["with_interval"] = with_interval
    return environment.get_template(name)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _cell(text: object) -> str:
    """Text that ends neither a cell nor a row of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
