"""The stages of a session: the search, and the last mile from its trials to the model."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar.errors import UserError
from tune import cluster
from tune.checkpoints import checkpoints_of
from tune.errors import ResumeError, RetrainFailedError, SearchFailedError
from tune.experiment import command_line
from tune.progress import MileProgress, Progress
from tune.storage import open_storage

if TYPE_CHECKING:
    from rich.console import Console

    from tune.cluster import Node, Share
    from tune.images import SharedImages
    from tune.session import Job
    from tune.study import StudyRecord
    from tune.tracking import Tracking
    from tune.trials import Trial
    from tune.winner import Made


@dataclass
class Stages:
    """What all stages work with. share: of a trial, which the search may find to be another one."""

    job: "Job"
    shared: "SharedImages"
    nodes: "list[Node]"
    share: "Share"
    tracked: "Tracking"
    record: "StudyRecord"
    console: "Console"
    say: Callable[[str], None]

    def searched(self) -> "list[Trial]":
        """Runs what is left of the search; all its trials.

        Raises SearchFailedError, or the user's mistake, if none of them gave a checkpoint.
        """
        from tune.packing import packed
        from tune.search import search

        job, record = self.job, self.record
        experiment, ended = job.experiment, len(record.ended())
        self.share, packing = packed(experiment, self.shared, self.nodes, self.share, experiment.trials - ended)
        record.slots = self.share.slots
        for line in filter(None, [packing, self._opening(ended), self._dashboard]):
            self.say(line)
        with Progress(experiment, self.share.slots, self.console) as progress:
            trials, traceback = search(
                experiment, self.shared, job.directory, record, self.share, self.tracked, progress
            )
        if not any(trial.checkpoints for trial in trials if trial.state in {"completed", "stopped"}):
            raise _failure(trials, traceback)
        return trials

    def known(self) -> "list[Trial]":
        """The trials of a search that is over. Raises ResumeError if it is not."""
        if self._dashboard:
            self.say(self._dashboard)
        experiment, trials = self.job.experiment, self.record.trials()
        ended = len(self.record.ended())
        if ended < experiment.trials and not self.record.ended_because:
            raise ResumeError(
                f"retrain: the search of {experiment.name} is not over: {ended} of {experiment.trials} trials have "
                "ended; go on with it by --resume"
            )
        checkpoints_of(experiment, self.job.directory.place).recall(trials)
        return trials

    @property
    def _dashboard(self) -> str:
        """Where Ray's dashboard is, in a line."""
        return cluster.dashboard_line(joined=self.job.where.address is not None, host=self.job.where.dashboard_host)

    def _opening(self, ended: int) -> str:
        """What is going to be searched, where, and how to look on meanwhile."""
        job, share = self.job, self.share
        experiment = job.experiment
        again = f", {ended} of them ended before" if job.before else ""
        slots = f"in {share.slots} slot{'s' * (share.slots != 1)} of {share}"
        status = ["python", "-m", "tune", "status", experiment.name]
        status += ["--storage", open_storage(job.where.storage).uri] if job.where.elsewhere else []
        return (
            f"{experiment.name}: {experiment.trials} trials{again}, {slots}; {job.directory.place.uri}\n"
            f"to look on: {shlex.join(status)}\n"
            f"            tensorboard --logdir {shlex.quote(str(job.directory.trials))}"
        )

    def retrained(self, trials: "list[Trial]") -> "tuple[Made, bool]":
        """The winner's model, and whether that was made now. Raises SearchFailedError if no trial can win."""
        from tune import winner as winners
        from tune.final import make_model
        from tune.jobs import run_jobs
        from tune.last_mile import LastMile

        job, record = self.job, self.record
        experiment, directory, anew = job.experiment, job.directory, job.mode == "retrain"
        began, before = time.monotonic(), 0.0 if anew else record.retrain_seconds

        def train(jobs: Any, done: Any) -> None:
            run_jobs(jobs, experiment, self.shared, directory, self.tracked, self.share, done)

        fresh, mile = False, None
        try:
            with MileProgress(experiment, trials, self.share.slots, before, self.console) as progress:
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
                cpus = max(node.cpus for node in self.nodes) if alone else self.share.cpus
                fresh = True
                train_it = anew or winners.reading_of(experiment, winner, directory) is None
                common = (experiment, self.shared, winner, directory, self.tracked, readings)
                made = make_model(*common, cpus, self.share.gpus, say, train=train_it)
                mile.tidy(winner)
        except RetrainFailedError as error:
            message = (
                f"the retrain failed: {error}; what the trials gave is kept, to go on: {command_line(resume=True)}"
            )
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
