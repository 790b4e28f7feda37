import errno
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import pytest

from tune.errors import StorageError
from tune.storage import Storage, open_storage, probe
from tune.storage_trouble import is_storage_trouble

HOST = socket.gethostname()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def complaint(call: Callable[[], object]) -> str:
    """The one line of the StorageError that a call raises."""
    with pytest.raises(StorageError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__cause__ is None
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


@pytest.fixture
def s3(server, s3_keys, tmp_path_factory) -> Storage:
    """A prefix of a bucket of the test's own."""
    bucket = tmp_path_factory.mktemp("bucket", numbered=True).name
    storage = open_storage(server.uri(f"{bucket}/some prefix", options="&allow_bucket_creation=true"))
    storage.make()
    return storage


@pytest.fixture(params=["local", "s3", "memory"])
def storage(request, tmp_path) -> Storage:
    if request.param == "s3":
        return request.getfixturevalue("s3")
    if request.param == "memory":
        return open_storage(f"memory://{tmp_path.name}")
    folder = tmp_path / "storage"
    folder.mkdir()
    return open_storage(str(folder))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files in folders, one of them empty, one that looks compressed, one of several parts of an S3 upload."""
    folder = tmp_path / "folder"
    (folder / "a" / "größer b").mkdir(parents=True)
    (folder / "a" / "größer b" / "text.gz").write_text("größer 🚀\n")
    (folder / "a" / "empty").touch()
    (folder / "large").write_bytes(os.urandom(1 << 20) * 25)
    return folder


def test_a_folder_goes_up_and_comes_down_the_same(storage, folder, tmp_path):
    storage.upload(folder, "run 1/copy")
    assert storage.list() == ["run 1"]
    assert storage.list("run 1/copy") == ["a", "large"]
    assert storage.read_text("run 1/copy/a/größer b/text.gz") == "größer 🚀\n"
    storage.download("run 1/copy", tmp_path / "back" / "again")
    assert files(tmp_path / "back" / "again") == files(folder)
    for name in ("a/empty", "a/größer b/text.gz", "large"):
        assert (tmp_path / "back" / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_file_takes_the_place_of_an_older_one(storage, tmp_path):
    file = tmp_path / "file"
    for text in ("first, and longer", "second"):
        file.write_text(text)
        storage.upload(file, "x/y/file")
        storage.download("x/y/file", tmp_path / "back" / "file")
        assert (tmp_path / "back" / "file").read_text() == storage.read_text("x/y/file") == text
    assert storage.list("x/y") == ["file"]
    assert files(tmp_path / "back") == ["file"]


def test_what_is_not_there(storage, tmp_path):
    assert not storage.exists("none")
    assert storage.list("none") == []
    storage.delete("none/at/all")
    for call in (lambda: storage.download("none", tmp_path / "back"), lambda: storage.read_text("none")):
        with pytest.raises(FileNotFoundError):
            call()
    with pytest.raises(FileNotFoundError):
        storage.upload(tmp_path / "none", "none")
    assert not (tmp_path / "back").exists()
    assert not storage.exists("none")


def test_what_is_deleted_is_gone_and_the_rest_stays(storage, folder):
    storage.upload(folder, "first")
    storage.upload(folder, "second")
    storage.delete("first/a/empty")
    assert storage.exists("first/a")
    assert not storage.exists("first/a/empty")
    storage.delete("first")
    storage.delete("first")
    assert not storage.exists("first")
    assert storage.list("second") == ["a", "large"]


@pytest.mark.parametrize("rel", ["/etc", "..", "a/../../b"])
def test_no_path_leads_out_of_the_storage(storage, rel, tmp_path):
    for call in (storage.exists, storage.list, storage.delete, storage.read_text, storage.child):
        with pytest.raises(ValueError, match=f"^got '{rel}', must be a path relative to "):
            call(rel)
    with pytest.raises(ValueError, match=r"^got '\.' to delete, must name something in "):
        storage.delete(".")


def test_a_child_is_the_storage_of_a_folder_in_it(storage, folder):
    child = storage.child("größer 1")
    child.upload(folder / "a", "b")
    assert storage.list("größer 1/b") == child.list("b") == ["empty", "größer b"]
    assert child.root == f"{storage.root}/größer 1"


def test_a_sent_storage_works_in_the_other_process_too(storage):
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copy = pickle.loads(dumps(storage))
        assert copy == storage
        probe(copy)


def test_ray_tune_keeps_its_files_in_what_it_is_given(storage, folder):
    """With `root` and `filesystem`, as RunConfig takes them."""
    storage_module = pytest.importorskip("ray.train._internal.storage")
    filesystem = pickle.loads(cloudpickle.dumps(storage.filesystem))
    path = f"{storage.root}/first/trials"
    storage_module.StorageContext(storage_path=path, storage_filesystem=filesystem, experiment_dir_name="search")
    assert storage.exists("first/trials/search/.validate_storage_marker")


def test_a_probe_leaves_nothing(storage):
    probe(storage)
    assert storage.list() == []


def test_folders_are_named_in_many_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for where, path in {
        "a/b": tmp_path / "a" / "b",
        "~/a": tmp_path / "home" / "a",
        f"file://{tmp_path}/a%20b": tmp_path / "a b",
        f"file://localhost{tmp_path}/": tmp_path,
        "runs: 2026": tmp_path / "runs: 2026",
    }.items():
        assert open_storage(where) == Storage(str(path), str(path), path, str(path))
    assert files(tmp_path) == []


def test_a_made_folder_can_be_used(tmp_path):
    storage = open_storage(str(tmp_path / "a" / "b"))
    assert complaint(lambda: probe(storage)) == (
        f"--storage {tmp_path}/a/b: {HOST} cannot use it: No such file or directory; "
        "make it, or mount it, on every node"
    )
    storage.make()
    probe(storage)


def test_a_storage_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    assert complaint(lambda: open_storage(str(file))) == f"--storage {file}: is not a directory; choose another"
    below = open_storage(f"{file}/below")
    for call in (below.make, lambda: probe(below)):
        assert complaint(call) == (
            f"--storage {file}/below: {HOST} cannot use it: Not a directory; choose a place that can be written"
        )
    assert file.read_text() == "precious"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # torch keeps a file it failed to write open


def test_a_read_only_folder(tmp_path):
    with mounted(tmp_path / "mount", "ro") as folder:
        storage = open_storage(str(folder))
        assert complaint(lambda: probe(storage)) == (
            f"--storage {folder}: {HOST} cannot use it: Read-only file system; choose a place that can be written"
        )
        with pytest.raises(OSError, match="Read-only") as caught:
            storage.upload(Path(__file__), "copy")
        assert is_storage_trouble(caught.value)


def test_a_full_disk(tmp_path):
    import torch

    with mounted(tmp_path / "mount", "size=64k") as folder:
        storage = open_storage(str(folder))
        probe(storage)
        large = tmp_path / "large"
        large.write_bytes(bytes(100_000))
        with pytest.raises(OSError, match="No space") as caught:
            storage.upload(large, "large")
        assert is_storage_trouble(caught.value)
        assert storage.list() == []
        with pytest.raises(RuntimeError) as torch_caught:
            torch.save(torch.zeros(100_000), folder / "large")
        assert is_storage_trouble(torch_caught.value)
        with pytest.raises(OSError, match="No space"):
            (folder / "rest").write_bytes(bytes(100_000))
        assert complaint(lambda: probe(storage)) == (
            f"--storage {folder}: {HOST} cannot use it: No space left on device; "
            "free some space there, or choose another"
        )
        assert storage.list() == ["large", "rest"]


def test_pyarrows_own_full_disk_is_storage_trouble():
    from pyarrow import fs

    with pytest.raises(OSError, match=r"\[errno 28\]") as caught:
        fs.LocalFileSystem().open_append_stream("/dev/full").write(b"x")
    assert is_storage_trouble(OSError(str(caught.value)))  # as it comes back out of Ray: without a number


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO])
def test_storage_trouble_is_found_behind_other_errors(number):
    error = OSError(number, os.strerror(number))
    inside = RuntimeError("could not save")
    inside.__cause__ = error
    after = ValueError("and then")
    after.__context__ = inside
    wrapped = RuntimeError("RayTaskError")
    wrapped.cause = after  # type: ignore[attr-defined]
    told = RuntimeError(f"Traceback (most recent call last):\n  …\nOSError: {error}")
    for trouble in (error, inside, after, wrapped, told, ExceptionGroup("two", [KeyError("x"), after])):
        assert is_storage_trouble(trouble)


def test_other_errors_are_no_storage_trouble():
    circle = ValueError("got 28, must be at most 5")
    circle.__context__ = RuntimeError("CUDA out of memory")
    circle.__context__.__context__ = circle
    for error in (circle, FileNotFoundError(errno.ENOENT, "none"), OSError("odd"), KeyError(28), MemoryError()):
        assert not is_storage_trouble(error)


def test_a_full_disk_in_torchs_words_is_storage_trouble():
    error = RuntimeError(
        "[enforce fail at inline_container.cc:863] . PytorchStreamWriter failed writing file data/0: file write failed"
    )
    assert is_storage_trouble(error)


@pytest.mark.parametrize(
    ("where", "rest"),
    [
        ("s3:/bucket", "is no URI; write two slashes after the colon, as in s3://"),
        ("file://host/data", "is on another host; write three slashes, as in file:///data"),
        ("s3:///prefix", "must be s3://BUCKET/PREFIX, or s3://KEY:SECRET@BUCKET/PREFIX .*; check the URI"),
        ("s3://bucket/a/../b", r"must not have \. or \.\. in its path; check the URI"),
        ("s3://bucket?regoin=x", "got the option 'regoin', must be one of region, .*; did you mean 'region'.*"),
        ("s3://bucket?allow_bucket_creation=x", "got allow_bucket_creation=x, must be true or false; check the URI"),
        ("s3b://bucket", "got 's3b', must be a folder or one of s3, gs, gcs, file, .*; did you mean 's3'.*"),
        ("az://bucket", "Install adlfs to access Azure.*; check the URI"),
        ("gs://bucket?foo=1", "Unexpected query parameter in GCS URI: 'foo'; check the URI"),
        ("~nobody-of-that-name/x", r"Could not determine home directory\.; choose a folder that can be written"),
        ("a\x00b", "embedded null byte; choose a folder that can be written"),
    ],
)
def test_places_that_can_be_none(where, rest):
    known = re.escape(where).replace("foo=1", "foo=…").replace("regoin=x", "regoin=…")
    assert re.fullmatch(f"--storage {known}: {rest}", complaint(lambda: open_storage(where)))


@pytest.mark.parametrize(
    "where",
    [
        "s3://AKIAPUBLIC:hush-hush@bucket/prefix?foo=1",
        "s3://AKIAPUBLIC:hush%2Fhush@bucket/prefix?foo=1",
        "s3://AKIAPUBLIC:hush/hush@bucket/prefix",
        "s3://AKIAPUBLIC:hush?hush@bucket/prefix",
        "s3://AKIAPUBLIC:hush@hush@bucket/prefix?region",
        "s3://bucket/prefix?secret_key=hush-hush&foo=AKIAPUBLIC",
        "s4://AKIAPUBLIC:hush-hush@bucket/prefix",
        "s3://AKIAPUBLIC:hush-hush@bucket?endpoint_override=http://AKIAPUBLIC:hush@127.0.0.1:1",
    ],
)
def test_secrets_are_never_shown(where, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    try:
        storage = open_storage(where)
    except StorageError as error:
        shown = str(error)
    else:
        shown = f"{storage} {storage.uri} {storage.child('a')} {complaint(lambda: probe(storage))}"
    assert "bucket" in shown
    assert "hush" not in shown
    assert "AKIAPUBLIC" not in shown


def test_credentials_of_the_uri_go_to_s3_and_to_copies(server, s3):
    bucket = s3.root.partition("/")[0]
    storage = open_storage(server.uri(bucket, user="AKIAPUBLIC:hush%2Fhush@"))
    assert storage.uri == server.uri(bucket)
    copy = pickle.loads(pickle.dumps(storage))
    assert "'secret_key': 'hush/hush'" in str(super(type(copy.filesystem), copy.filesystem).__reduce__())
    probe(copy)


def test_a_child_of_a_store_shows_a_uri_that_opens_it(s3, folder):
    s3.child("größer 1").upload(folder / "a", "b")
    assert open_storage(s3.child("größer 1").uri).list("b") == ["empty", "größer b"]


def test_a_missing_bucket_is_told_soon(server, s3):
    storage = open_storage(server.uri("missing-bucket/prefix"))
    start = time.monotonic()
    for call in (storage.make, lambda: probe(storage)):
        assert complaint(call) == (
            f"--storage {storage.uri}: {HOST} cannot use it: the bucket does not exist; "
            "make it, or add allow_bucket_creation=true to the URI"
        )
    assert time.monotonic() - start < 5


def test_a_wrong_endpoint_is_told_soon(s3):
    storage = open_storage("s3://bucket?endpoint_override=http://127.0.0.1:1")
    start = time.monotonic()
    for call in (storage.make, lambda: probe(storage)):
        assert re.fullmatch(
            rf"--storage {re.escape(storage.uri)}: {HOST} cannot use it: it cannot be reached \(.*connect.*\); "
            "check endpoint_override, scheme and the network",
            complaint(call),
        )
    assert time.monotonic() - start < 5


def test_refused_credentials_are_told_soon(s3_server, s3_keys):
    storage = open_storage(s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0").uri("bucket"))
    assert re.fullmatch(
        rf"--storage {re.escape(storage.uri)}: {HOST} cannot use it: "
        r"the credentials are missing or refused \(.*\); "
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on this host",
        complaint(lambda: probe(storage)),
    )


def test_an_s3_error_is_storage_trouble(s3):
    storage = open_storage("s3://bucket?endpoint_override=http://127.0.0.1:1")
    with pytest.raises(StorageError) as caught:
        probe(storage)
    error = caught.value.__context__
    assert isinstance(error, OSError)
    assert "AWS Error NETWORK_CONNECTION" in str(error)
    for trouble in (caught.value, error, RuntimeError(f"Trial failed:\n{error}")):
        assert is_storage_trouble(trouble)


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise KeyError('mine')", "os.kill(os.getpid(), 2)"])
def test_a_process_that_used_s3_ends_as_it_means_to(s3, ending):
    """pyarrow must finalize S3 at exit, and has aborted, crashed or hung there."""
    code = (
        "import os, signal, sys; from tune.storage import open_storage, probe\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background shell's children ignore it
        "storage = open_storage(sys.argv[1]); probe(storage); kept = storage.filesystem; storage.list()\n"
        f"{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", code, s3.where], capture_output=True, text=True, timeout=60)
    expected = {"pass": 0, "sys.exit(3)": 3, "raise KeyError('mine')": 1, "os.kill(os.getpid(), 2)": -signal.SIGINT}
    assert done.returncode == expected[ending]
    last = (done.stderr.strip().splitlines() or [""])[-1]
    assert last == {0: "", 3: "", 1: "KeyError: 'mine'", -signal.SIGINT: "KeyboardInterrupt"}[done.returncode]


@contextmanager
def uploading(storage: Storage, file: Path, rel: str) -> Iterator[list[float]]:
    """An upload meanwhile; at the end it has to succeed. Its seconds."""
    seconds: list[float] = []

    def upload() -> None:
        start = time.monotonic()
        storage.upload(file, rel)
        seconds.append(time.monotonic() - start)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        yield seconds
    finally:
        thread.join(150)
    assert seconds, "the upload failed, or has not ended"


@pytest.mark.slow
@pytest.mark.parametrize("outage_s", [20])
def test_a_server_that_hangs_during_an_upload_is_ridden_out(server, s3, folder, tmp_path, outage_s):
    copy = pickle.loads(cloudpickle.dumps(s3))
    with server.stopped(), uploading(copy, folder / "large", "large") as seconds:
        time.sleep(outage_s)
        server.process.send_signal(signal.SIGCONT)
    print(f"hung for {outage_s} s, uploaded in {seconds[0]:.1f} s")
    s3.download("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (folder / "large").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("outage_s", [20])
def test_a_server_that_is_down_during_an_upload_is_ridden_out(server, s3, tmp_path, outage_s):
    """Its state is lost with it, so the bucket is made again at once; one small file is one request."""
    file = tmp_path / "file"
    file.write_text("precious")
    filesystem = pickle.loads(cloudpickle.dumps(s3.filesystem))  # as Ray Tune sends it
    assert filesystem.get_file_info(s3.root).type.name == "Directory"
    server.kill()
    with uploading(s3, file, "file") as seconds:
        time.sleep(outage_s)
        server.start()
        s3.make()
    print(f"down for {outage_s} s, uploaded in {seconds[0]:.1f} s")
    assert s3.read_text("file") == "precious"
