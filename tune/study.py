"""The Optuna study: the one record of every trial, value by value, from which an interrupted search goes on."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState

from cifar.hparams import HParams
from tune.errors import NameTakenError, StorageError
from tune.space import Space
from tune.trials import State, Trial

# What the study calls a trial that ended so.
_STUDY_STATES: dict[State, TrialState] = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
_SYNC_EVERY_S = 1.0
_DROPPED = "dropped"  # state of a trial that was never begun
_FROM = "from"  # attribute of a trial of an earlier experiment: which


def journal_storage(journal: Path) -> BaseStorage:
    """The storage of a study in a file; what a crash left half-written at its end is cut off."""
    _repair(journal)
    return JournalStorage(Journal(str(journal)))


class Journal(JournalFileBackend):
    """Optuna's file, where a line is with the operating system at once, and on the disk within a second.

    So a process that is killed loses nothing, and a machine that goes down a second; waiting for the disk at each of a
    trial's twenty lines took longer than all else that the driver does.
    """

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path)
        self._synced = time.monotonic()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock), open(self._file_path, "ab") as file:
            file.write(lines.encode("utf-8"))
            file.flush()
            if time.monotonic() - self._synced > _SYNC_EVERY_S:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def _repair(journal: Path) -> None:
    """Cuts off an incomplete last line, and takes away the lock of a process that was killed.

    Only for the one process that may write the study: the experiment directory's lock says which.
    """
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink()
    with suppress(FileNotFoundError), journal.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def url_storage(url: str) -> BaseStorage:
    """The storage of a study in a database, as SQLAlchemy names it: postgresql://…, mysql://…, sqlite:///….

    Raises StorageError if it cannot be reached; the message hides the password.
    """
    from sqlalchemy.exc import SQLAlchemyError

    shown = shown_url(url)
    try:
        return RDBStorage(url)
    except ImportError as error:
        module = getattr(error.__cause__ or error, "name", None) or str(error)
        raise StorageError(f"--study {shown}: needs the package {module}; pip install it") from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StorageError(f"--study {shown}: {reason}; check the URL and that the database runs") from None


def shown_url(url: str) -> str:
    """A database's URL without its password. Raises StorageError if it is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        # not shown: it may hold a password
        rule = "must be a database URL, as in sqlite:///study.db or postgresql://user@host/name"
        raise StorageError(f"--study: {rule}") from None


def absolute_url(url: str) -> str:
    """A database's URL that means the same in every folder. Raises StorageError if it is none."""
    from sqlalchemy.engine import make_url

    shown_url(url)
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    return parsed.set(database=str(Path(parsed.database or "").resolve())).render_as_string(hide_password=False)


def holds(url: str, name: str) -> bool:
    """Whether the database holds a study of that name. Raises StorageError if it cannot be read."""
    return name in optuna.get_all_study_names(url_storage(url))


def check_unused(url: str, name: str) -> None:
    """Raises NameTakenError if the database holds a study of that name, StorageError if it cannot be read."""
    if holds(url, name):
        raise _taken(name)


def _taken(name: str) -> NameTakenError:
    return NameTakenError(f"the study {name} exists; choose another --name, or go on with --resume")


class StudyRecord:
    """One experiment's study. Every method that writes raises OSError if it cannot be written."""

    def __init__(self, storage: BaseStorage, name: str, sampler: BaseSampler, *, maximize: bool, resume: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.maximize = maximize
        try:
            with _as_os_error():
                self.study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    sampler=sampler,
                    direction="maximize" if maximize else "minimize",
                    load_if_exists=resume,
                )
        except DuplicatedStudyError:
            raise _taken(name) from None
        self._handles: dict[int, optuna.Trial] = {}

    def trials(self) -> list[Trial]:
        """Every trial that was proposed here and not dropped, as the study knows it; one without an end is paused."""
        mine = [trial for trial in self.study.get_trials(deepcopy=False) if _FROM not in trial.user_attrs]
        return [_trial(trial) for trial in mine if "hparams" in trial.user_attrs and not _dropped(trial)]

    def ended(self) -> list[int]:
        """Numbers of the trials that ended, in the order of their ends."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.datetime_complete]
        ended = [trial for trial in ended if _FROM not in trial.user_attrs and not _dropped(trial)]
        return [trial.number for trial in sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))]

    def mend(self, space: Space) -> None:
        """Draws what is missing of trials whose proposal was interrupted."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "hparams" not in trial.user_attrs:
                self._draw(optuna.Trial(self.study, trial._trial_id), space)

    def propose(self, space: Space) -> Trial:
        """A new trial: the first of those enqueued, else as the sampler says."""
        with _as_os_error():
            return self._draw(self.study.ask(), space)

    def _draw(self, handle: optuna.Trial, space: Space) -> Trial:
        hparams = HParams(**space.draw(handle)).model_dump()
        handle.set_user_attr("hparams", hparams)
        self._handles[handle.number] = handle
        return _trial(self.study._storage.get_trial(handle._trial_id))

    def enqueue(self, params: Mapping[str, Any], **attributes: Any) -> None:
        """Puts a point, whole or in part, before what the sampler would propose."""
        with _as_os_error():
            self.study.enqueue_trial(dict(params), user_attrs=attributes)

    def teach(self, trial: FrozenTrial) -> None:
        """Adds a trial of an earlier experiment, for the sampler alone."""
        with _as_os_error():
            self.study.add_trial(trial)

    def learned_from(self, source: str) -> set[int]:
        """Numbers of the trials of the earlier experiment `source` that were added."""
        added = [
            trial.user_attrs[_FROM] for trial in self.study.get_trials(deepcopy=False) if _FROM in trial.user_attrs
        ]
        return {number for name, number in added if name == source}

    def plan(self, points: list[dict[str, Any]]) -> None:
        """Enqueues points to begin with, those left out that an earlier session enqueued."""
        trials = self.study.get_trials(deepcopy=False)
        planned = sum(1 for trial in trials if "start" in trial.user_attrs)
        for index, point in list(enumerate(points))[planned:]:
            self.enqueue(point, start=index)

    def repeat_failed(self) -> int:
        """Enqueues the trials that gave nothing and that no other trial repeats. Returns how many.

        Those that failed, and those that were stopped before their first value, since too many failed.
        """
        trials = self.study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get("replaces") for trial in trials}
        states = {trial.number: trial.user_attrs.get("state") for trial in trials if trial.number not in repeated}
        failed = [
            trial
            for trial in trials
            if states.get(trial.number) == "failed"
            or (states.get(trial.number) == "stopped" and not trial.intermediate_values)
        ]
        for trial in failed:
            self.enqueue(trial.params, replaces=trial.number)
        return len(failed)

    def is_enqueued(self, **attributes: Any) -> bool:
        """Whether a point waits that has these attributes; ... stands for any value."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any(
            all(
                name in trial.user_attrs and value in (..., trial.user_attrs[name])
                for name, value in attributes.items()
            )
            for trial in waiting
        )

    def drop(self, number: int) -> None:
        """Ends a trial that was proposed and will not be begun; nobody counts it."""
        self.note(number, state=_DROPPED)
        with _as_os_error():
            self.study.tell(self._handle(number), state=TrialState.FAIL)

    def report(self, number: int, epoch: int, value: float) -> None:
        """A trial's finite value after `epoch`."""
        with _as_os_error():
            self._handle(number).report(value, step=epoch)

    def note(self, number: int, **attributes: Any) -> None:
        """Attributes of a trial, by name."""
        with _as_os_error():
            for name, value in attributes.items():
                self._handle(number).set_user_attr(name, value)

    def end(self, trial: Trial) -> None:
        """A trial's end: state, reason, and of a completed one the best value, for which it may be chosen."""
        told = {"state": trial.state, "reason": trial.reason, "seconds": trial.seconds, "elapsed": trial.ended_at}
        self.note(trial.number, **told)
        state, best = _STUDY_STATES[trial.state], trial.best(self.maximize)
        if state is TrialState.COMPLETE and best is None:
            state = TrialState.FAIL
        with _as_os_error():
            self.study.tell(
                self._handle(trial.number), best[1] if best and state is TrialState.COMPLETE else None, state
            )
        self._handles.pop(trial.number, None)

    @property
    def elapsed(self) -> float:
        """Seconds that the search has run, in all its sessions."""
        known = [float(self.study.user_attrs.get("elapsed_s", 0.0))]
        for trial in self.trials():  # where a session was killed
            known += [*trial.saved_at.values(), trial.ended_at or 0.0]
        return max(known)

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        with _as_os_error():
            self.study.set_user_attr("elapsed_s", round(seconds, 3))

    @property
    def retrain_seconds(self) -> float:
        """Seconds that the retrain of the winner took, in whichever session."""
        return float(self.study.user_attrs.get("retrain_s", 0.0))

    @retrain_seconds.setter
    def retrain_seconds(self, seconds: float) -> None:
        with _as_os_error():
            self.study.set_user_attr("retrain_s", round(seconds, 3))

    @property
    def ended_because(self) -> str:
        """Which limit ended the search before its last trial; empty where none did."""
        return str(self.study.user_attrs.get("ended_because", ""))

    @ended_because.setter
    def ended_because(self, reason: str) -> None:
        with _as_os_error():
            self.study.set_user_attr("ended_because", reason)

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._handles:
            trial_id = self.study.get_trials(deepcopy=False)[number]._trial_id
            self._handles[number] = optuna.Trial(self.study, trial_id)
        return self._handles[number]


@contextmanager
def _as_os_error() -> Iterator[None]:
    """A database that cannot be written is the same trouble as a disk that cannot be written."""
    try:
        yield
    except StorageInternalError as error:
        raise OSError(str(error.__cause__ or error).strip().splitlines()[0]) from error


def _dropped(frozen: FrozenTrial) -> bool:
    return bool(frozen.user_attrs.get("state") == _DROPPED)


def _trial(frozen: FrozenTrial) -> Trial:
    """A trial as its attributes tell it."""
    known = frozen.user_attrs
    trial = Trial(frozen.number, known["hparams"], state=known.get("state", "paused"))
    if not frozen.state.is_finished():  # its end was about to be written
        trial.state = "paused"
    trial.values = dict(sorted(frozen.intermediate_values.items()))
    trial.reason = known.get("reason", "")
    trial.attempts, trial.lost = known.get("attempts", 0), known.get("lost", 0)
    trial.alone = known.get("alone", False)
    trial.replaces = known.get("replaces")
    trial.instead_of = known.get("instead_of")
    trial.parent = tuple(known["parent"]) if "parent" in known else None
    trial.seconds, trial.ended_at = known.get("seconds", 0.0), known.get("elapsed")
    for name, value in known.items():
        what, _, epoch = name.partition(" ")
        if what == "rung" and epoch:
            trial.judged[int(epoch)] = value
        elif what == "epoch" and epoch:
            trial.checkpoints[int(epoch)] = value["checkpoint"]
            trial.saved_at[int(epoch)] = value["elapsed"]
            trial.seconds = max(trial.seconds, value["seconds"])
            trial.busy = max(trial.busy, value.get("busy", 0.0))
    trial.checkpoints = dict(sorted(trial.checkpoints.items()))
    return trial


def read_journal(journal: Path) -> tuple[str, list[FrozenTrial]]:
    """Name and trials of the study in a finished experiment's journal, which is left as it is.

    Raises StorageError if there is none to read.
    """
    try:
        storage = JournalStorage(_ReadOnly(str(journal)))
        (name,) = optuna.get_all_study_names(storage)
        return name, optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{journal}: no study can be read there ({error})") from None


def read_database(url: str, name: str) -> list[FrozenTrial]:
    """The trials of an earlier experiment's study in a database. Raises StorageError if there is none of that name."""
    try:
        return optuna.load_study(study_name=name, storage=url_storage(url)).get_trials(deepcopy=False)
    except KeyError:
        raise StorageError(f"{shown_url(url)}: there is no study {name} there") from None


class _ReadOnly(JournalFileBackend):
    """A journal that is not created where it is missing."""

    def __init__(self, file_path: str) -> None:
        Path(file_path).open("rb").close()
        super().__init__(file_path)
