"""Where studies are kept: in a journal, which is a file of the experiment, or in a database."""

import copy
import io
import json
import os
import time
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState

from tune import yaml_file
from tune.errors import NameTakenError, ResumeError, StorageError
from tune.experiment import ExperimentDir
from tune.journal import folded, read_lines
from tune.spec import RECORD

_SYNC_EVERY_S = 1.0


def journal_storage(journal: Path) -> BaseStorage:
    """The storage of a study in a file; what a crash left half-written at its end is cut off."""
    _repair(journal)
    return StudyJournal(Journal(str(journal)))


class StudyJournal(JournalStorage):
    """Optuna's storage of one study, which knows where to look for trials that wait: Optuna asks before each proposal.

    Once one does not wait it never will again, and there may be thousands of those.
    """

    def __init__(self, backend: "Journal") -> None:
        super().__init__(backend)
        self._waiting: list[int] = []
        self._looked_at = 0

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        if states != (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        with self._thread_lock:
            self._sync_with_backend()
            ids = self._replay_result._study_id_to_trial_ids[study_id]
            known = [self._replay_result.get_trial(one) for one in (*self._waiting, *ids[self._looked_at :])]
            self._looked_at = len(ids)
            waiting = [trial for trial in known if trial.state is TrialState.WAITING]
            self._waiting = [trial._trial_id for trial in waiting]
            return copy.deepcopy(waiting) if deepcopy else waiting


class Journal(JournalFileBackend):
    """Optuna's file, where a line is with the operating system at once, and on the disk within a second.

    So a process that is killed loses nothing, and a machine that goes down a second; waiting for the disk at each of a
    trial's twenty lines took longer than all else that the driver does.
    """

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path)
        self._synced = time.monotonic()
        self._is_locked = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Several lines under one lock, which takes longer than to write one."""
        if self._is_locked:
            yield
            return
        with get_lock_file(self._lock):
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.locked(), open(self._file_path, "ab") as file:
            file.write(lines.encode("utf-8"))
            file.flush()
            if time.monotonic() - self._synced > _SYNC_EVERY_S:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def together(storage: BaseStorage) -> AbstractContextManager[None]:
    """For what is written to `storage` together."""
    backend = getattr(storage, "_backend", None)
    return backend.locked() if isinstance(backend, Journal) else nullcontext()


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
        raise taken(name)


def taken(name: str) -> NameTakenError:
    """The error of a name that a study has already."""
    return NameTakenError(f"the study {name} exists; choose another --name, or go on with --resume")


@dataclass(frozen=True)
class Read:
    """A study as it is kept."""

    study: optuna.Study

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """As they are when this is asked first."""
        return self.study.get_trials(deepcopy=False)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The study's own."""
        return self.study.user_attrs


def read_journal(journal: Path) -> Read:
    """The study in an experiment's journal, which is left as it is; one that is written to meanwhile, as far as it is.

    Raises StorageError if there is none to read.
    """
    try:
        storage = JournalStorage(_Snapshot(folded(read_lines(journal))))
        (name,) = optuna.get_all_study_names(storage)
        study = Read(optuna.load_study(study_name=name, storage=storage))
        _ = study.trials  # read here, where what is wrong with them is told
        return study
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise StorageError(f"{journal}: no study can be read there ({error})") from None


def live_journal(journal: Path) -> Read:
    """The same, which goes on as the journal does. Raises StorageError if there is none to read."""
    try:
        storage = JournalStorage(_ReadOnly(str(journal)))
        (name,) = optuna.get_all_study_names(storage)
        return Read(optuna.load_study(study_name=name, storage=storage))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise StorageError(f"{journal}: no study can be read there ({error})") from None


def read_database(url: str, name: str) -> Read:
    """An earlier experiment's study in a database. Raises StorageError if there is none of that name."""
    try:
        return Read(optuna.load_study(study_name=name, storage=url_storage(url)))
    except KeyError:
        raise StorageError(f"{shown_url(url)}: there is no study {name} there") from None


def recorded(
    directory: ExperimentDir, asks: str, url: str | None = None, advice: str = "give it by --study"
) -> tuple[dict[str, Any], Read]:
    """The provenance of an experiment that began, and its study.

    asks: who wants to know, to be named in the error. url: the study's database with its password, if it is in one.
    advice: what to do where the password is missing. Raises ResumeError if the study is behind a password that was not
    given, StorageError if it cannot be read.
    """
    provenance = yaml_file.read(directory.spec)[0].get(RECORD)
    if not isinstance(provenance, dict):
        raise StorageError(f"{directory.spec}: is no record of a search: it has no {RECORD}")
    if database := provenance.get("study"):
        if ":***@" in database and not url:
            raise ResumeError(f"{asks} has its study in {database}, behind a password; {advice}")
        return provenance, read_database(url or database, directory.path.name)
    return provenance, read_journal(directory.journal)


class _ReadOnly(JournalFileBackend):
    """A journal that is not created where it is missing, and not written to."""

    def __init__(self, file_path: str) -> None:
        Path(file_path).open("rb").close()
        super().__init__(file_path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise io.UnsupportedOperation("this study was opened to be read")


class _Snapshot(BaseJournalBackend):
    """A journal as it was when it was read."""

    def __init__(self, logs: list[dict[str, Any]]) -> None:
        self.logs = logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self.logs[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise io.UnsupportedOperation("this study was opened to be read")
