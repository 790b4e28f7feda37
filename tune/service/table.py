"""Sessions of a cluster's, for people."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tune.display import clean
from tune.overview import moment
from tune.service.sessions import Session
from tune.standing import duration


def print_sessions(sessions: list[Session], now: float, console: Console) -> None:
    """As a table in a terminal, elsewhere in a line each."""
    if console.is_terminal:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        table.add_column("experiment", overflow="fold", style="bold")
        for name in _cells(sessions[0], now):
            table.add_column(name, overflow="fold", no_wrap=name in ("state", "took"))
        for one in sessions:
            table.add_row(Text(clean(one.name)), *(Text(clean(text)) for text in _cells(one, now).values()))
        console.print(table)
        return
    for one in sessions:
        cells = [f"{name} {text}" for name, text in _cells(one, now).items() if text]
        console.print(clean(f"{one.name}: {'; '.join(cells)}"), markup=False, emoji=False, soft_wrap=True)


def _cells(one: Session, now: float) -> dict[str, str]:
    return {
        "state": one.state,
        "submitted": moment(datetime.fromtimestamp(one.submitted, UTC).isoformat()),
        "took": duration(one.seconds(now)),
        "storage": one.storage or "the cluster's",
        "message": one.message,
    }
