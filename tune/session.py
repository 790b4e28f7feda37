"""One session of an experiment: begun, gone on with, or its model made anew; from the files to the closing table."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar.errors import UserError, first_line

if TYPE_CHECKING:
    from rich.console import Console

    from cifar.sources import TrainingData
    from tune.cluster import Node, Share
    from tune.evaluation import Evaluation
    from tune.experiment import ExperimentDir
    from tune.spec import Experiment
    from tune.study import StudyRecord
    from tune.summary import Summary
    from tune.tracking import Tracking

Mode = Literal["new", "resume", "restart", "retry", "retrain"]


@dataclass(frozen=True)
class Where:
    """Where a search keeps its state, and where it runs; and whether it may read the test set again."""

    storage: str = "experiments"
    address: str | None = None
    study: str | None = None
    again: bool = False
    dashboard: bool = False
    dashboard_host: str = "127.0.0.1"

    @property
    def elsewhere(self) -> bool:
        """Whether the storage is not the one that commands look at unless told."""
        return self.storage != Where.storage


@dataclass(frozen=True)
class Job:
    """What `run` has found out. before: the provenance of the search that is resumed."""

    experiment: "Experiment"
    directory: "ExperimentDir"
    data: "TrainingData"
    where: Where
    mode: Mode
    before: dict[str, Any] | None


def run(
    file: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    where: Where,
    mode: Mode,
) -> "tuple[ExperimentDir, Evaluation]":
    """The whole of `python -m tune.run`, from reading `file` to the closing table.

    file: None for what the experiment `name` began with. mode: resume: go on with the experiment of that name; restart:
    if it has begun, else begin it; retry: with its failed trials too; retrain: make its model anew, of the trials as
    they are.

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
) -> "tuple[Job, Console]":
    """What can be found out without the cluster, the user's mistakes first."""
    from dataclasses import replace

    from rich.console import Console

    from cifar import sources
    from tune import experiment as experiments
    from tune import images, ledger, spec
    from tune.open_study import check_study
    from tune.resume import check_same, has_begun, reopen
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
        if mode == "restart":
            mode = "resume" if has_begun(where.storage, experiment.name) else "new"
        directory = (experiments.reserve if mode == "new" else reopen)(where.storage, experiment.name)
    if mode == "new":
        check_study(experiment, where.storage, where.study)
    console = Console(highlight=False, emoji=False)
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
    return Job(experiment, directory, data, where, mode, before), console


def _on_cluster(job: Job, python: str | None, console: "Console") -> "tuple[ExperimentDir, Evaluation]":
    from tune import cluster
    from tune.capacity import with_room
    from tune.interrupts import resumable

    shown = job.where.dashboard_host if job.where.dashboard else None
    # around the cluster's end, too: the second of two signals may come then
    with (
        resumable(begun=job.mode != "new") as work,
        cluster.connected(job.where.address, python, dashboard=shown) as nodes,
    ):
        nodes = with_room(job.experiment.resources, nodes, job.experiment.trainer.accelerator, _saying(console))
        job, share = _begun(job, nodes)
        work.begun = True
        with job.directory.locked(), ExitStack() as closing:
            summary = _made(job, nodes, share, console, closing)
    from tune.summary import print_closing

    print_closing(summary, console)
    return job.directory, summary.test


def _begun(job: Job, nodes: "list[Node]") -> "tuple[Job, Share]":
    """What runs on these nodes, noted in the experiment directory, and a trial's share."""
    from dataclasses import replace

    from tune import cluster
    from tune import experiment as experiments
    from tune.study_storage import shown_url

    experiment = job.experiment
    share = cluster.share(experiment.resources, nodes, experiment.trainer.accelerator)
    cluster.check_devices(experiment.retrain.devices, share, nodes, experiment.resources)
    if not share.gpus and experiment.trainer.accelerator == "auto":  # leave the GPUs to those who asked
        on_cpu = experiment.trainer.model_copy(update={"accelerator": "cpu"})
        experiment = replace(experiment, trainer=on_cpu)
    study = shown_url(job.where.study) if job.where.study else ""
    experiments.begin(job.directory, experiment, experiments.command_line(), job.data.fingerprint, job.before, study)
    return replace(job, experiment=experiment), share


def _made(job: Job, nodes: "list[Node]", share: "Share", console: "Console", closing: ExitStack) -> "Summary":
    """Searches, makes the model and shows what came of it; `closing` ends what writes beside it."""
    from tune import cluster, images, ledger
    from tune.stages import Stages
    from tune.wandb_process import writing

    directory, say = job.directory, _saying(console)
    cluster.preflight(directory.place, nodes if job.where.address else [])  # else all is on this machine
    shared = images.share(job.data)
    tracked, record = _opened(job, say)
    tracked = closing.enter_context(writing(tracked, say))
    stages = Stages(job, shared, nodes, share, tracked, record, console, say)
    trials = stages.known() if job.mode == "retrain" else stages.searched()
    made, fresh = stages.retrained(trials)
    # one that was made before may have a reading since the last seal, noted before a kill
    if fresh or ledger.holds(directory.ledger, record.test_readings):
        record.test_readings = ledger.seal(directory.ledger, record.test_readings, made.test.reading)
    return _shown(job, record, tracked, say)


def _saying(console: "Console") -> Callable[[str], None]:
    """Lines of whatever length, with nothing in them taken for more than text."""
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def _opened(job: Job, say: Callable[[str], None]) -> "tuple[Tracking, StudyRecord]":
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
        say(line)
    return tracked, record


def _shown(job: Job, record: "StudyRecord", tracked: "Tracking", say: Callable[[str], None]) -> "Summary":
    """Leaves the card, the report, next.yaml and W&B's final run; what they need is imported only now."""
    from tune.next_experiment import write_next
    from tune.recorded import known_experiment
    from tune.report.card import write_card
    from tune.report.page import write_report
    from tune.study_storage import Read
    from tune.summary import summary_of
    from tune.wandb_final import final_run

    known = known_experiment(job.directory, job.experiment, Read(record.study))
    summary = summary_of(known)
    views: list[tuple[str, Callable[[], object]]] = [
        ("the model's card", lambda: write_card(summary)),
        ("the report", lambda: write_report(known)),
        ("next.yaml", lambda: write_next(known)),
        ("W&B's final run", lambda: tracked.tell(final_run(summary)) if tracked.mode else None),
    ]
    for what, show in views:
        _show(what, show, say)
    job.directory.publish()
    return summary


def _show(what: str, show: Callable[[], object], say: Callable[[str], None]) -> None:
    """Makes a view of what is finished: a fault in it costs that view. A disk that is full is the user's to know of."""
    try:
        show()
    except (UserError, OSError):
        raise
    except Exception as error:
        say(f"{what} could not be made: {type(error).__name__}: {first_line(error)}; the model is complete")
