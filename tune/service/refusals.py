"""What a job must not be sent with: secrets, which Ray shows to everyone, and folders that only this machine has."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from cifar.errors import UserError

if TYPE_CHECKING:
    from cifar.config import DataConfig

_SECRET = re.compile("pass|pwd|secret|token|key|credential", re.IGNORECASE)


def check(storage: str | None, study: str | None, data: "DataConfig | None" = None) -> None:
    """Raises UserError with a line for each thing that must be said otherwise. data: of an experiment that is new."""
    if problems := [*_storage(storage), *_study(study), *_data(data)]:
        raise UserError("\n".join(problems))


def _storage(storage: str | None) -> Iterator[str]:
    if storage is None:
        return
    from tune.storage import redacted

    if "://" in storage:
        if redacted(storage) != storage:
            yield (
                f"--storage {redacted(storage)}: got names, passwords or options that may be secret, which everyone "
                "sees of a job; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store asks for, in the "
                "environment of the cluster"
            )
    elif not PurePosixPath(storage).is_absolute():
        yield (
            f"--storage {storage}: got a relative folder, which would go with the job; name a folder that all nodes of "
            "the cluster share, as in --storage /shared/experiments, or an object store, as in --storage s3://bucket/x"
        )


def _study(study: str | None) -> Iterator[str]:
    if study is None:
        return
    try:
        parts = urlsplit(study, allow_fragments=False)
    except ValueError:  # not shown: it may hold a password
        yield "--study: cannot be read; must be a database URL, as in postgresql://user@host/name"
        return
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.password is not None or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
        yield (
            f"--study {shown}: got a password, which everyone sees of a job; leave it out, and set PGPASSWORD, or what "
            "the database asks for, in the environment of the cluster"
        )
    elif parts.scheme.startswith("sqlite") and not parts.path.startswith("//"):
        yield (
            f"--study {study}: got a relative file, which would go with the job; name one that the head keeps, as in "
            "--study sqlite:////shared/study.db"
        )


def _data(data: "DataConfig | None") -> Iterator[str]:
    if data is None or data.source == "digits" or data.root is None:
        return
    if not PurePosixPath(data.root).is_absolute():
        yield (
            f"data.root: got {data.root!r}, a folder of this machine; name one that the cluster has, as in "
            "--set data.root=/shared/images"
        )
