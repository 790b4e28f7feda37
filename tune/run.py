"""`python -m tune.run`: from a search space to a tested model."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cifar.errors import UserError
from tune.errors import RetrainFailedError, SearchFailedError

if TYPE_CHECKING:
    from rich.console import Console

    from cifar.sources import TrainingData
    from tune.cluster import Node, Share
    from tune.evaluation import Evaluation
    from tune.experiment import ExperimentDir
    from tune.images import SharedImages
    from tune.spec import Experiment
    from tune.study import StudyRecord
    from tune.summary import Summary
    from tune.tracking import Tracking
    from tune.trials import Trial
    from tune.winner import Made


_OPTIONS = (
    click.option("--storage", default="experiments", show_default=True, help="Folder or URI of the experiments."),
    click.option("--address", help="Ray cluster to join, as in head:6379.  [default: one on this machine]"),
    click.option("--study", metavar="URL", help="Database of the study.  [default: a file of the experiment]"),
    click.option("--again", is_flag=True, help="Read the test set again, where a new winner needs it; it is marked."),
)


def on_a_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that searches."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Where:
    """Where a search keeps its state, and where it runs; and whether it may read the test set again."""

    storage: str = "experiments"
    address: str | None = None
    study: str | None = None
    again: bool = False


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--space", "file", required=True, type=click.Path(path_type=Path), help="Experiment file (YAML).")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable.")
@click.option("--name", help="Name of the experiment.  [default: the file's, without .yaml]")
@on_a_cluster
@click.option("--resume", is_flag=True, help="Go on with the experiment of that name; more trials extend it.")
@click.option("--dry-run", is_flag=True, help="Show the resolved experiment and what it will cost; start nothing.")
def main(
    file: Path, overrides: tuple[str, ...], name: str | None, resume: bool, dry_run: bool, **where: str | None
) -> None:
    """Search hyperparameters, retrain the winner, evaluate it once on the test set.

    Leaves an experiment directory with the study, the model and a report. Exit status: 0 done; 2 something to repair
    in the call, the file, the data or the storage; 1 every trial failed, or a fault of ours; 130 or 143 interrupted,
    to be resumed.
    """
    with exit_status():
        if dry_run:
            _show_plan(file, overrides)
        else:
            run(file, overrides, name, Where(**where), resume=resume)  # type: ignore[arg-type]


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
    again = experiment.retrain.epochs + (scheduler.max_epochs if experiment.retrain.start == "scratch" else 0)
    grid = f", of the grid's {points} points" if points else ""
    click.echo(f"\n# {trials} trials of up to {scheduler.max_epochs} epochs{grid}")
    if scheduler.type == "none":
        click.echo(f"# no early stopping: {full} epochs, and {again} of the retrain")
        return
    if scheduler.type != "asha":
        click.echo(f"# {scheduler.type}: at most {full} epochs, and {again} of the retrain")
        return
    rungs = scheduler.rungs
    reached = expected_trials(trials, rungs, scheduler.reduction_factor)
    for epoch, count in zip((*rungs, scheduler.max_epochs), reached, strict=True):
        there = "1 trial gets" if count == 1 else f"{count} trials get"
        click.echo(f"# epoch {epoch}: {'end' if epoch == scheduler.max_epochs else 'rung'}, about {there} there")
    expected = min(expected_epochs(trials, rungs, scheduler.reduction_factor, scheduler.max_epochs), full)
    click.echo(f"# about {expected} epochs, at most {full}, and {again} of the retrain")


def run(
    file: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    where: Where,
    *,
    resume: bool = False,
    repeat: bool = False,
) -> "tuple[ExperimentDir, Evaluation]":
    """The whole of `python -m tune.run`, from reading `file` to the closing table.

    file: None for what the experiment `name` began with. resume: go on with the experiment of that name; repeat: with
    its failed trials too. Raises UserError for what the user can repair, SearchFailedError if no trial gave a value,
    InterruptedSearchError after Ctrl-C or SIGTERM.
    """
    from tune import fork_server

    starts_ray = where.address is None
    with fork_server.serving() if starts_ray else nullcontext() as python:  # before all else, since it takes longest
        job, console = _prepared(file, overrides, name, where, resume=resume, repeat=repeat)
        return _on_cluster(job, python, console)


def _prepared(
    file: Path | None, overrides: tuple[str, ...], name: str | None, where: Where, *, resume: bool, repeat: bool
) -> "tuple[_Job, Console]":
    """What can be found out without the cluster, the user's mistakes first."""
    from dataclasses import replace

    from rich.console import Console

    from cifar import sources
    from tune import experiment as experiments
    from tune import images, spec
    from tune.open_study import check_study
    from tune.resume import check_same, reopen
    from tune.study_storage import absolute_url

    if where.study:
        where = replace(where, study=absolute_url(where.study))
    if file is None:
        assert name is not None, "an experiment that began has a name"
        directory = reopen(where.storage, name, "retry")
        experiment = replace(spec.load(directory.spec), name=name)
    else:
        experiment = spec.load(file, overrides)
        experiment = replace(experiment, name=experiment.name if name is None else name)
        directory = (reopen if resume else experiments.reserve)(where.storage, experiment.name)
    if not resume:
        check_study(experiment, where.storage, where.study)
    console = Console(highlight=False)
    data = images.load(experiment.data)
    if skipped := data.skipped:
        words = f"broken image files left out: {len(skipped)} ({'; '.join(skipped)})"
        console.print(words, markup=False, soft_wrap=True)
    if experiment.data.source != "digits":  # trials run in other folders
        rooted = experiment.data.model_copy(update={"root": str(sources.resolved_root(experiment.data))})
        experiment = replace(experiment, data=rooted)
    before = check_same(directory, experiment, data.fingerprint, where.study) if resume else None
    return _Job(experiment, directory, data, where, before, repeat), console


@dataclass(frozen=True)
class _Job:
    """What `run` has found out. before: the provenance of the search that is resumed."""

    experiment: "Experiment"
    directory: "ExperimentDir"
    data: "TrainingData"
    where: Where
    before: dict[str, Any] | None
    repeat: bool


def _on_cluster(job: _Job, python: str | None, console: "Console") -> "tuple[ExperimentDir, Evaluation]":
    from tune import cluster
    from tune.interrupts import resumable

    # around the cluster's end, too: the second of two signals may come then
    with resumable(begun=job.before is not None) as work, cluster.connected(job.where.address, python) as nodes:
        job, share, study = _begun(job, nodes)
        work.begun = True
        with job.directory.locked():
            summary = _made(job, nodes, share, study, console)
    from tune.summary import print_closing

    print_closing(summary, console)
    return job.directory, summary.test


def _begun(job: _Job, nodes: "list[Node]") -> "tuple[_Job, Share, str]":
    """What runs on these nodes, noted in the experiment directory; a trial's share; the database's URL, to be shown."""
    from dataclasses import replace

    from tune import cluster
    from tune import experiment as experiments
    from tune.study_storage import shown_url

    experiment = job.experiment
    share = cluster.share(experiment.resources, nodes, experiment.trainer.accelerator)
    if not share.gpus and experiment.trainer.accelerator == "auto":  # leave the GPUs to those who asked
        on_cpu = experiment.trainer.model_copy(update={"accelerator": "cpu"})
        experiment = replace(experiment, trainer=on_cpu)
    study = shown_url(job.where.study) if job.where.study else ""
    experiments.begin(job.directory, experiment, experiments.command_line(), job.data.fingerprint, job.before, study)
    return replace(job, experiment=experiment), share, study


def _made(job: _Job, nodes: "list[Node]", share: "Share", study: str, console: "Console") -> "Summary":
    """Searches, makes the model and writes the report."""
    from cifar import sources
    from tune import cluster, images, ledger, winner
    from tune.importance import importances
    from tune.open_study import levels
    from tune.report import write_report
    from tune.summary import Summary

    experiment, directory, data = job.experiment, job.directory, job.data
    cluster.preflight(directory.place, nodes if job.where.address else [])  # else all is on this machine
    shared = images.share(data)
    trials, tracked, record = _searched(job, shared, nodes, share, console)
    chosen = winner.choose(experiment, trials, directory)
    if chosen is None:
        raise SearchFailedError("no trial has both a value and a checkpoint", "")
    made = winner.already_made(experiment, chosen, directory)
    fresh = made is None
    if made is None:
        began = time.monotonic()
        readings = winner.check_unread(experiment, chosen, directory, record.test_readings, job.where.again)
        cpus = max(node.cpus for node in nodes) if job.where.address is None else share.cpus
        made = _retrained(experiment, shared, chosen, directory, tracked, readings, cpus, share.gpus, console)
        record.retrain_seconds = time.monotonic() - began
    # one that was made before may have a reading since the last seal, noted before a kill
    if fresh or ledger.holds(directory.ledger, record.test_readings):
        record.test_readings = ledger.seal(directory.ledger, record.test_readings, made.test.reading)
    summary = Summary(
        experiment=experiment,
        directory=directory,
        trials=trials,
        winner=chosen,
        test=made.test,
        onnx_error=made.onnx_error,
        skipped=(*data.skipped, *made.test.skipped),
        study=study or str(directory.journal),
        ended=record.ended_because,
        search_seconds=record.elapsed,
        retrain_seconds=record.retrain_seconds,
        classes=data.classes,
        shape=(data.channels, *data.image_size),
        images=sources.counts(data, experiment.data),
        importances=importances(record.study, levels(experiment)),
    )
    write_report(summary)
    directory.publish()
    return summary


def _searched(
    job: _Job, shared: "SharedImages", nodes: "list[Node]", share: "Share", console: "Console"
) -> "tuple[list[Trial], Tracking, StudyRecord]":
    """The trials, how they were tracked, and the study."""
    from tune import ledger, tracking
    from tune.open_study import open_study
    from tune.packing import packed
    from tune.progress import Progress
    from tune.search import search

    experiment, directory = job.experiment, job.directory
    tracked, note = tracking.resolve(experiment.tracking, experiment.name, directory.wandb)
    record, notes = open_study(
        experiment, directory, job.where.storage, job.where.study, job.data.fingerprint, resume=job.before is not None
    )
    if not job.where.again:
        ledger.check(directory.ledger, record.test_readings)
    if job.repeat:
        notes.append(f"failed trials that run again: {record.repeat_failed()}")
    ended = len(record.ended())
    if record.test_readings and not job.where.again and (job.repeat or ended < experiment.trials):
        notes.append("the test set was read already: to make a model of another winner, --again will be needed")
    share, packing = packed(experiment, shared, nodes, share, experiment.trials - ended)
    for line in filter(None, [note, *notes, packing]):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_opening(job, share, ended), markup=False, soft_wrap=True)
    with Progress(experiment, share.slots, console) as progress:
        trials, traceback = search(experiment, shared, directory, record, share, tracked, progress)
    if not any(trial.checkpoints for trial in trials if trial.state in {"completed", "stopped"}):
        raise _failure(trials, traceback)
    return trials, tracked, record


def _opening(job: _Job, share: "Share", ended: int) -> str:
    experiment = job.experiment
    again = f", {ended} of them ended before" if job.before else ""
    slots = f"in {share.slots} slot{'s' * (share.slots != 1)} of {share}"
    return f"{experiment.name}: {experiment.trials} trials{again}, {slots}; {job.directory.place.uri}"


def _retrained(
    experiment: "Experiment",
    shared: "SharedImages",
    chosen: "Trial",
    directory: "ExperimentDir",
    tracked: "Tracking",
    readings: int,
    cpus: float,
    gpus: float,
    console: "Console",
) -> "Made":
    from tune.final import make_model_on_cluster

    try:
        with _told(console) as say:
            made = make_model_on_cluster(experiment, shared, chosen, directory, tracked, readings, cpus, gpus, say)
    except RetrainFailedError as error:
        message = f"the retrain failed: {error}; the winner is in {directory.winner}, its checkpoint untouched"
        raise RetrainFailedError(message, error.traceback) from None
    directory.fetch()
    return made


def _failure(trials: "list[Trial]", traceback: str) -> Exception:
    """Why a search gave no winner: the user's mistake where a trial named one, else the first traceback."""
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed and failed[0].users_mistake:
        return UserError(failed[0].reason.partition(": ")[2])
    ended = [*failed, *trials]
    first = ended[0].reason if ended else "none was started"
    return SearchFailedError(f"none of {len(trials)} trials gave a value; the first: {first}", traceback)


@contextmanager
def _told(console: "Console") -> Iterator[Callable[[str], None]]:
    """Shows what is being done: in one changing line of a terminal, else in a line each."""
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, soft_wrap=True)
        return
    with console.status("retraining the winner") as status:
        yield status.update


if __name__ == "__main__":
    main()
