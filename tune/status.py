"""`python -m tune status` and `list`: how far experiments are, from their directories alone."""

import time
from typing import TYPE_CHECKING

import click

from tune.run import STORAGE, exit_status

if TYPE_CHECKING:
    from rich.console import Console

_WATCHED_S = 2.0
_LINES_S = 60.0  # where there is no terminal
STUDY = click.option("--study", metavar="URL", help="Database of the study, where it is behind a password.")
_JSON = click.option("--json", "as_json", is_flag=True, help="The same figures for programs.")


@click.command("status")
@click.argument("name", required=False)
@STORAGE
@STUDY
@_JSON
@click.option("--watch", is_flag=True, help="Show it again every few seconds until it runs no more.")
def status_command(name: str | None, storage: str, study: str | None, as_json: bool, watch: bool) -> None:
    """Show how far experiment NAME is, running, interrupted or finished.

    Without NAME: the only one, the one that runs, or the one that began last.
    """
    if watch and as_json:
        raise click.UsageError("--watch shows, --json tells once: choose one of them")
    with exit_status():
        from rich.console import Console

        from tune import listing, overview

        if not watch:
            _quick()
        if name is None:
            name, which = listing.choose(storage)
            if which:
                click.echo(f"{name}: {which}", err=True)
        if as_json:
            _print_json(overview.overview(storage, name, study).as_dict())
        elif watch:
            _watch(storage, name, study, Console(highlight=False, emoji=False))
        else:
            overview.overview(storage, name, study).print(Console(highlight=False, emoji=False))


@click.command("list")
@STORAGE
@_JSON
def list_command(storage: str, as_json: bool) -> None:
    """Show all experiments: state, trials, best value, test accuracy, time."""
    with exit_status():
        from rich.console import Console

        from tune import listing

        _quick()
        lines = listing.all_of(storage)
        if as_json:
            _print_json(listing.as_json(lines))
        elif not lines:
            click.echo(f"no experiment has begun in {storage}")
        else:
            listing.print_list(lines, Console(highlight=False, emoji=False))


def _quick() -> None:
    """Python looks in vain for rubbish among the many objects of a study; this process ends soon."""
    import gc

    gc.disable()


def _print_json(told: object) -> None:
    import json

    click.echo(json.dumps(told, indent=2, ensure_ascii=False))


def _watch(storage: str, name: str, study: str | None, console: "Console") -> None:
    """Until it runs no more, or Ctrl-C."""
    from rich.live import Live

    from tune import overview

    every = _WATCHED_S if console.is_terminal else _LINES_S
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                began = time.monotonic()
                told = overview.overview(storage, name, study)
                if told.state != "running":
                    break
                if console.is_terminal:
                    live.update(told.view(console.width), refresh=True)
                else:
                    told.print(console)
                time.sleep(max(every, 10 * (time.monotonic() - began)))  # reading takes a tenth of a core at most
        told.print(console)
    except KeyboardInterrupt:
        return
