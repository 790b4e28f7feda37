"""The experiment directory: the only state of a search. Files appear in it whole or not at all.

On an object store, where no file can be appended to, the driver works in a local copy and uploads each file when it is
whole, and the study every few seconds.
"""

import atexit
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from tune import yaml_file
from tune.errors import NameTakenError, StorageError
from tune.spec import RECORD, Experiment
from tune.storage import Storage, open_storage, probe
from tune.trials import TRIALS

_LOCAL = (TRIALS, "wandb")  # of a working copy, what is not in the object store
# What a job on a cluster is told by the machine that it was sent from.
SENT_BY, COMMIT = "CIFAR_SENT_BY", "CIFAR_GIT_COMMIT"
FETCHED = ".fetched"  # in a copy of a cluster's experiment, until it is gone on with here
_PACKAGES = ("cifar-tune", "lightning", "optuna", "ray", "torch", "torchmetrics", "torchvision", "wandb")


@dataclass(frozen=True)
class ExperimentDir:
    """Paths of one experiment. remote: where they are copied to, if `path` is only a local copy."""

    path: Path
    remote: Storage | None = None

    @property
    def place(self) -> Storage:
        """The directory as every node of the cluster reaches it."""
        return self.remote or open_storage(str(self.path))

    @property
    def storage(self) -> str:
        """Where it is, as --storage takes it, less secrets."""
        if self.remote is None:
            return str(self.path.parent)
        path, mark, query = self.remote.uri.partition("?")
        return f"{path.rpartition('/')[0]}{mark}{query}"

    @property
    def spec(self) -> Path:
        """The resolved experiment file."""
        return self.path / "experiment.yaml"

    @property
    def journal(self) -> Path:
        """The Optuna study."""
        return self.path / "study.journal"

    @property
    def trials(self) -> Path:
        """Ray Tune's files, and each trial's TensorBoard files."""
        return self.path / TRIALS

    @property
    def winner(self) -> Path:
        """The chosen HParams, and why."""
        return self.path / "winner.yaml"

    @property
    def model(self) -> Path:
        """The model, its figures and its card."""
        return self.path / "model"

    @property
    def ledger(self) -> Path:
        """A line for every reading of the test set."""
        return self.path / "test_ledger.jsonl"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def next(self) -> Path:
        """The experiment that might come after."""
        return self.path / "next.yaml"

    @property
    def wandb(self) -> Path:
        """W&B's local files."""
        return self.path / "wandb"

    def publish(self, *files: Path) -> None:
        """Uploads what is there of `files`, or of all that the driver writes; nothing to do in a local directory."""
        for file in files or (self.spec, self.journal, self.winner, self.ledger, self.report, self.next, self.model):
            if self.remote is not None and file.exists():
                self.remote.upload(file, file.relative_to(self.path).as_posix())

    def fetch(self, *files: Path) -> None:
        """Makes the local copy of `files`, or of all that `publish` uploads, what the remote one is; or is not."""
        if self.remote is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        for file in files or (self.spec, self.journal, self.winner, self.ledger, self.model):
            name = file.relative_to(self.path).as_posix()
            if self.remote.exists(name):
                self.remote.download(name, file)
            elif file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether a process of this machine runs this experiment."""
        file = (_working_path(self.remote) if self.remote else self.path) / ".lock"
        if not file.exists():
            return False
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return True
        except OSError:  # on a disk that cannot be written nothing runs
            return False
        lock.release()
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process from running this experiment. Raises NameTakenError if one does."""
        lock = FileLock(self.path / ".lock", timeout=0.2)  # is_locked holds it for a moment
        try:
            lock.acquire()
        except Timeout:
            raise NameTakenError(
                f"the experiment {self.path} is being run by another process; wait for its end or choose another --name"
            ) from None
        except OSError as error:
            raise StorageError(f"{self.path} can no longer be written: {error.strerror or error}") from None
        try:
            (self.path / FETCHED).unlink(missing_ok=True)
            yield
        finally:
            lock.release()


def reserve(storage: str, name: str) -> ExperimentDir:
    """The directory that a new experiment is going to have. Makes nothing that stays but `storage` itself.

    Raises NameTakenError if there is one of that name, StorageError if it could not be made.
    """
    check_name(name)
    where = open_storage(storage)
    if where.local is None:
        where.make()
        probe(where)
        if where.exists(f"{name}/experiment.yaml"):
            raise NameTakenError(f"the experiment {where.child(name).uri} exists; {_free_name(where, name)}")
        return working_copy(where, name, fresh=True)
    try:
        root = Path(storage).expanduser().resolve()
        path = root / name
        root.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        path.rmdir()
    except FileExistsError:
        if not root.is_dir():
            raise StorageError(f"--storage {storage}: is not a directory; choose another") from None
        raise NameTakenError(f"the experiment {path} exists; {_free_name(where, name)}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: no such home, or links in a circle
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"--storage {storage}: {reason}; choose a folder that can be written") from None
    return ExperimentDir(path)


def _free_name(where: Storage, name: str) -> str:
    free = next(other for number in range(2, 10_000) if not where.exists(other := f"{name}-{number}"))
    return f"go on with it by --resume, or choose another name, as in --name {shlex.quote(free)}"


def working_copy(where: Storage, name: str, *, fresh: bool) -> ExperimentDir:
    """An experiment on an object store, and the folder of its local copy.

    What is in no object store, curves and W&B's offline runs, stays in it when the experiment goes on. Raises
    NameTakenError if a process of this machine runs it.
    """
    remote = where.child(name)
    path = _working_path(remote)
    if ExperimentDir(path).is_locked():
        raise NameTakenError(f"the experiment {remote.uri} is being run by another process; wait for its end")
    try:
        if fresh and path.exists():
            shutil.rmtree(path)
        for each in path.iterdir() if path.exists() else ():
            if each.name not in _LOCAL:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the local copy {path} cannot be made: {error.strerror or error}") from None
    directory = ExperimentDir(path, remote)
    if not fresh:
        directory.fetch()
    return directory


def _working_path(remote: Storage) -> Path:
    """The folder of an experiment's local copy that the search on this machine works in."""
    digest = hashlib.blake2b(remote.uri.encode(), digest_size=8).hexdigest()
    return user_cache_path("cifar-tune") / "experiments" / digest / PurePosixPath(remote.root).name


def passing_copy(where: Storage, name: str, *, light: bool = False) -> ExperimentDir:
    """An experiment on an object store, for one who only looks: a local copy that goes with the process.

    light: without the model, of which the figures are enough.
    """
    folder = Path(mkdtemp(prefix="cifar-tune-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    directory = ExperimentDir(folder / name, where.child(name))
    figures = (directory.spec, directory.journal, directory.winner, directory.model / "metrics.json")
    directory.fetch(*figures if light else ())
    return directory


def check_name(name: str) -> None:
    wrong = any(character in "/\\" or not character.isprintable() for character in name)
    if wrong or not name or name.startswith((".", "-")) or len(name.encode()) > 200:
        raise StorageError(
            f"--name {name!r}: must be 1 to 200 printable characters without / or \\, and not start with . or -"
        )


def begin(
    directory: ExperimentDir,
    experiment: Experiment,
    command: str,
    fingerprint: str,
    before: dict[str, Any] | None = None,
    study: str = "",
) -> None:
    """Makes the directory, with experiment.yaml: the resolved spec, and where and of what it is run.

    before: the provenance of the search that is resumed, which is kept. study: the database of the study, if it is
    in one, without its password.
    """
    session: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "versions": versions(),
    }
    if before is None:
        provenance: dict[str, Any] = {**session, "data_fingerprint": fingerprint}
        if study:
            provenance["study"] = study
    else:
        provenance = {**before, "resumed": [*before.get("resumed", []), session]}
    try:
        directory.path.mkdir(exist_ok=before is not None)
        to_yaml({**experiment.to_dict(), RECORD: provenance}, directory.spec)
        directory.publish(directory.spec)
    except FileExistsError:
        raise NameTakenError(f"the experiment {directory.path} was begun by someone else just now") from None
    except OSError as error:
        raise StorageError(f"{directory.path} can no longer be written: {error.strerror or error}") from None


def versions() -> dict[str, str]:
    """Installed versions of the packages whose behaviour a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The name of this machine's processor, as far as it tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def git_commit() -> str:
    """The commit of the working directory, marked where there are changes; empty outside a checkout.

    Of a job's, which is no checkout, that of the folder it was sent from.
    """
    if COMMIT in os.environ:
        return os.environ[COMMIT]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def command_line(*, resume: bool = False) -> str:
    """How this process was called, as a line that can be pasted into a shell; or what resumes it.

    The password of a database is left out. Of a job on a cluster it is the call that sent it.
    """
    module = Path(sys.argv[0]).stem
    arguments = [_without_password(argument) for argument in sys.argv[1:]]
    command = shlex.join(["python", "-m", "tune" if module == "__main__" else f"tune.{module}", *arguments])
    command = os.environ.get(SENT_BY, command)
    return resuming(command) if resume else command


def resuming(command: str) -> str:
    """What goes on with the search that `command` ran; of `retry` and `retrain` the same again."""
    words = shlex.split(command)
    if words[2:4] == ["tune", "submit"]:
        at = [part for flag in ("--name", "--address") if flag in words for part in words[words.index(flag) :][:2]]
        return shlex.join(["python", "-m", "tune", "resume", *at[1:]])
    searches = words[2:3] == ["tune.run"] or words[2:4] == ["tune", "run"]
    goes_on = not searches or {"--resume", "--restartable"} & set(words)
    return shlex.join(words if goes_on else [*words, "--resume"])


def _without_password(argument: str) -> str:
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", argument)


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Gives a path to write beside `file`; at the end it is synced and takes `file`'s place. Nothing half-written."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Writes `text` to `file`, whole or not at all."""
    with whole(file) as beside:
        beside.write_text(text, encoding="utf-8")


def to_yaml(value: dict[str, Any], file: Path) -> None:
    """Writes `value` to `file` as YAML, whole or not at all."""
    with whole(file) as beside, beside.open("w", encoding="utf-8") as stream:
        yaml_file.write(value, stream)
