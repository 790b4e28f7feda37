"""The experiment directory: the only state of a search. Files appear in it whole or not at all."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tune import yaml_file
from tune.errors import NameTakenError, StorageError
from tune.spec import RECORD, Experiment

_PACKAGES = ("cifar-tune", "lightning", "optuna", "ray", "torch", "torchmetrics", "torchvision", "wandb")


@dataclass(frozen=True)
class ExperimentDir:
    """Paths of one experiment."""

    path: Path

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
        return self.path / "trials"

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
    def wandb(self) -> Path:
        """W&B's local files."""
        return self.path / "wandb"


def reserve(storage: str, name: str) -> ExperimentDir:
    """The directory that a new experiment is going to have. Makes nothing that stays but `storage` itself.

    Raises NameTakenError if there is one of that name, StorageError if it could not be made.
    """
    _check_name(name)
    try:
        root = Path(storage).expanduser().resolve()
        path = root / name
        root.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        path.rmdir()
    except FileExistsError:
        if not root.is_dir():
            raise StorageError(f"--storage {storage}: is not a directory; choose another") from None
        free = next(f"{name}-{number}" for number in range(2, 10_000) if not (root / f"{name}-{number}").exists())
        hint = f"choose another name, as in --name {shlex.quote(free)}"
        raise NameTakenError(f"the experiment {path} exists; {hint}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: no such home, or links in a circle
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"--storage {storage}: {reason}; choose a folder that can be written") from None
    return ExperimentDir(path)


def _check_name(name: str) -> None:
    wrong = any(character in "/\\" or not character.isprintable() for character in name)
    if wrong or not name or name.startswith((".", "-")) or len(name.encode()) > 200:
        raise StorageError(
            f"--name {name!r}: must be 1 to 200 printable characters without / or \\, and not start with . or -"
        )


def begin(directory: ExperimentDir, experiment: Experiment, command: str, fingerprint: str) -> None:
    """Makes the directory, with experiment.yaml: the resolved spec, and where and of what it is run."""
    provenance = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "data_fingerprint": fingerprint,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
    }
    try:
        directory.path.mkdir()
        to_yaml({**experiment.to_dict(), RECORD: provenance}, directory.spec)
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


def git_commit() -> str:
    """The commit of the working directory, marked where there are changes; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def command_line() -> str:
    """How this process was called, as a line that can be pasted into a shell."""
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", "tune" if module == "__main__" else f"tune.{module}", *sys.argv[1:]])


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
