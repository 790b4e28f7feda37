"""An experiment is brought here whole or not at all, and takes the place of nothing but an older copy of itself."""

from pathlib import Path
from typing import Any

import pytest

from cifar.errors import UserError
from tune.experiment import ExperimentDir
from tune.service.fetch import fetch
from tune.storage import open_storage

RECORD = "provenance: {started: '2026-11-25T20:15:00+00:00', command: c, data_fingerprint: f}\n"


@pytest.fixture
def there(tmp_path) -> Path:
    """An experiment in a storage that this machine can read."""
    folder = tmp_path / "there" / "a b"
    (folder / "model").mkdir(parents=True)
    (folder / "experiment.yaml").write_text(RECORD)
    (folder / "model" / "model.ckpt").write_text("weights")
    return folder


@pytest.fixture
def bring(there, tmp_path):
    """Fetches it. No cluster is asked."""
    said: list[str] = []

    def run(output: str = "here", cluster: Any = None) -> Path:
        return fetch(cluster, "a b", there.parent.as_uri(), tmp_path / output, said.append, checkpoints=False)

    return run


def contents(folder: Path) -> dict[str, str]:
    """Files that are not hidden."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("[!.]*") if path.is_file()}


def test_it_is_read_straight_from_a_storage_that_is_seen_from_here(bring, there, tmp_path):
    assert open_storage(there.parent.as_uri()).exists("a b/experiment.yaml")
    assert bring() == tmp_path / "here" / "a b"
    assert contents(tmp_path / "here" / "a b") == contents(there)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a b"]


def test_an_older_copy_is_replaced_whole(bring, there, tmp_path):
    bring()
    (tmp_path / "here" / "a b" / "report.html").write_text("of mine")
    (there / "model" / "model.ckpt").write_text("others")
    bring()
    assert contents(tmp_path / "here" / "a b") == contents(there)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a b"]


def test_another_experiment_of_that_name_stays(bring, there, tmp_path):
    bring()
    (there / "experiment.yaml").write_text(RECORD.replace("2026", "2025"))
    before = contents(tmp_path / "here" / "a b")
    with pytest.raises(UserError, match="is another experiment of that name; choose another --output"):
        bring()
    assert contents(tmp_path / "here" / "a b") == before


def test_the_storages_own_folder_stays(bring, there):
    before = contents(there)
    with pytest.raises(UserError, match="is there, and is no copy, or one that was gone on with here; choose another"):
        bring(output="there")
    assert contents(there) == before


def test_a_copy_that_runs_or_was_gone_on_with_here_stays(bring):
    copy = bring()
    with ExperimentDir(copy).locked(), pytest.raises(UserError, match="is being run by another process; choose"):
        bring()
    with pytest.raises(UserError, match="is no copy, or one that was gone on with here; choose another --output"):
        bring()
    assert copy.exists()


@pytest.mark.parametrize("name", ["study.journal", "test_ledger.jsonl"])
def test_a_copy_with_lines_that_the_cluster_has_not_stays(bring, there, name):
    (there / name).write_text("1\n2\n")
    copy = bring()
    (there / name).write_text("1\n2\n3\n")
    assert (bring() / name).read_text() == "1\n2\n3\n"
    (copy / name).write_text("1\n2\n3\n4\n")
    with pytest.raises(UserError, match=rf"{name} has lines that the cluster's has not; choose another --output"):
        bring()
    (copy / name).write_text("1\n2\nhal")  # as a search leaves it that writes at that moment
    assert (bring() / name).read_text() == "1\n2\n3\n"


def test_what_is_no_experiment_stays(bring, tmp_path):
    (tmp_path / "here" / "a b").mkdir(parents=True)
    (tmp_path / "here" / "a b" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="is there, and is no experiment; choose another --output"):
        bring()
    assert contents(tmp_path / "here" / "a b") == {"thesis.tex": "years"}


def test_a_copy_that_breaks_off_changes_nothing(bring, there, tmp_path, monkeypatch):
    bring()
    before = contents(tmp_path / "here" / "a b")

    class Gone:
        def submit(self, *_: Any) -> None:
            raise UserError("gone")

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tune.storage._copy", broken)
    (there / "model" / "model.ckpt").write_text("others")
    with pytest.raises(UserError, match="gone"):  # having asked the cluster, too
        bring(cluster=Gone())
    assert contents(tmp_path / "here" / "a b") == before
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a b"]


def test_an_output_that_cannot_be_written_is_an_error(bring, tmp_path):
    (tmp_path / "here").write_text("")
    with pytest.raises(UserError, match=r"^--output .*here: File exists; choose a folder that can be written"):
        bring()


def test_a_link_cannot_lead_out_of_the_storage(bring, there, tmp_path):
    there.rename(tmp_path / "elsewhere")
    there.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link, which may lead out of the storage; name the folder it leads to"):
        bring()
    assert list((tmp_path / "here").iterdir()) == []


def test_what_goes_away_meanwhile_is_left_out(bring, there, monkeypatch):
    from tune.service import package

    listed = [("experiment.yaml", 1), ("trials/0/checkpoint_000001/gone", 1), ("model/model.ckpt", 1)]
    monkeypatch.setattr(package, "chosen", lambda *_, **__: listed)
    assert contents(bring()) == contents(there)


def test_a_name_cannot_lead_out_of_the_output(tmp_path):
    with pytest.raises(UserError, match="must be 1 to 200 printable characters without /"):
        fetch(None, "../x", "", tmp_path, print, checkpoints=False)


def test_it_is_read_straight_from_an_object_store(there, tmp_path, server, s3_keys):
    storage = server.uri(f"{tmp_path.name.replace('_', '-')}/x", options="&allow_bucket_creation=true")
    open_storage(storage).make()
    open_storage(storage).upload(there, "a b")
    (there / "trials" / "00000" / "checkpoint_000001").mkdir(parents=True)
    (there / "trials" / "00000" / "checkpoint_000001" / "checkpoint.ckpt").write_text("weights")
    open_storage(storage).upload(there / "trials", "a b/trials")
    before = contents(there)
    fetch(None, "a b", storage, tmp_path / "here", print, checkpoints=True)
    assert contents(tmp_path / "here" / "a b") == before
    fetch(None, "a b", storage, tmp_path / "here", print, checkpoints=False)
    assert set(before) - set(contents(tmp_path / "here" / "a b")) == {"trials/00000/checkpoint_000001/checkpoint.ckpt"}
