"""`python -m tune.run`: from a search space to a tested model."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cifar.errors import UserError
from tune.errors import FailedError, RetrainFailedError, SearchFailedError

if TYPE_CHECKING:
    from rich.console import Console

    from cifar.sources import TrainingData
    from tune.evaluation import Evaluation
    from tune.experiment import ExperimentDir
    from tune.spec import Experiment
    from tune.trials import Trial


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--space", "file", required=True, type=click.Path(path_type=Path), help="Experiment file (YAML).")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable.")
@click.option("--name", help="Name of the experiment.  [default: the file's, without .yaml]")
@click.option("--storage", default="experiments", show_default=True, help="Folder of the experiment directories.")
@click.option("--address", help="Ray cluster to join, as in head:6379.  [default: one on this machine]")
@click.option("--dry-run", is_flag=True, help="Show the resolved experiment and what it will cost; start nothing.")
def main(
    file: Path, overrides: tuple[str, ...], name: str | None, storage: str, address: str | None, dry_run: bool
) -> None:
    """Search hyperparameters, retrain the winner, evaluate it once on the test set.

    Leaves an experiment directory with the study, the model and a report. Exit status: 0 done; 2 something to repair
    in the call, the file or the data; 1 every trial failed, or a fault of ours.
    """
    try:
        if dry_run:
            _show_plan(file, overrides)
        else:
            run(file, overrides, name, storage, address)
    except UserError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(2)
    except FailedError as error:
        if error.traceback:
            click.echo(f"The first failure:\n\n{error.traceback.rstrip()}\n", err=True)
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted; what was recorded stays in the experiment directory", err=True)
        sys.exit(130)


def _show_plan(file: Path, overrides: tuple[str, ...]) -> None:
    from tune import spec, yaml_file
    from tune.rungs import expected_epochs, expected_trials, rung_epochs

    experiment = spec.load(file, overrides)
    yaml_file.write(experiment.to_dict(), sys.stdout)
    scheduler, trials = experiment.scheduler, experiment.search.trials
    full = trials * scheduler.max_epochs
    again = experiment.retrain.epochs + (scheduler.max_epochs if experiment.retrain.start == "scratch" else 0)
    click.echo(f"\n# {trials} trials of up to {scheduler.max_epochs} epochs")
    if scheduler.type == "none":
        click.echo(f"# no early stopping: {full} epochs, and {again} of the retrain")
        return
    rungs = rung_epochs(scheduler.grace_period, scheduler.reduction_factor, scheduler.max_epochs)
    reached = expected_trials(trials, rungs, scheduler.reduction_factor)
    for epoch, count in zip((*rungs, scheduler.max_epochs), reached, strict=True):
        there = "1 trial gets" if count == 1 else f"{count} trials get"
        click.echo(f"# epoch {epoch}: {'end' if epoch == scheduler.max_epochs else 'rung'}, about {there} there")
    expected = expected_epochs(trials, rungs, scheduler.reduction_factor, scheduler.max_epochs)
    click.echo(f"# about {expected} epochs, at most {full}, and {again} of the retrain")


def run(
    file: Path, overrides: tuple[str, ...], name: str | None, storage: str, address: str | None
) -> "tuple[ExperimentDir, Evaluation]":
    """The whole of `python -m tune.run`, from reading `file` to the closing table.

    Raises UserError for what the user can repair, SearchFailedError if no trial gave a value.
    """
    from dataclasses import replace

    from rich.console import Console

    from cifar import sources
    from tune import experiment as experiments
    from tune import spec

    experiment = spec.load(file, overrides)
    experiment = replace(experiment, name=experiment.name if name is None else name)
    directory = experiments.reserve(storage, experiment.name)
    console = Console(highlight=False)
    data = sources.load_training(experiment.data)
    sources.prepare_test(experiment.data, data)
    if skipped := data.skipped:
        words = "1 broken image file" if len(skipped) == 1 else f"{len(skipped)} broken image files"
        console.print(f"{words} left out: {'; '.join(skipped)}", markup=False, soft_wrap=True)
    if experiment.data.source != "digits":  # trials run in other folders
        rooted = experiment.data.model_copy(update={"root": str(sources.resolved_root(experiment.data))})
        experiment = replace(experiment, data=rooted)
    return _on_cluster(experiment, directory, data, address, console)


def _on_cluster(
    experiment: "Experiment",
    directory: "ExperimentDir",
    data: "TrainingData",
    address: str | None,
    console: "Console",
) -> "tuple[ExperimentDir, Evaluation]":
    from dataclasses import replace

    from tune import cluster, tracking, winner
    from tune import experiment as experiments
    from tune.progress import Progress
    from tune.report import write_report
    from tune.summary import Summary, print_closing

    began = time.monotonic()
    with cluster.connected(address) as nodes:
        share = cluster.share(experiment.resources, nodes, experiment.trainer.accelerator)
        if not share.gpus and experiment.trainer.accelerator == "auto":  # leave the GPUs to those who asked
            on_cpu = experiment.trainer.model_copy(update={"accelerator": "cpu"})
            experiment = replace(experiment, trainer=on_cpu)
        from tune.final import make_model_on_cluster
        from tune.search import search

        experiments.begin(directory, experiment, experiments.command_line(), data.fingerprint)
        tracked, note = tracking.resolve(experiment.tracking, experiment.name, directory.wandb)
        if note:
            console.print(note, markup=False)
        console.print(
            f"{experiment.name}: {experiment.search.trials} trials in {share.slots} slots of {share}; {directory.path}",
            markup=False,
            soft_wrap=True,
        )
        with Progress(experiment, share.slots, console) as progress:
            trials, traceback = search(experiment, directory, share, tracked, progress)
        chosen = winner.choose(experiment, trials, directory)
        if chosen is None:
            raise _failure(trials, traceback)
        searched = time.monotonic() - began
        cpus = max(node.cpus for node in nodes) if address is None else share.cpus
        try:
            with _told(console) as say:
                made = make_model_on_cluster(experiment, chosen, directory, tracked, cpus, share.gpus, say)
        except RetrainFailedError as error:
            message = f"the retrain failed: {error}; the winner is in {directory.winner}, its checkpoint untouched"
            raise RetrainFailedError(message, error.traceback) from None
    summary = Summary(
        experiment=experiment,
        directory=directory,
        trials=trials,
        winner=chosen,
        test=made.test,
        onnx_error=made.onnx_error,
        skipped=(*data.skipped, *made.test.skipped),
        search_seconds=searched,
        retrain_seconds=time.monotonic() - began - searched,
        classes=data.classes,
        shape=(data.channels, data.image_size, data.image_size),
    )
    write_report(summary)
    print_closing(summary, console)
    return directory, made.test


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
