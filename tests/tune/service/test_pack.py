"""The job that writes an experiment into its log."""

import io
import re
import signal
import subprocess
import sys
import time

import pytest

from cifar.errors import UserError
from tune.service import package
from tune.service.pack import pack


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "experiment.yaml").write_text("provenance: {}\n")
    return tmp_path


def test_an_experiment_is_written_as_lines(storage, capsys, tmp_path):
    pack("a b", str(storage), checkpoints=False)
    with io.BytesIO() as packed:
        package.read([capsys.readouterr().out], packed)
        packed.seek(0)
        package.extract(packed, tmp_path / "new")
    assert (tmp_path / "new" / "experiment.yaml").read_text() == "provenance: {}\n"


def test_one_that_is_too_large_for_a_log_is_refused(storage, monkeypatch):
    monkeypatch.setattr(package, "MOST_BYTES", 1)
    with pytest.raises(UserError, match=r"^fetch: a b has 0\.0 GiB, and through a job .* with --storage s3://bucket"):
        pack("a b", str(storage), checkpoints=False)


def test_one_that_is_not_there_is_an_error(storage):
    with pytest.raises(UserError, match=f"^fetch: no experiment x has begun in {re.escape(str(storage))}$"):
        pack("x", str(storage), checkpoints=False)


def test_one_that_is_a_link_is_refused(storage, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "experiment.yaml").write_text("provenance: {secret: hidden}\n")
    (storage / "x").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"^fetch: .*/x is a link, which may lead out of the storage; name the folder"):
        pack("x", str(storage), checkpoints=False)


def test_what_it_wrote_is_gone_once_it_was_read(storage, tmp_path):
    log = tmp_path / "log"
    with log.open("a") as stream:
        command = [sys.executable, "-m", "tune.service.pack", "a b", "--storage", str(storage)]
        job = subprocess.Popen(command, stdout=stream)
        while package.END not in log.read_text():
            assert job.poll() is None
            time.sleep(0.1)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 0
    assert log.read_text() == ""
