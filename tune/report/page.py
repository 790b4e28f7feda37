"""The whole page."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from cifar.errors import UserError, first_line
from tune.errors import StorageError
from tune.experiment import write_text
from tune.recorded import Recorded
from tune.report.audit_section import audit_section
from tune.report.best import best_section
from tune.report.confusion import confusion_section
from tune.report.contours import contours_section
from tune.report.critic_section import critic_section
from tune.report.curves import curves_section
from tune.report.environment import environment_section
from tune.report.front import front_section
from tune.report.influence import influence_section
from tune.report.last_mile import finalists_section, ways_section
from tune.report.mistakes import mistakes_section
from tune.report.parallel import parallel_section
from tune.report.result import headline, result_section, state
from tune.report.section import Section, in_unicode, load_template
from tune.report.slices import slices_section
from tune.report.spent import spent_section
from tune.report.stops import stops_section
from tune.report.trials_table import trials_section

# In the order of the page. One that has nothing to show gives None.
SECTIONS: tuple[Callable[[Recorded], Section | None], ...] = (
    result_section,
    best_section,
    front_section,
    curves_section,
    stops_section,
    influence_section,
    parallel_section,
    slices_section,
    contours_section,
    finalists_section,
    ways_section,
    confusion_section,
    mistakes_section,
    audit_section,
    critic_section,
    spent_section,
    environment_section,
    trials_section,
)


def write_report(known: Recorded, output: Path | None = None) -> Path:
    """Writes report.html of an experiment, running or finished. Returns the file.

    output: another file. Raises StorageError if the experiment's directory cannot be written, UserError if `output`
    cannot.
    """
    html = page(known.name, headline(known), state(known), [_made(make, known) for make in SECTIONS])
    if output is not None:
        write_to(output, html)
        return output
    directory = known.directory
    try:
        write_text(directory.report, html)
    except OSError as error:
        advice = "choose another file with --output"
        raise StorageError(f"{directory.report} cannot be written: {error.strerror or error}; {advice}") from None
    return directory.report


def _made(make: Callable[[Recorded], Section | None], known: Recorded) -> Section | None:
    """A part of the page, or what went wrong with it: that costs none of the others."""
    try:
        return make(known)
    except (UserError, OSError):
        raise
    except Exception as error:
        title = make.__name__.removesuffix("_section").replace("_", " ").capitalize()
        words = Markup("<p>This part could not be made: {}: {}.</p>").format(type(error).__name__, first_line(error))
        return Section(title, words)


def write_to(output: Path, html: str) -> None:
    """Writes a page where the user wants it. Raises UserError if that is impossible."""
    try:
        write_text(output, html)
    except (OSError, ValueError) as error:  # ValueError: it names no file
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--output {output}: {reason}; choose a file that can be written") from None


def page(title: str, headline: str, note: str, sections: Sequence[Section | None]) -> str:
    """A whole HTML file, with all that it needs. note: what is to be known before all else, or empty."""
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), (files("tune") / "templates" / "report" / "draw.js").read_text(encoding="utf-8")]
    there = [each for each in sections if each is not None]
    html = load_template("report.html.j2").render(
        title=title,
        headline=headline,
        note=note,
        sections=list(zip(_anchors(there), there, strict=True)),
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return in_unicode(html)


def _anchors(sections: Sequence[Section]) -> list[str]:
    return [re.sub(r"\W+", "-", section.title.lower()).strip("-") for section in sections]
