"""`python -m tune.run`: from a search space to a tested model."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cifar.errors import UserError
from tune.session import Mode, Where, run

if TYPE_CHECKING:
    from tune.spec import Experiment

STORAGE = click.option(
    "--storage",
    envvar="CIFAR_STORAGE",
    default="experiments",
    help="Folder or URI of the experiments.  [default: CIFAR_STORAGE, or else experiments]",
)
_OPTIONS = (
    STORAGE,
    click.option("--address", help="Ray cluster to join, as in head:6379.  [default: one on this machine]"),
    click.option("--study", metavar="URL", help="Database of the study.  [default: a file of the experiment]"),
    click.option(
        "--dashboard/--no-dashboard", help="Whether a cluster on this machine has Ray's dashboard.  [default: no]"
    ),
    click.option(
        "--dashboard-host",
        default=Where.dashboard_host,
        show_default=True,
        help="Address that it listens on; 0.0.0.0 for all.",
    ),
    click.option("--again", is_flag=True, help="Read the test set again, where a new winner needs it; it is marked."),
)


def on_a_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that searches."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--space",
    "file",
    type=click.Path(path_type=Path),
    help="Experiment file (YAML); not needed with --resume, as what the experiment began with is known.",
)
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable.")
@click.option("--name", help="Name of the experiment.  [default: the file's, without .yaml]")
@on_a_cluster
@click.option("--resume", is_flag=True, help="Go on with the experiment of that name; more trials extend it.")
@click.option(
    "--restartable",
    is_flag=True,
    help="Begin the experiment, or go on with it if it has begun: for a job that a scheduler may start again.",
)
@click.option("--dry-run", is_flag=True, help="Show the resolved experiment and what it will cost; start nothing.")
def main(
    file: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    resume: bool,
    restartable: bool,
    dry_run: bool,
    **where: str | None,
) -> None:
    """Search hyperparameters, retrain the winner, evaluate it once on the test set.

    Leaves an experiment directory with the study, the model and a report. Exit status: 0 done; 2 something to repair
    in the call, the file, the data or the storage; 1 every trial failed, or a fault of ours; 130 or 143 interrupted,
    to be resumed.
    """
    if resume and restartable:
        raise click.UsageError("--resume and --restartable: choose one; the latter resumes, too, what has begun")
    if file is None and (dry_run or not (resume and name)):
        raise click.UsageError("--space FILE is missing; only --resume --name NAME goes on without it")
    with exit_status():
        if dry_run:
            assert file is not None
            _show_plan(file, overrides)
        else:
            mode: Mode = "resume" if resume else "restart" if restartable else "new"
            run(file, overrides, name, Where(**where), mode)  # type: ignore[arg-type]


@contextmanager
def exit_status() -> Iterator[None]:
    """Tells errors as users of the command line should hear them, and exits with their status."""
    from tune.errors import FailedError, InterruptedSearchError
    from tune.interrupts import Interrupted, at_once

    try:
        with at_once():
            yield
    except UserError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(2)
    except FailedError as error:
        if error.traceback:
            click.echo(f"The first failure:\n\n{error.traceback.rstrip()}\n", err=True)
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except InterruptedSearchError as error:
        from tune.experiment import command_line

        command = command_line(resume=True)
        click.echo(f"interrupted; nothing that was recorded is lost. To go on:\n  {command}", err=True)
        sys.exit(128 + error.number)
    except KeyboardInterrupt:
        click.echo("interrupted before anything was begun", err=True)
        sys.exit(128 + Interrupted.latest)


def _last_mile(experiment: "Experiment") -> str:
    """What follows the search, in words."""
    from tune.averaging import ways
    from tune.finalists import finalist_count, fresh_seeds
    from tune.mile import model_epochs

    plan, longest = experiment.retrain, experiment.scheduler.max_epochs
    seeds = len(fresh_seeds(plan, experiment.scheduler, experiment.search))
    open_, model = ways(plan), model_epochs(experiment)
    if not seeds:
        return f"{model} of the retrain"
    few = min(finalist_count(experiment), experiment.trials)
    tails = {(way.start, way.lr_schedule) for way in open_ if way.lr_schedule != "none"} if len(open_) > 1 else ()
    again = few * seeds * longest + len(tails) * seeds * plan.epochs
    trained = f"{few} finalist{'s' * (few != 1)} with {seeds} fresh seed{'s' * (seeds != 1)}"
    return f"{again} of {trained}, {model} at most of the model"


def _show_plan(file: Path, overrides: tuple[str, ...]) -> None:
    from tune import spec, yaml_file
    from tune.points import grid_size
    from tune.rungs import expected_epochs, expected_trials

    experiment = spec.load(file, overrides)
    yaml_file.write(experiment.to_dict(), sys.stdout)
    search, scheduler = experiment.search, experiment.scheduler
    points = grid_size(experiment.space) if search.sampler == "grid" else None
    trials = experiment.trials
    full = min(trials * scheduler.max_epochs, search.epoch_budget or trials * scheduler.max_epochs)
    again = _last_mile(experiment)
    grid = f", of the grid's {points} points" if points else ""
    click.echo(f"\n# {trials} trials of up to {scheduler.max_epochs} epochs{grid}")
    if scheduler.type == "none":
        click.echo(f"# no early stopping: {full} epochs, and {again}")
        return
    if scheduler.type != "asha":
        click.echo(f"# {scheduler.type}: at most {full} epochs, and {again}")
        return
    rungs = scheduler.rungs
    reached = expected_trials(trials, rungs, scheduler.reduction_factor)
    for epoch, count in zip((*rungs, scheduler.max_epochs), reached, strict=True):
        there = "1 trial gets" if count == 1 else f"{count} trials get"
        click.echo(f"# epoch {epoch}: {'end' if epoch == scheduler.max_epochs else 'rung'}, about {there} there")
    expected = min(expected_epochs(trials, rungs, scheduler.reduction_factor, scheduler.max_epochs), full)
    click.echo(f"# about {expected} epochs, at most {full}, and {again}")
    if scheduler.audit:
        more = round(scheduler.audit * (full - expected))
        click.echo(f"# about {more} more for the audit of {scheduler.audit:.0%} of the stopped trials")


if __name__ == "__main__":
    main()
