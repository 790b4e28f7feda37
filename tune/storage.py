"""Where experiment directories live: a folder of this machine or of NFS, or an object store, over pyarrow.fs.

Opening connects to nothing, but to ask AWS for a bucket's region; `probe` says whether a place can be used. What the
methods of a Storage raise is the filesystem's own OSError (FileNotFoundError where there is nothing to read), which
`Storage.complaint` turns into a line for the user. A Storage can be sent to other processes: each connects by itself.
"""

import atexit
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from uuid import uuid4

from tune.errors import StorageError
from tune.problems import nearest
from tune.storage_trouble import complaint, storage_error

_OURS = ("s3", "gs", "gcs", "file")
_S3_FLAGS = ("allow_bucket_creation", "allow_bucket_deletion", "force_virtual_addressing")
_S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path", *_S3_FLAGS)  # of those of pyarrow's URIs


@dataclass(frozen=True)
class Storage:
    """A place for experiment directories, or one of them. Paths are relative to it, with / between their parts."""

    uri: str
    """To show: what --storage takes, less its secrets; an absolute path for folders."""
    root: str
    """The path on `filesystem`, as `RunConfig(storage_path=…, storage_filesystem=…)` takes it."""
    local: Path | None
    """The folder, where files can be opened and renamed; else None."""
    where: str = field(repr=False)
    """--storage as given. May hold secrets: never show it."""

    @property
    def filesystem(self) -> Any:
        """The pyarrow filesystem, one a process. It rides out an S3 outage of 25 seconds (GCS: 30), also unpickled."""
        return _connect(self.where)

    def child(self, name: str) -> "Storage":
        """The storage of the folder `name` in this one."""
        path, mark, query = self.uri.partition("?") if self.local is None else (self.uri, "", "")
        shown = name if self.local else quote(name)
        local = self.local and self.local / name
        return replace(self, uri=f"{path.rstrip('/')}/{shown}{mark}{query}", root=self._at(name), local=local)

    def make(self) -> None:
        """Makes the folder; in an object store also the bucket, where the URI allows it. Raises StorageError."""
        try:
            if self.local:
                self.local.mkdir(parents=True, exist_ok=True)
            else:
                _connect(self.where, patient=False).create_dir(self.root, recursive=True)
        except Exception as error:
            raise self.complaint(error) from None

    def exists(self, rel: str) -> bool:
        """Whether there is a file or folder. False for all in a bucket that does not exist."""
        if self.local:
            return os.path.lexists(self._at(rel))
        return self._kind(rel) != "NotFound"

    def list(self, rel: str = "") -> list[str]:
        """Sorted names of what lies in a folder; none if it is not there."""
        path = self._at(rel)
        if self.local:
            return sorted(os.listdir(path)) if os.path.isdir(path) else []
        from pyarrow.fs import FileSelector

        return sorted(
            info.base_name for info in self.filesystem.get_file_info(FileSelector(path, allow_not_found=True))
        )

    def upload(self, local: Path, rel: str) -> None:
        """Copies a file, or what is in a folder, to `rel`. Each file takes the place of an older one whole."""
        target = self._at(rel)
        if self.local:
            _copy(local, Path(target))
        else:
            if self.filesystem.type_name.startswith("py::"):  # S3 and GCS would keep a folder as an object
                self.filesystem.create_dir(str(PurePosixPath(target).parent), recursive=True)
            _pyarrow_copy(str(local), target, destination=self.filesystem)

    def download(self, rel: str, local: Path) -> None:
        """Copies a file, or what is in a folder, to `local`. A file takes the place of an older one whole."""
        source = self._at(rel)
        if self.local:
            _copy(Path(source), local)
            return
        kind = self._kind(rel)
        if kind == "NotFound":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.uri.partition('?')[0]}/{rel}")
        if kind == "File":
            with _replaced(local) as beside:
                _pyarrow_copy(source, str(beside), source=self.filesystem)
        else:
            local.mkdir(parents=True, exist_ok=True)
            _pyarrow_copy(source, str(local), source=self.filesystem)

    @contextmanager
    def opened(self, rel: str) -> Iterator[Path]:
        """A file on this machine, as long as it is needed. Where there is none, it is missing here too."""
        if self.local:
            yield self.local / rel
            return
        with TemporaryDirectory() as folder:
            file = Path(folder) / PurePosixPath(rel).name
            with suppress(FileNotFoundError):
                self.download(rel, file)
            yield file

    def copy(self, rel: str, to: str) -> None:
        """Copies a file, or what is in a folder, within the storage."""
        if self.local:
            _copy(Path(self._at(rel)), Path(self._at(to)))
        else:
            _pyarrow_copy(self._at(rel), self._at(to), source=self.filesystem, destination=self.filesystem)

    def delete(self, rel: str) -> None:
        """Deletes a file, or a folder and all in it, if it is there. Never the storage's own folder."""
        if not PurePosixPath(rel).parts:
            raise ValueError(f"got {rel!r} to delete, must name something in {self.uri}")
        path = self._at(rel)
        with suppress(FileNotFoundError):
            if (kind := self._kind(rel)) == "File" or os.path.islink(path):
                self.filesystem.delete_file(path)
            elif kind != "NotFound":
                self.filesystem.delete_dir(path)

    def read_text(self, rel: str) -> str:
        """A file's text."""
        with self.filesystem.open_input_file(self._at(rel)) as stream:
            return str(stream.read(), "utf-8")

    def complaint(self, error: BaseException) -> StorageError:
        """The line for the user that tells why the storage cannot be used, on which host, and what to do."""
        return complaint(self.where, self.uri, error, f"{socket.gethostname()} cannot use it: ")

    def _at(self, rel: str) -> str:
        path = PurePosixPath(rel)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"got {rel!r}, must be a path relative to {self.uri}, without ..")
        return "/".join([self.root.rstrip("/"), *path.parts])

    def _kind(self, rel: str) -> str:
        return str(self.filesystem.get_file_info(self._at(rel)).type.name)


def open_storage(where: str) -> Storage:
    """The storage that --storage names: a folder, or the URI of one in S3, GCS or what fsspec knows.

    Raises StorageError if there can be none of that name, or AWS does not tell its region.
    """
    scheme, mark, _ = where.partition("://")
    if not mark:
        if scheme.startswith(tuple(f"{ours}:" for ours in _OURS)):
            raise storage_error(where, "is no URI; write two slashes after the colon, as in s3://")
        return _folder(where, where)
    if scheme == "file":
        host, slash, path = where.removeprefix("file://").partition("/")
        if host not in ("", "localhost") or not slash:
            raise storage_error(where, "is on another host; write three slashes, as in file:///data")
        return _folder(where, unquote(slash + path))
    try:
        return Storage(redacted(where), _connected(where, True)[1].rstrip("/"), None, where)
    except Exception as error:
        raise complaint(where, redacted(where), error) from None


def probe(storage: Storage) -> None:
    """Writes, reads back and deletes a small file, within half a minute where S3 does not answer.

    Raises StorageError, a line that names this host, the place and the reason. Makes no folder, so that a node
    without the mount is found out.
    """
    data = os.urandom(8192)  # more than fits beside an inode: a full disk takes empty files
    path = f"{storage.root}/.preflight-{socket.gethostname()}-{uuid4().hex}"
    try:
        read = (_probe_folder if storage.local else _probe_store)(storage, path, data)
        if read != data:
            raise OSError(errno.EIO, "what was read is not what was written")
    except Exception as error:
        raise storage.complaint(error) from None


def _probe_folder(storage: Storage, path: str, data: bytes) -> bytes:
    file = Path(path)
    try:
        with file.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # NFS and quotas complain here at the latest
        return file.read_bytes()
    finally:
        with suppress(OSError):
            file.unlink()


def _probe_store(storage: Storage, path: str, data: bytes) -> bytes:
    filesystem = _connect(storage.where, patient=False)
    filesystem.get_file_info(path)  # where nothing answers, this fails soonest
    with filesystem.open_output_stream(path, compression=None) as stream:
        stream.write(data)
    with filesystem.open_input_file(path) as stream:
        read = stream.read()
    filesystem.delete_file(path)
    return bytes(read)


def _folder(where: str, path: str) -> Storage:
    try:
        folder = Path(path).expanduser().resolve()
        if folder.exists() and not folder.is_dir():
            raise storage_error(where, "is not a directory; choose another")
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no such home, or links in a circle
        reason = getattr(error, "strerror", None) or error
        raise storage_error(where, f"{reason}; choose a folder that can be written") from None
    return Storage(str(folder), str(folder), folder, str(folder))


def _connect(where: str, patient: bool = True) -> Any:
    return _connected(where, patient)[0]


@cache
def _connected(where: str, patient: bool) -> tuple[Any, str]:
    """The filesystem and the path on it. `patient` rides out outages; without, a wrong address fails soon."""
    from pyarrow import fs

    if "://" not in where:
        return fs.LocalFileSystem(), where
    scheme = where.partition("://")[0]
    # pyarrow has registered what finalizes S3 before us, so our clients are gone when it runs: it has hung on living
    # ones (apache/arrow#50188) and aborted (#41087).
    atexit.unregister(_connected.cache_clear)
    atexit.register(_connected.cache_clear)
    if scheme == "s3":
        options, root = _s3_options(where)
        return _s3_class()(where, patient, options, root.partition("/")[0]), root
    if scheme in ("gs", "gcs"):
        if "retry_limit_seconds=" not in where:
            where += f"{'&' if '?' in where else '?'}retry_limit_seconds={30 if patient else 10}"
        return tuple(fs.FileSystem.from_uri(where))
    return _fsspec(scheme, where)


def _fsspec(scheme: str, where: str) -> tuple[Any, str]:
    import fsspec  # Ray Tune cannot do without it
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    known = fsspec.available_protocols()
    if scheme not in known:
        names = [*_OURS, *(name for name in known if name not in _OURS)]
        raise ValueError(f"got {scheme!r}, must be a folder or one of {', '.join(names)}{nearest(scheme, names)}")
    filesystem, root = fsspec.core.url_to_fs(where)
    return PyFileSystem(FSSpecHandler(filesystem)), root


@cache
def _s3_class() -> Any:
    from pyarrow import fs

    class PatientS3(fs.S3FileSystem):  # type: ignore[misc]
        """S3 that keeps its retries when it is pickled; pyarrow's own goes back to three, about two seconds.

        The default strategy waits 25 ms * 2^n, n = 1, 2, … between attempts: 25.6 s in all for 10 retries, 0.2 s for 3.
        The standard one waits a random part of 2^n s: 10 retries are anything up to two minutes.
        """

        def __init__(self, where: str, patient: bool, options: dict[str, Any], bucket: str) -> None:
            self._arguments = where, patient
            if not options.keys() & {"region", "endpoint_override"}:
                options = {**options, "region": fs.resolve_s3_region(bucket)}
            super().__init__(
                **options,
                retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=10 if patient else 3),
                connect_timeout=5,  # seconds
                request_timeout=15 if patient else 5,  # seconds without a byte
                allow_delayed_open=True,  # a small file is one request, not three
            )

        def __reduce__(self) -> Any:
            return _connect, self._arguments

    return PatientS3


def _s3_options(where: str) -> tuple[dict[str, Any], str]:
    """What S3FileSystem takes, and bucket/prefix. Pure. Raises ValueError, without a secret in it."""
    parts = urlsplit(where, allow_fragments=False)
    user, _, bucket = parts.netloc.rpartition("@")
    key, _, secret = user.partition(":")
    if not bucket or ":" in bucket:
        raise ValueError("must be s3://BUCKET/PREFIX, or s3://KEY:SECRET@BUCKET/PREFIX with %2F for / in the secret")
    options: dict[str, Any] = {}
    if user:
        options = {"access_key": unquote(key), "secret_key": unquote(secret)}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _S3_OPTIONS:
            known = ", ".join(_S3_OPTIONS)
            raise ValueError(f"got the option {name!r}, must be one of {known}{nearest(name, _S3_OPTIONS)}")
        if name in _S3_FLAGS and value not in ("true", "false", "1", "0"):
            raise ValueError(f"got {name}={value}, must be true or false")
        options[name] = value in ("true", "1") if name in _S3_FLAGS else value
    path = [part for part in unquote(parts.path).split("/") if part]
    if {".", ".."} & set(path):
        raise ValueError("must not have . or .. in its path")
    return options, "/".join([bucket, *path])


def redacted(where: str) -> str:
    """`where` without names and passwords, nor the values of options that are not known to be harmless."""
    shown = re.sub(r"^([^:/?]+://)(?:[^/?]*:.*@|[^/?]*@)", r"\1", where)
    path, mark, query = shown.partition("?")
    options = [
        f"{name}={re.sub('//.*@', '//', value) if name in _S3_OPTIONS else '…'}"
        for name, _, value in (option.partition("=") for option in query.split("&"))
    ]
    return f"{path}{mark}{'&'.join(options) if mark else ''}"


def _pyarrow_copy(start: str, end: str, source: Any = None, destination: Any = None) -> None:
    from pyarrow import fs

    local = fs.LocalFileSystem()
    # One at a time: parallel uploads of pyarrow can wait for one another for ever (apache/arrow#32372).
    fs.copy_files(start, end, source or local, destination or local, use_threads=destination is None)


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        with _replaced(target) as beside:
            shutil.copyfile(source, beside)
        return
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        _copy(entry, target / entry.name)


@contextmanager
def _replaced(file: Path) -> Iterator[Path]:
    """Gives a path to write beside `file`, of which other nodes have none alike; synced, it takes `file`'s place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name[:200]}.{uuid4().hex}")
    try:
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
