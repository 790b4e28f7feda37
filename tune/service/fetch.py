"""An experiment of a cluster's, brought here: straight from an object store, or through a job's log."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from cifar.errors import UserError, first_line
from tune.errors import StorageError
from tune.experiment import FETCHED, ExperimentDir, check_name
from tune.service import package
from tune.service.client import Cluster
from tune.service.code import staged
from tune.service.sessions import entrypoint
from tune.storage import open_storage

Say = Callable[[str], None]


def fetch(cluster: Cluster, name: str, storage: str, output: Path, say: Say, *, checkpoints: bool) -> Path:
    """Brings the experiment `name` to output/name, whole or not at all; an older copy of it makes room.

    storage: where the cluster keeps it; empty for what the cluster's environment says. Raises UserError if anything
    else is there, or it cannot be had.
    """
    check_name(name)
    target = output / name
    _check_copy(target)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".fetch-", dir=output) as folder:
            new = Path(folder) / "new"
            new.mkdir()
            if not (storage and _from_store(name, storage, new, say, checkpoints=checkpoints)):
                _through_job(cluster, name, storage, new, say, checkpoints=checkpoints)
            _check_copy(target)  # it may have been gone on with meanwhile
            _check_older(target, new)
            (new / FETCHED).touch()
            _take_place(new, target, Path(folder) / "old")
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror or error}; choose a folder that can be written") from None
    return target


def _check_copy(target: Path) -> None:
    """Raises UserError if there is anything but what was fetched, and is still as it came."""
    if not target.exists():
        return
    if not (target / "experiment.yaml").is_file():
        what = "is no experiment"
    elif ExperimentDir(target).is_locked():
        what = "is being run by another process"
    elif not (target / FETCHED).exists():
        what = "is no copy, or one that was gone on with here"
    else:
        return
    raise UserError(f"fetch: {target} is there, and {what}; choose another --output")


def _check_older(target: Path, new: Path) -> None:
    """Raises UserError if `target` has anything recorded that `new` has not."""
    if not target.exists():
        return
    if _identity(new) != _identity(target):
        raise UserError(f"fetch: {target} is another experiment of that name; choose another --output")
    for name in ("study.journal", "test_ledger.jsonl"):
        lines = _bytes(target / name).rpartition(b"\n")[0]  # the last may be a part of one, as it was then
        if not _bytes(new / name).startswith(lines):
            raise UserError(f"fetch: {target / name} has lines that the cluster's has not; choose another --output")


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _identity(folder: Path) -> tuple[Any, ...]:
    """What stays the same of an experiment as long as it goes on."""
    from tune import yaml_file
    from tune.spec import RECORD

    record = yaml_file.read(folder / "experiment.yaml")[0].get(RECORD, {})
    return record.get("started"), record.get("command"), record.get("data_fingerprint")


def _take_place(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _from_store(name: str, storage: str, new: Path, say: Say, *, checkpoints: bool) -> bool:
    """Whether it could be read from here."""
    if "://" not in storage:
        return False
    try:
        place = open_storage(storage).child(name)
        if not place.exists("experiment.yaml"):
            say(f"{place.uri} is not seen from here; asking the cluster")
            return False
        package.download(place, (file for file, _ in package.chosen(place, checkpoints=checkpoints)), new)
    except (StorageError, OSError) as error:
        say(f"{first_line(error)}; asking the cluster")
        shutil.rmtree(new)
        new.mkdir()
        return False
    return True


def _through_job(cluster: Cluster, name: str, storage: str, new: Path, say: Say, *, checkpoints: bool) -> None:
    words = ["tune.service.pack", name, *(["--checkpoints"] if checkpoints else [])]
    with staged(None, new) as code, TemporaryFile() as packed:
        job = cluster.submit(entrypoint(words, storage), {"experiment": f"fetch {name}"}, code)
        say(f"{name} comes through the job {job}")
        try:
            with closing(cluster.follow(job)) as text:
                package.read(text, packed)
        finally:
            cluster.stop(job)
            cluster.forget(job)
        packed.seek(0)
        package.extract(packed, new)
