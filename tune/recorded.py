"""An experiment as its directory tells it, running or finished: what every view of it is made of."""

import json
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from tune import spec, yaml_file
from tune.errors import StorageError
from tune.evaluation import Evaluation
from tune.experiment import ExperimentDir
from tune.last_mile import Winner, read_winner
from tune.limits import Limits
from tune.noted import Noted, own_trials
from tune.resume import reopen
from tune.spec import RECORD, Experiment
from tune.standing import Standing
from tune.storage import open_storage
from tune.study_storage import Read, recorded
from tune.trials import ENDED, Trial

State = Literal["running", "interrupted", "finished"]


@dataclass(frozen=True)
class Recorded:
    """One experiment. running: whether a process of this machine runs it now.

    trials: as the study has them; of those without an end, the ones that have a slot are running, the others paused;
    of audits the same.
    """

    directory: ExperimentDir
    experiment: Experiment
    provenance: dict[str, Any]
    study: Read
    running: bool

    @property
    def name(self) -> str:
        """The experiment's."""
        return self.experiment.name

    @cached_property
    def trials(self) -> list[Trial]:
        """In the order of their numbers; without those that were proposed ahead, and have not begun."""
        known = own_trials(self.study.trials, self.study.attributes)
        trials = [trial for trial in known if trial.begun or trial.state in ENDED]
        for trial in trials if self.running else ():
            if trial.state == "paused" and trial.begun and not trial.waits_at(self.experiment.scheduler.pauses):
                trial.state = "running"
        if self.running:
            self._run_audits(trials)
        return trials

    def _run_audits(self, trials: Collection[Trial]) -> None:
        """Of the audits that were given a slot and did not end, as many run as the trials leave slots for."""
        room = (self.slots or 1) - sum(trial.state == "running" for trial in trials)
        begun = [t.audit for t in trials if t.audit and t.audit.state == "paused" and t.audit.attempts > t.attempts]
        for audit in begun[: max(0, room)]:
            audit.state = "running"

    @cached_property
    def winner(self) -> Winner | None:
        """The trial that becomes the model, once that is known."""
        if not self.directory.winner.exists():
            return None
        record, _ = yaml_file.read(self.directory.winner)
        known = {trial.number: replace(trial, checkpoints=dict(trial.checkpoints)) for trial in self.trials}
        try:
            return read_winner(record, self.experiment.retrain, known)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"{self.directory.winner}: is no record of a winner of this version ({error!r})"
            ) from None

    @cached_property
    def standing(self) -> Standing:
        """Of the search, as it is recorded; while it runs, as it will have gone on since."""
        search, elapsed = self.experiment.search, self.search_seconds
        if self.running and any(trial.in_slot for trial in self.trials):
            elapsed += self._unwritten
        limits = Limits(search, elapsed)
        if search.patience is not None:
            limits.recall(self.trials)
        if not self._live:  # else it is being extended
            limits.reason = self._noted.ended_because
        standing = Standing(self.experiment, self.slots, limits, elapsed)
        standing.recall(self.trials)
        return standing

    @property
    def _live(self) -> bool:
        """Whether a trial, or an audit that this machine runs, is to train on."""
        audits = [trial.audit for trial in self.trials if trial.audit is not None] if self.running else []
        return any(one.state not in ENDED for one in (*self.trials, *audits))

    @property
    def _unwritten(self) -> float:
        """Seconds since the study was written to."""
        if self.directory.remote is None:
            with suppress(OSError):
                return max(0.0, time.time() - self.directory.journal.stat().st_mtime)
        return 0.0

    @cached_property
    def _noted(self) -> Noted:
        return Noted(self.study.attributes)

    @cached_property
    def searched(self) -> bool:
        """Whether the search is over."""
        return not self._live and (self.standing.ended >= self.standing.planned or bool(self._noted.ended_because))

    @property
    def ended_because(self) -> str:
        """Which limit ended the search before its last trial, once it is over; empty where none did."""
        return self._noted.ended_because if self.searched else ""

    @property
    def state(self) -> State:
        """running: by a process of this machine. finished: with its model. Else interrupted."""
        if self.running:
            return "running"
        return "finished" if self.searched and self.metrics is not None else "interrupted"

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        """What metrics.json says of the model of the winner, once that is made; one of an earlier winner is none."""
        told, winner = self._metrics, self.winner
        if told is None or winner is None or told.get("made_from") != winner.made_from(self.experiment):
            return None
        return told

    @property
    def _metrics(self) -> dict[str, Any] | None:
        file = self.directory.model / "metrics.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError) as error:
            raise StorageError(f"{file}: cannot be read ({error})") from None

    @property
    def test(self) -> Evaluation | None:
        """What the test set said of the model, once it was read. Raises StorageError if another version wrote it."""
        if self.metrics is None:
            return None
        try:
            return Evaluation(**self.metrics["test"])
        except (KeyError, TypeError) as error:
            file = self.directory.model / "metrics.json"
            raise StorageError(f"{file}: is no record of a model of this version ({error!r})") from None

    @property
    def results(self) -> dict[str, Any]:
        """What the trainings of the last mile gave, by the key that each was noted under."""
        return self._noted.results

    @property
    def slots(self) -> int | None:
        """How many trials fitted at once, when the search began last."""
        return self._noted.slots

    @property
    def slot_seconds(self) -> float:
        """Seconds of all slots together that the search has had."""
        return self._noted.slot_seconds(self.search_seconds)

    @property
    def search_seconds(self) -> float:
        """Seconds that the search has run in all its sessions, as far as is recorded."""
        return self._noted.elapsed(self.trials)

    @property
    def retrain_seconds(self) -> float:
        """Seconds that the last mile took."""
        return self._noted.retrain_seconds


def read_experiment(storage: str, name: str, asks: str, study: str | None = None, *, light: bool = False) -> Recorded:
    """The experiment `name` of a folder or URI. asks: the command that wants it, to be named in errors.
    study: the database of its study, where that is behind a password.

    light: without the files of its model, where those would have to be fetched.

    Raises ResumeError if there is none of that name, or its study is behind a password that is missing;
    StorageError if it cannot be read.
    """
    directory = reopen(storage, name, asks, read_only=True, light=light)
    experiment = replace(spec.load(directory.spec), name=name)
    provenance, read = recorded(directory, f"{asks}: {name}", study)
    return Recorded(directory, experiment, provenance, read, directory.is_locked())


def known_experiment(directory: ExperimentDir, experiment: Experiment, study: Read) -> Recorded:
    """The same for the process that runs it, which has its study open."""
    provenance = yaml_file.read(directory.spec)[0][RECORD]
    return Recorded(directory, experiment, provenance, study, running=False)


def names(storage: str) -> Collection[str]:
    """Of all experiments that began in a folder or at a URI, in order. Raises StorageError if it cannot be read."""
    where = open_storage(storage)
    try:
        if not where.exists(""):
            return []
        return sorted(name for name in where.list("") if where.exists(f"{name}/experiment.yaml"))
    except OSError as error:
        raise where.complaint(error) from None
