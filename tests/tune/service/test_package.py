"""An experiment directory as lines of a log: whole or not at all, and nowhere but in its folder."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from cifar.errors import UserError
from tune.service import package
from tune.service.package import chosen, extract, lines, read
from tune.storage import open_storage

FILES = ["experiment.yaml", "model/model.ckpt", "trials/00000/events"]
CHECKPOINT = "trials/00000/checkpoint_000001/checkpoint.ckpt"


@pytest.fixture
def experiment(tmp_path):
    folder = tmp_path / "experiments" / "it's"
    for file in (*FILES, CHECKPOINT, ".lock"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(os.urandom(100_000))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("hidden")
    (folder / "model" / "key").symlink_to(tmp_path / "secret" / "key")
    (folder / "trials" / "secret").symlink_to(tmp_path / "secret")
    return folder


def names(folder: Path, *, checkpoints: bool) -> list[str]:
    return [name for name, _ in chosen(open_storage(str(folder)), checkpoints=checkpoints)]


def test_checkpoints_of_trials_come_when_asked_for_and_links_never(experiment):
    assert names(experiment, checkpoints=False) == FILES
    assert names(experiment, checkpoints=True) == sorted([*FILES, CHECKPOINT])
    assert [size for _, size in chosen(open_storage(str(experiment)), checkpoints=False)] == [100_000] * len(FILES)


@pytest.mark.parametrize("piece", [7, 1000, 10**9])
def test_what_is_written_to_a_log_can_be_read_from_it(experiment, tmp_path, piece):
    text = "".join(f"{line}\n" for line in ["Running entrypoint", *lines(experiment, FILES), "after"])
    with io.BytesIO() as packed:
        others = read((text[start : start + piece] for start in range(0, len(text), piece)), packed)
        packed.seek(0)
        extract(packed, tmp_path / "new")
    assert others == ["Running entrypoint"]
    assert {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()} == {
        *FILES
    }
    for file in FILES:
        assert (tmp_path / "new" / file).read_bytes() == (experiment / file).read_bytes()


def test_what_goes_away_meanwhile_is_left_out_and_what_is_linked_twice_is_a_file_twice(experiment, tmp_path):
    os.link(experiment / "model" / "model.ckpt", experiment / "twice")
    with io.BytesIO() as packed:
        read((f"{line}\n" for line in lines(experiment, ["gone", *FILES, "twice"])), packed)
        packed.seek(0)
        extract(packed, tmp_path / "new")
    for file in (*FILES, "twice"):
        assert (tmp_path / "new" / file).read_bytes() == (experiment / file).read_bytes()


def test_what_does_not_come_as_it_was_sent_is_refused(experiment):
    sent = list(lines(experiment, FILES))
    swapped = [sent[0], sent[2], sent[1], *sent[3:]]
    with pytest.raises(UserError, match="its SHA-256 differs; try again"):
        read((f"{line}\n" for line in swapped), io.BytesIO())
    with pytest.raises(UserError, match="a line is broken; try again"):
        read((f"{line}\n" for line in [sent[0], "?" + sent[1][1:]]), io.BytesIO())
    with pytest.raises(UserError, match="nothing came; the job said: began"):
        read(["began\n", *(f"{line}\n" for line in sent[:-1])], io.BytesIO())


def test_what_went_wrong_there_is_told_here():
    with pytest.raises(UserError, match=r"^fetch: no experiment x has begun in /y$"):
        read(["Running entrypoint\n", "error: fetch: no experiment ", "x has begun in /y\n"], io.BytesIO())


def archive(member: tarfile.TarInfo) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        tar.addfile(tarfile.TarInfo("experiment.yaml"))
        tar.addfile(member, io.BytesIO(b"x" * member.size))
    packed.seek(0)
    return packed


def named(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 1
    return member


@pytest.mark.parametrize("name", ["../escaped", "model/../../escaped"])
def test_a_file_that_would_lie_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^fetch: .*escaped.* outside the destination; nothing was written"):
        extract(archive(named(name)), tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("escaped"))


def test_an_absolute_name_stays_inside(tmp_path):
    extract(archive(named(f"{tmp_path}/escaped")), tmp_path / "a")
    assert list(tmp_path.rglob("escaped")) == [tmp_path / "a" / str(tmp_path).lstrip("/") / "escaped"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("link", ["experiment.yaml", "/etc/passwd", "../../x"])
def test_links_and_devices_are_refused(tmp_path, kind, link):
    member = tarfile.TarInfo("model")
    member.type, member.linkname = kind, link
    with pytest.raises(UserError, match="'model' is neither a file nor a folder"):
        extract(archive(member), tmp_path)
    assert not (tmp_path / "model").exists()


def test_more_than_anyone_sends_is_refused(experiment, tmp_path, monkeypatch):
    sent = list(lines(experiment, FILES))
    packed = io.BytesIO()
    read((f"{line}\n" for line in sent), packed)
    packed.seek(0)
    monkeypatch.setattr(package, "MOST_BYTES", 250_000)
    with pytest.raises(UserError, match=r"^fetch: more than .* GiB came"):
        read((f"{line}\n" for line in sent), io.BytesIO())
    with pytest.raises(UserError, match=r"^fetch: what came is more than .* GiB"):
        extract(packed, tmp_path / "new")


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(UserError, match="what came cannot be unpacked"):
        extract(io.BytesIO(b"not a tar"), tmp_path)
