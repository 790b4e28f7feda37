"""A journal read fast is the study that Optuna replays from it, whatever was being written."""

import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tune.errors import StorageError
from tune.journal import folded, read_lines
from tune.study_storage import read_journal

SHORT = ("search.trials=6", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "search.sampler=random")


def replayed(journal: Path) -> optuna.Study:
    """What Optuna itself makes of a copy."""
    copy = journal.with_name("copy.journal")
    shutil.copy(journal, copy)
    storage = JournalStorage(JournalFileBackend(str(copy)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def check_same(journal: Path) -> None:
    read, expected = read_journal(journal), replayed(journal)
    assert read.trials == expected.get_trials(deepcopy=False)
    assert (read.attributes, read.study.directions) == (expected.user_attrs, expected.directions)
    assert read.study.metric_names == expected.metric_names


@pytest.mark.parametrize(
    "fields",
    [
        SHORT,
        (*SHORT, "search.start=[{translate: 1}]"),
        (*SHORT, "scheduler.mode=stop"),
        (*SHORT, "scheduler.type=pbt"),
        (*SHORT, "search.objectives=[{metric: val_accuracy}, {metric: parameters}]", "scheduler.type=none"),
    ],
)
def test_every_search_is_read_as_optuna_replays_it(begun, storage, fields):
    begun("one", *fields, slots=2).run()
    journal = storage / "one" / "study.journal"
    check_same(journal)
    logs = read_lines(journal)
    assert len(folded(logs)) < len(logs) / 3


def test_a_search_that_was_killed_and_resumed(begun, storage):
    one = begun("one", *SHORT, slots=2).run(steps=3)
    again = replace(one, told=[], began=[], epoch={}, seconds={})
    journal = storage / "one" / "study.journal"
    check_same(journal)
    number = again.start().trial.number
    again.leave(number)
    again.conductor.failed(number, "ValueError: 3")
    again.run()
    check_same(journal)
    assert len(folded(read_lines(journal))) < len(read_lines(journal)) / 3


def test_what_is_being_written_is_left_out_and_nothing_is_changed(begun, storage):
    begun("one", *SHORT).run(steps=4)
    journal = storage / "one" / "study.journal"
    content = journal.read_bytes()
    whole = content.splitlines(keepends=True)
    for count in range(len(whole) - 12, len(whole)):
        journal.write_bytes(b"".join(whole[:count]) + whole[count][:20])
        before = journal.read_bytes()
        assert len(read_lines(journal)) == count
        expected = b"".join(whole[:count])
        read = read_journal(journal)
        assert (journal.read_bytes(), sorted(path.name for path in journal.parent.glob("study*"))) == (
            before,
            ["study.journal"],
        )
        journal.write_bytes(expected)
        assert read.trials == replayed(journal).get_trials(deepcopy=False)
        (storage / "one" / "copy.journal").unlink()


def test_a_study_that_was_read_takes_no_line(begun, storage):
    begun("one", *SHORT).run(steps=2)
    study = read_journal(storage / "one" / "study.journal").study
    with pytest.raises(OSError, match="opened to be read"):
        study.set_user_attr("a", 1)


def test_a_broken_line_is_named(begun, storage):
    begun("one", *SHORT).run(steps=2)
    journal = storage / "one" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"\x00\x00\n", *lines[2:]]))
    with pytest.raises(StorageError, match=r"study\.journal: no study can be read there \(line 3: "):
        read_journal(journal)


@pytest.mark.parametrize(
    "change",
    [
        lambda logs: [*logs, {"op_code": 1, "study_id": 0, "worker_id": "x"}],
        lambda logs: [*logs, {**logs[0], "study_name": "another"}],
        lambda logs: logs[1:],
        lambda logs: [*logs, {**next(log for log in logs if log["op_code"] == 5), "distribution": "{}"}],
    ],
)
def test_what_may_mean_something_else_is_left_to_optuna(begun, storage, change):
    begun("one", *SHORT).run(steps=2)
    logs = change(read_lines(storage / "one" / "study.journal"))
    assert folded(logs) == logs
