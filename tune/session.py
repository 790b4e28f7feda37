"""One session of an experiment: begun, gone on with, or its model made anew; from the files to the closing table."""

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar.errors import UserError, first_line
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

Mode = Literal["new", "resume", "retry", "retrain"]


@dataclass(frozen=True)
class Where:
    """Where a search keeps its state, and where it runs; and whether it may read the test set again."""

    storage: str = "experiments"
    address: str | None = None
    study: str | None = None
    again: bool = False
    dashboard: bool = False


def run(
    file: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    where: Where,
    mode: Mode,
) -> "tuple[ExperimentDir, Evaluation]":
    """The whole of `python -m tune.run`, from reading `file` to the closing table.

    file: None for what the experiment `name` began with. mode: resume: go on with the experiment of that name; retry:
    with its failed trials too; retrain: make its model anew, of the trials as they are.

    Raises UserError for what the user can repair, SearchFailedError if no trial gave a value, RetrainFailedError if
    there is no model, InterruptedSearchError after Ctrl-C or SIGTERM.
    """
    from tune import fork_server

    starts_ray = where.address is None
    with fork_server.serving() if starts_ray else nullcontext() as python:  # before all else, since it takes longest
        job, console = _prepared(file, overrides, name, where, mode)
        return _on_cluster(job, python, console)


def _prepared(
    file: Path | None, overrides: tuple[str, ...], name: str | None, where: Where, mode: Mode
) -> "tuple[_Job, Console]":
    """What can be found out without the cluster, the user's mistakes first."""
    from dataclasses import replace

    from rich.console import Console

    from cifar import sources
    from tune import experiment as experiments
    from tune import images, ledger, spec
    from tune.open_study import check_study
    from tune.resume import check_same, reopen
    from tune.study_storage import absolute_url

    if where.study:
        where = replace(where, study=absolute_url(where.study))
    if file is None:
        assert name is not None, "an experiment that began has a name"
        directory = reopen(where.storage, name, mode)
        experiment = replace(spec.load(directory.spec, overrides), name=name)
    else:
        experiment = spec.load(file, overrides)
        experiment = replace(experiment, name=experiment.name if name is None else name)
        directory = (experiments.reserve if mode == "new" else reopen)(where.storage, experiment.name)
    if mode == "new":
        check_study(experiment, where.storage, where.study)
    console = Console(highlight=False)
    data = images.load(experiment.data)
    if skipped := data.skipped:
        words = f"broken image files left out: {len(skipped)} ({'; '.join(skipped)})"
        console.print(words, markup=False, soft_wrap=True)
    if experiment.data.source != "digits":  # trials run in other folders
        rooted = experiment.data.model_copy(update={"root": str(sources.resolved_root(experiment.data))})
        experiment = replace(experiment, data=rooted)
    if mode == "retrain" and not where.again and ledger.read(directory.ledger):
        raise ledger.second_reading(directory.ledger, "the model")
    before = None if mode == "new" else check_same(directory, experiment, data.fingerprint, where.study)
    return _Job(experiment, directory, data, where, mode, before), console


@dataclass(frozen=True)
class _Job:
    """What `run` has found out. before: the provenance of the search that is resumed."""

    experiment: "Experiment"
    directory: "ExperimentDir"
    data: "TrainingData"
    where: Where
    mode: Mode
    before: dict[str, Any] | None


def _on_cluster(job: _Job, python: str | None, console: "Console") -> "tuple[ExperimentDir, Evaluation]":
    from tune import cluster
    from tune.interrupts import resumable

    # around the cluster's end, too: the second of two signals may come then
    with (
        resumable(begun=job.mode != "new") as work,
        cluster.connected(job.where.address, python, dashboard=job.where.dashboard) as nodes,
    ):
        job, share = _begun(job, nodes)
        work.begun = True
        with job.directory.locked(), ExitStack() as closing:
            summary = _made(job, nodes, share, console, closing)
    from tune.summary import print_closing

    print_closing(summary, console)
    return job.directory, summary.test


def _begun(job: _Job, nodes: "list[Node]") -> "tuple[_Job, Share]":
    """What runs on these nodes, noted in the experiment directory, and a trial's share."""
    from dataclasses import replace

    from tune import cluster
    from tune import experiment as experiments
    from tune.study_storage import shown_url

    experiment = job.experiment
    share = cluster.share(experiment.resources, nodes, experiment.trainer.accelerator)
    cluster.check_devices(experiment.retrain.devices, share, nodes)
    if not share.gpus and experiment.trainer.accelerator == "auto":  # leave the GPUs to those who asked
        on_cpu = experiment.trainer.model_copy(update={"accelerator": "cpu"})
        experiment = replace(experiment, trainer=on_cpu)
    study = shown_url(job.where.study) if job.where.study else ""
    experiments.begin(job.directory, experiment, experiments.command_line(), job.data.fingerprint, job.before, study)
    return replace(job, experiment=experiment), share


def _made(job: _Job, nodes: "list[Node]", share: "Share", console: "Console", closing: ExitStack) -> "Summary":
    """Searches, makes the model and writes the report; `closing` ends what writes beside it."""
    from tune import cluster, images, ledger
    from tune.next_experiment import write_next
    from tune.recorded import known_experiment
    from tune.report.card import write_card
    from tune.report.page import write_report
    from tune.study_storage import Read
    from tune.summary import summary_of
    from tune.wandb_final import final_run
    from tune.wandb_process import writing

    experiment, directory, data = job.experiment, job.directory, job.data
    cluster.preflight(directory.place, nodes if job.where.address else [])  # else all is on this machine
    shared = images.share(data)
    tracked, record = _opened(job, console)
    tracked = closing.enter_context(writing(tracked, partial(console.print, markup=False, soft_wrap=True)))
    if job.mode == "retrain":
        if shown := cluster.dashboard_line(joined=job.where.address is not None):
            console.print(shown, markup=False, soft_wrap=True)
        trials = _known(job, record)
    else:
        trials, share = _searched(job, shared, nodes, share, tracked, record, console)
    made, fresh = _retrained(job, shared, nodes, share, tracked, record, trials, console)
    # one that was made before may have a reading since the last seal, noted before a kill
    if fresh or ledger.holds(directory.ledger, record.test_readings):
        record.test_readings = ledger.seal(directory.ledger, record.test_readings, made.test.reading)
    known = known_experiment(directory, experiment, Read(record.study))
    summary = summary_of(known)
    views: list[tuple[str, Callable[[], object]]] = [
        ("the model's card", lambda: write_card(summary)),
        ("the report", lambda: write_report(known)),
        ("next.yaml", lambda: write_next(known)),
        ("W&B's final run", lambda: tracked.tell(final_run(summary)) if tracked.mode else None),
    ]
    for what, show in views:
        _shown(what, show, console)
    directory.publish()
    return summary


def _shown(what: str, show: Callable[[], object], console: "Console") -> None:
    """Makes a view of what is finished: a fault in it costs that view. A disk that is full is the user's to know of."""
    try:
        show()
    except (UserError, OSError):
        raise
    except Exception as error:
        lacks = f"{what} could not be made: {type(error).__name__}: {first_line(error)}; the model is complete"
        console.print(lacks, markup=False, soft_wrap=True)


def _opened(job: _Job, console: "Console") -> "tuple[Tracking, StudyRecord]":
    """How trainings are tracked, and the study."""
    from tune import ledger, tracking
    from tune.open_study import open_study

    experiment, directory = job.experiment, job.directory
    tracked, note = tracking.resolve(experiment.tracking, experiment.name, directory.wandb)
    resume = job.mode != "new"
    record, notes = open_study(
        experiment, directory, job.where.storage, job.where.study, job.data.fingerprint, resume=resume
    )
    if not job.where.again:
        ledger.check(directory.ledger, record.test_readings)
    if job.mode == "retry":
        notes.append(f"failed trials that run again: {record.repeat_failed()}")
    if record.test_readings and not job.where.again:
        notes.append("the test set was read already: to make a model of another winner, --again will be needed")
    for line in filter(None, [note, *notes]):
        console.print(line, markup=False, soft_wrap=True)
    return tracked, record


def _searched(
    job: _Job,
    shared: "SharedImages",
    nodes: "list[Node]",
    share: "Share",
    tracked: "Tracking",
    record: "StudyRecord",
    console: "Console",
) -> "tuple[list[Trial], Share]":
    """The trials, and what each took."""
    from tune import cluster
    from tune.packing import packed
    from tune.progress import Progress
    from tune.search import search

    experiment, ended = job.experiment, len(record.ended())
    share, packing = packed(experiment, shared, nodes, share, experiment.trials - ended)
    record.slots = share.slots
    shown = cluster.dashboard_line(joined=job.where.address is not None)
    for line in filter(None, [packing, _opening(job, share, ended), shown]):
        console.print(line, markup=False, soft_wrap=True)
    with Progress(experiment, share.slots, console) as progress:
        trials, traceback = search(experiment, shared, job.directory, record, share, tracked, progress)
    if not any(trial.checkpoints for trial in trials if trial.state in {"completed", "stopped"}):
        raise _failure(trials, traceback)
    return trials, share


def _known(job: _Job, record: "StudyRecord") -> "list[Trial]":
    """The trials of a search that is over. Raises ResumeError if it is not."""
    from tune.checkpoints import checkpoints_of
    from tune.errors import ResumeError

    experiment, trials = job.experiment, record.trials()
    ended = len(record.ended())
    if ended < experiment.trials and not record.ended_because:
        raise ResumeError(
            f"retrain: the search of {experiment.name} is not over: {ended} of {experiment.trials} trials have ended; "
            "go on with it by --resume"
        )
    checkpoints_of(experiment, job.directory.place).recall(trials)
    return trials


def _opening(job: _Job, share: "Share", ended: int) -> str:
    """What is going to be searched, where, and how to look on meanwhile."""
    from tune.storage import open_storage

    experiment = job.experiment
    again = f", {ended} of them ended before" if job.before else ""
    slots = f"in {share.slots} slot{'s' * (share.slots != 1)} of {share}"
    status = ["python", "-m", "tune", "status", experiment.name]
    status += ["--storage", open_storage(job.where.storage).uri] if job.where.storage != Where.storage else []
    return (
        f"{experiment.name}: {experiment.trials} trials{again}, {slots}; {job.directory.place.uri}\n"
        f"to look on: {shlex.join(status)}\n"
        f"            tensorboard --logdir {shlex.quote(str(job.directory.trials))}"
    )


def _retrained(
    job: _Job,
    shared: "SharedImages",
    nodes: "list[Node]",
    share: "Share",
    tracked: "Tracking",
    record: "StudyRecord",
    trials: "list[Trial]",
    console: "Console",
) -> "tuple[Made, bool]":
    """The winner's model, and whether that was made now."""
    from tune import winner as winners
    from tune.experiment import command_line
    from tune.final import make_model
    from tune.jobs import run_jobs
    from tune.last_mile import LastMile
    from tune.progress import MileProgress

    experiment, directory, anew = job.experiment, job.directory, job.mode == "retrain"
    began, before = time.monotonic(), 0.0 if anew else record.retrain_seconds

    def train(jobs: Any, done: Any) -> None:
        run_jobs(jobs, experiment, shared, directory, tracked, share, done)

    fresh, mile = False, None
    try:
        with MileProgress(experiment, trials, share.slots, before, console) as progress:
            say = progress.say
            mile = LastMile(experiment, directory, record, train, say)
            progress.results = mile.results
            winner = mile.winner(trials)
            if winner is None:
                raise SearchFailedError("no trial has both a value and a checkpoint", "")
            made = None if anew else winners.already_made(experiment, winner, directory)
            if made is not None:
                mile.write(winner, len(trials))
                return made, fresh
            readings = winners.check_unread(
                experiment, winner, directory, record.test_readings, again=job.where.again, anew=anew
            )
            mile.write(winner, len(trials))
            alone = job.where.address is None and experiment.retrain.devices == 1  # with the machine to itself
            cpus = max(node.cpus for node in nodes) if alone else share.cpus
            fresh = True
            train_it = anew or winners.reading_of(experiment, winner, directory) is None
            common = (experiment, shared, winner, directory, tracked, readings)
            made = make_model(*common, cpus, share.gpus, say, train=train_it)
            mile.tidy(winner)
    except RetrainFailedError as error:
        message = f"the retrain failed: {error}; what the trials gave is kept, to go on: {command_line(resume=True)}"
        raise RetrainFailedError(message, error.traceback) from None
    finally:
        if fresh or (mile and mile.ran):
            record.retrain_seconds = before + time.monotonic() - began
    directory.fetch()
    return made, fresh


def _failure(trials: "list[Trial]", traceback: str) -> Exception:
    """Why a search gave no winner: the user's mistake where a trial named one, else the first traceback."""
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed and failed[0].users_mistake:
        return UserError(failed[0].reason.partition(": ")[2])
    ended = [*failed, *trials]
    first = ended[0].reason if ended else "none was started"
    return SearchFailedError(f"none of {len(trials)} trials gave a value; the first: {first}", traceback)
