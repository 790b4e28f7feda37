"""`python -m tune submit`, `jobs`, `logs`, `stop`, `resume`, `fetch`: searches as jobs of a cluster."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tune.run import exit_status

if TYPE_CHECKING:
    from tune.service.client import Cluster
    from tune.service.sending import Order
    from tune.service.sessions import Session

_ENVIRONMENT = "RAY_API_SERVER_ADDRESS"  # Ray's own name for it
_ADDRESS = click.option(
    "--address",
    metavar="URL",
    envvar=_ENVIRONMENT,
    help=f"Ray's dashboard on the cluster, as in http://head:8265.  [default: {_ENVIRONMENT}]",
)
_SET = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable."
)
_STORAGE = click.option(
    "--storage", help="Folder that all nodes share, or URI.  [default: CIFAR_STORAGE of the cluster's environment]"
)
_ITS_STORAGE = click.option("--storage", help="Where it is kept.  [default: where its last session kept it]")
_STUDY = click.option("--study", metavar="URL", help="Database of the study, without a password.")
_AGAIN = click.option(
    "--again", is_flag=True, help="Read the test set again, where a new winner needs it; it is marked."
)


@click.command("submit")
@click.option("--space", "file", required=True, type=click.Path(path_type=Path), help="Experiment file (YAML).")
@_SET
@click.option("--name", help="Name of the experiment.  [default: the file's, without .yaml]")
@_ADDRESS
@_STORAGE
@_STUDY
@_AGAIN
def submit_command(
    file: Path,
    overrides: tuple[str, ...],
    name: str | None,
    address: str | None,
    storage: str | None,
    study: str | None,
    again: bool,
) -> None:
    """Send a search to a cluster, as a job that goes on whatever becomes of this machine.

    With it go this package, the modules (*.py) below the current folder and the experiment file; no data, no keys.
    """
    with exit_status():
        from tune import spec
        from tune.experiment import check_name
        from tune.service import refusals
        from tune.service.sending import Order

        experiment = spec.load(file, overrides)
        name = experiment.name if name is None else name
        check_name(name)
        refusals.check(storage, study, experiment.data)
        _send(Order(name, overrides, storage, study, again, file), address)


@click.command("resume")
@click.argument("name")
@_SET
@_ADDRESS
@_ITS_STORAGE
@_STUDY
@_AGAIN
def resume_command(
    name: str,
    overrides: tuple[str, ...],
    address: str | None,
    storage: str | None,
    study: str | None,
    again: bool,
) -> None:
    """Go on with experiment NAME of a cluster's, with the code as it is here now.

    Storage and study are those of its last session; --storage names it where the cluster is a new one.
    """
    with exit_status():
        from tune.experiment import check_name
        from tune.service import refusals
        from tune.service.client import Cluster
        from tune.service.sending import Order
        from tune.service.sessions import kept

        check_name(name)
        refusals.check(storage, study)
        where, study = kept(Cluster(address).sessions(), name, storage, study)
        _send(Order(name, overrides, where or None, study, again), address)


@click.command("jobs")
@_ADDRESS
@click.option("--json", "as_json", is_flag=True, help="The same figures for programs.")
def jobs_command(address: str | None, as_json: bool) -> None:
    """Show the searches that were sent to a cluster, a line for each session."""
    with exit_status():
        import json

        from rich.console import Console

        from tune.service.client import Cluster
        from tune.service.table import print_sessions

        cluster, now = Cluster(address), time.time()
        sessions = cluster.sessions()
        if as_json:
            click.echo(json.dumps([one.as_dict(now) for one in sessions], indent=2, ensure_ascii=False))
        elif not sessions:
            click.echo(f"no search was sent to {cluster.address}")
        else:
            print_sessions(sessions, now, Console(highlight=False, emoji=False))


@click.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the search ends; then exit as it did.")
@_ADDRESS
def logs_command(name: str, follow: bool, address: str | None) -> None:
    """Show what the last session of experiment NAME has said.

    Exit status with -f: 0 finished; 143 stopped; else the search's own.
    """
    with exit_status():
        cluster, session = _last(address, name)
        if not follow:
            click.echo(cluster.logs(session.id), nl=False)
            return
        try:
            with closing(cluster.follow(session.id)) as pieces:
                for piece in pieces:
                    click.echo(piece, nl=False)
        except KeyboardInterrupt:
            click.echo(f"the search goes on; to end it: {_command('stop', [name], address)}", err=True)
            sys.exit(130)
        status = cluster.session(session.id).status
    sys.exit(status)


@click.command("stop")
@click.argument("name")
@click.option("--now", is_flag=True, help="Do not let running trials finish and save their epoch.")
@_ADDRESS
def stop_command(name: str, now: bool, address: str | None) -> None:
    """Stop the search NAME gently: running trials finish and save their epoch. It can be resumed.

    Ctrl-C ends the wait only.
    """
    with exit_status():
        from tune.service.stopping import how, stop_now

        cluster, session = _last(address, name)
        if session.over:
            click.echo(f"{name} does not run: it is {session.state}")
            return
        cluster.stop(session.id)
        try:
            if now:
                stop_now(cluster, session)
            else:
                click.echo("stopping: running trials finish and save their epoch; Ctrl-C leaves it to that", err=True)
            session = cluster.ended(session.id)
        except KeyboardInterrupt:
            click.echo(f"it goes on stopping; see {_command('jobs', [], address)}", err=True)
            sys.exit(0)
        if session.state != "stopped":  # it ended by itself just then
            click.echo(f"{name} does not run: it is {session.state}")
            return
        told, resumable = how(cluster.logs(session.id))
        click.echo(f"{name}: {told}")
        if resumable:
            _next(("resume", [name]), address=address)


@click.command("fetch")
@click.argument("name")
@click.option(
    "--output",
    default=Path("experiments"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of experiments that it is brought to.",
)
@click.option("--checkpoints", is_flag=True, help="The trials' checkpoints, too.")
@_ADDRESS
@_ITS_STORAGE
def fetch_command(name: str, output: Path, checkpoints: bool, address: str | None, storage: str | None) -> None:
    """Bring experiment NAME of a cluster's here: study, report, model, curves.

    An older copy of the same experiment is replaced, whole or not at all; nothing else is overwritten.
    """
    with exit_status():
        from tune.service import refusals
        from tune.service.client import Cluster
        from tune.service.fetch import fetch
        from tune.service.sessions import kept

        refusals.check(storage, None)
        cluster = Cluster(address)
        if storage is None:
            storage, _ = kept(cluster.sessions(), name, None, None)
        say: Callable[[str], None] = lambda line: click.echo(line, err=True)  # noqa: E731
        target = fetch(cluster, name, storage, output, say, checkpoints=checkpoints)
        click.echo(target)
        read = os.environ.get("CIFAR_STORAGE") or "experiments"  # what the commands below read without --storage
        elsewhere = [] if str(output) == read else ["--storage", str(output)]
        _next(("status", [name, *elsewhere]), ("report", [name, *elsewhere]))


def _last(address: str | None, name: str) -> "tuple[Cluster, Session]":
    """A cluster, and the last session of an experiment there."""
    from tune.service.client import Cluster
    from tune.service.sessions import latest

    cluster = Cluster(address)
    return cluster, latest(cluster.sessions(), name)


def _send(order: "Order", address: str | None) -> None:
    from tune.service.client import Cluster
    from tune.service.sending import send

    told = send(order, Cluster(address), Path.cwd())
    click.echo(told, err=True)
    click.echo(order.name)
    name = order.name
    _next(("logs", ["-f", name]), ("stop", [name]), ("fetch", [name]), address=address)


def _next(*commands: tuple[str, list[str]], address: str | None = None) -> None:
    click.echo("next:")
    for command, words in commands:
        click.echo(f"  {_command(command, words, address)}")


def _command(command: str, words: list[str], address: str | None) -> str:
    where = ["--address", address] if address and address != os.environ.get(_ENVIRONMENT) else []
    return shlex.join(["python", "-m", "tune", command, *words, *where])
