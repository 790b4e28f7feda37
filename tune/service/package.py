"""An experiment directory as lines of text, which a job writes into its log: the only way back that every cluster has.

The lines are base64 of a tar.xz, between two that no other line is like, the last with a SHA-256.
"""

import base64
import binascii
import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Final

from cifar.errors import UserError
from tune.storage import Storage

BEGIN = "-----BEGIN CIFAR-TUNE EXPERIMENT-----"
END = "-----END CIFAR-TUNE EXPERIMENT-----"
MOST_BYTES = 2**30
_LINE_BYTES = 45_000  # Ray sends a line of this length as one message
_PRESET: Final = 1  # weights are hardly smaller with more, and take ten times as long


def chosen(place: Storage, *, checkpoints: bool) -> list[tuple[str, int]]:
    """The files of an experiment that are brought back, relative to it, and their sizes in bytes.

    checkpoints: those of trials, too. Links are left out: they may lead out of the storage. Raises UserError where the
    experiment itself is one.
    """
    from pyarrow.fs import FileSelector

    if place.local is not None and place.local.is_symlink():
        raise UserError(f"fetch: {place.uri} is a link, which may lead out of the storage; name the folder it leads to")
    found = []
    for info in place.filesystem.get_file_info(FileSelector(place.root, recursive=True)):
        rel = PurePosixPath(info.path).relative_to(place.root)
        if not info.is_file or rel.name.startswith("."):
            continue
        if not checkpoints and rel.parts[0] == "trials" and any(part.startswith("checkpoint") for part in rel.parts):
            continue
        if place.local is not None and (place.local / rel).resolve() != place.local.resolve() / rel:
            continue
        found.append((str(rel), info.size))
    return sorted(found)


def download(place: Storage, files: Iterable[str], folder: Path) -> None:
    """Copies `files` of an experiment to `folder`, less those that are gone."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            place.download(file, folder / file)


def lines(folder: Path, files: Iterable[str]) -> Iterator[str]:
    """The lines that stand for `files` of `folder`, less those that are gone, as a search deletes checkpoints."""
    with TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w:xz", preset=_PRESET, dereference=True) as archive:
            for file in files:
                with suppress(FileNotFoundError), (folder / file).open("rb") as stream:
                    archive.addfile(archive.gettarinfo(arcname=file, fileobj=stream), stream)
        packed.seek(0)
        digest = hashlib.sha256()
        yield BEGIN
        while part := packed.read(_LINE_BYTES):
            digest.update(part)
            yield base64.b64encode(part).decode()
        yield f"{END} {digest.hexdigest()}"


def read(text: Iterable[str], into: IO[bytes]) -> list[str]:
    """Writes the tar.xz in the pieces of `text` to `into`, as soon as it is whole; gives the lines around it.

    Raises UserError if it does not come whole.
    """
    digest, within = hashlib.sha256(), False
    others: list[str] = []
    for line in _lines(text):
        if line == BEGIN:
            within = True
        elif line.startswith(END):
            if line != f"{END} {digest.hexdigest()}":
                raise UserError("fetch: what came is not what was sent: its SHA-256 differs; try again")
            return others
        elif within:
            try:
                part = base64.b64decode(line, validate=True)
            except binascii.Error:
                raise UserError("fetch: what came is not what was sent: a line is broken; try again") from None
            digest.update(part)
            into.write(part)
            if into.tell() > MOST_BYTES:
                raise UserError(f"fetch: more than {MOST_BYTES / 2**30:g} GiB came, the most that is taken")
        else:
            others.append(line)
    errors = [line.removeprefix("error: ") for line in others if line.startswith("error: ")]
    raise UserError("\n".join(errors) or f"fetch: nothing came; the job said: {(others or ['nothing'])[-1]}")


def _lines(text: Iterable[str]) -> Iterator[str]:
    """Whole lines of what comes in pieces."""
    rest: list[str] = []
    for piece in text:
        *whole, last = re.split("\n", piece)
        for line in whole:
            yield "".join([*rest, line])
            rest = []
        rest.append(last)
    if any(rest):
        yield "".join(rest)


def extract(packed: IO[bytes], folder: Path) -> None:
    """Puts the files of a tar.xz into `folder`.

    Raises UserError if one of them is a link, or would lie elsewhere, or all are more than was asked for.
    """
    size = 0

    def plain(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        if not member.isreg() and not member.isdir():
            raise UserError(f"fetch: {member.name!r} is neither a file nor a folder, and nothing else is taken")
        nonlocal size
        if (size := size + member.size) > MOST_BYTES:
            raise UserError(f"fetch: what came is more than {MOST_BYTES / 2**30:g} GiB, the most that is taken")
        return tarfile.data_filter(member, path)

    try:
        with tarfile.open(fileobj=packed, mode="r:xz") as archive:
            archive.extractall(folder, filter=plain)
    except tarfile.FilterError as error:
        raise UserError(f"fetch: {error}; nothing was written") from None
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"fetch: what came cannot be unpacked: {error}") from None
