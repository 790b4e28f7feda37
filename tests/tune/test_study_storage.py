import json
import os
import sys
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from tune.errors import StorageError
from tune.study import StudyRecord
from tune.study_storage import absolute_url, journal_storage, read_journal, url_storage


def reopened(journal: Path) -> StudyRecord:
    return StudyRecord(journal_storage(journal), "name", RandomSampler(seed=0), maximize=True, resume=True)


def test_a_line_is_in_the_file_at_once_and_on_the_disk_within_a_second(journal, space, monkeypatch):
    synced, now = [], [100.0]
    monkeypatch.setattr("tune.study_storage.os.fsync", synced.append)
    monkeypatch.setattr("tune.study_storage.time.monotonic", lambda: now[0])
    record = reopened(journal)
    number = record.propose(space).number
    assert (read_journal(journal).trials[number].params.keys() > {"learning_rate"}, synced) == (True, [])
    now[0] += 1.1
    record.report(number, 1, 0.5)
    assert len(synced) == 1
    record.report(number, 2, 0.5)
    assert len(synced) == 1
    assert read_journal(journal).trials[number].intermediate_values == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("left", ['{"op_co', "{", "\x00\x00\x00", '{"op_code":8}'])
def test_half_a_last_line_is_cut_off(journal, space, left):
    record = reopened(journal)
    trial = record.propose(space)
    whole = journal.read_bytes()
    journal.write_bytes(whole + left.encode())
    record = reopened(journal)
    content = journal.read_bytes()
    assert content.startswith(whole)
    assert [json.loads(line) for line in content.splitlines()], "whole lines only"
    assert record.trials() == [trial]
    record.report(0, 1, 0.5)
    assert reopened(journal).trials()[0].values == {1: 0.5}


def test_the_lock_of_a_killed_process_is_taken_away(journal, space):
    reopened(journal)
    os.symlink(journal, f"{journal}.lock")
    os.symlink(journal, f"{journal}.lock1234.rename")
    reopened(journal).propose(space)  # else it waits for half a minute
    assert [path.name for path in journal.parent.glob("study*")] == ["study.journal"]


def test_a_journal_is_read_without_being_changed(journal, space):
    record = reopened(journal)
    trial = record.propose(space)
    trial.state, trial.values = "completed", {1: 0.5}
    record.end(trial)
    content = journal.read_bytes()
    read = read_journal(journal)
    name, trials = read.study.study_name, read.trials
    assert (name, [trial.value for trial in trials]) == ("name", [0.5])
    assert journal.read_bytes() == content


def test_there_is_no_journal(journal):
    with pytest.raises(StorageError, match=rf"^{journal}: no study can be read there \(.*No such file"):
        read_journal(journal)
    assert not journal.exists()


@pytest.mark.parametrize("content", ["", "no journal\n", "{}\n", "[]\n", "1\n", '{"op_code": 0}\n'])
def test_what_is_no_journal_is_told_in_a_line(journal, content):
    journal.write_text(content)
    with pytest.raises(StorageError, match=r"no study can be read there \(.*\)$") as caught:
        read_journal(journal)
    assert "\n" not in str(caught.value)


# Databases


def test_a_relative_sqlite_file_is_named_for_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_url("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"
    for url in (f"sqlite:///{tmp_path}/x.db", "sqlite://", "postgresql://user:pass@host/name"):
        assert absolute_url(url) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"--study: must be a database URL, as in sqlite:///study.db or postgresql://user@host/name$"),
        ("", r"--study: must be a database URL"),
        ("quux://me:secret@host/name", r"--study quux://me:\*\*\*@host/name: .*quux"),
        ("postgresql+quux://me:secret@host/name", r"--study postgresql\+quux://me:\*\*\*@host/name: .*quux"),
        ("sqlite:////nowhere/at/all/study.db", r"--study sqlite:////nowhere/at/all/study.db: .*unable to open"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_line_without_its_password(url, message):
    with pytest.raises(StorageError, match=f"^{message}") as caught:
        url_storage(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    message = r"^--study postgresql\+psycopg2://me:\*\*\*@host/name: needs the package psycopg2"
    with pytest.raises(StorageError, match=message):
        url_storage("postgresql+psycopg2://me:secret@host/name")
