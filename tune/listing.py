"""All experiments of a folder or URI: which one is meant, and how far each is."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cifar.errors import UserError
from tune import yaml_file
from tune.display import clean
from tune.errors import ResumeError
from tune.experiment import ExperimentDir
from tune.overview import moment, overview
from tune.recorded import names
from tune.spec import RECORD
from tune.standing import duration
from tune.storage import open_storage
from tune.trials import states_in_words


def choose(storage: str) -> tuple[str, str]:
    """The experiment that is meant where none is named, and which that is, in words; empty where there is but one.

    The one that runs; of several, or where none does, the one whose last session began last. Raises ResumeError where
    there is none.
    """
    known = list(names(storage))
    if not known:
        raise ResumeError(f"status: no experiment has begun in {storage}; name another --storage, or begin one")
    if len(known) == 1:
        return known[0], ""
    where, found = open_storage(storage), []
    for name in known:
        with suppress(UserError, OSError), where.opened(f"{name}/experiment.yaml") as file:
            provenance = yaml_file.read(file)[0].get(RECORD, {})
            sessions = [provenance, *provenance.get("resumed", [])]
            remote = None if where.local else where.child(name)
            directory = ExperimentDir(where.local / name if where.local else file.parent, remote)
            found.append((directory.is_locked(), str(sessions[-1].get("started", "")), name))
    if not found:
        raise ResumeError(f"status: none of {len(known)} experiments in {storage} can be read; name one to hear why")
    running = sum(one[0] for one in found)
    which = "the one that runs" if running == 1 else "the one that began last"
    return max(found)[2], f"{which} of {len(known)} experiments; name another to see that"


@dataclass(frozen=True)
class Line:
    """An experiment in a list: what is known of it, or why it cannot be read."""

    name: str
    told: dict[str, Any]
    error: str = ""


def all_of(storage: str) -> list[Line]:
    """Every experiment of a folder or URI, in the order in which they began; those that cannot be read last."""
    lines = []
    for name in names(storage):
        try:
            lines.append(Line(name, overview(storage, name).as_dict()))
        except UserError as error:
            lines.append(Line(name, {}, str(error).splitlines()[0]))
    return sorted(lines, key=lambda line: (bool(line.error), line.told.get("began", ""), line.name))


def print_list(lines: list[Line], console: Console) -> None:
    """As a table in a terminal, elsewhere in a line each."""
    read = [line for line in lines if not line.error]
    if console.is_terminal:
        if read:
            console.print(_table(read))
    else:
        for line in read:
            cells = [f"{name} {text}" for name, text in _cells(line.told).items() if text]
            console.print(clean(f"{line.name}: {'; '.join(cells)}"), markup=False, soft_wrap=True)
    for line in lines:
        if line.error:
            console.print(clean(f"{line.name}: cannot be read: {line.error}"), markup=False, soft_wrap=True)


def _table(lines: list[Line]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("experiment", overflow="fold", style="bold")
    for name in _cells(lines[0].told):
        table.add_column(name, overflow="fold", no_wrap=name in {"state", "best", "test"})
    for line in lines:
        table.add_row(Text(clean(line.name)), *(Text(text) for text in _cells(line.told).values()))
    return table


def _cells(told: dict[str, Any]) -> dict[str, str]:
    trials, best, test = told["trials"], told["best"], told["test"]
    states = states_in_words(trials["by_state"])
    return {
        "state": told["state"],
        "trials": f"{trials['ended']}/{trials['planned']}" + (f": {states}" if states else ""),
        "best": f"{best['value']:.4f}" if best else "",
        "test": f"{test['accuracy']:.2%}" if test else "",
        "time": duration(told["search_seconds"] + told["retrain_seconds"]),
        "began": moment(told["began"]),
    }


def as_json(lines: list[Line]) -> list[dict[str, Any]]:
    """The same for programs: what `Overview.as_dict` gives of each, or its name and the error."""
    return [{"name": line.name, "error": line.error} if line.error else line.told for line in lines]
