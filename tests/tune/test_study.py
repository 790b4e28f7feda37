import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from cifar.hparams import HParams
from tune.errors import NameTakenError
from tune.sections import Objective
from tune.study import StudyRecord
from tune.study_storage import journal_storage, read_journal, url_storage
from tune.trials import Trial


@pytest.fixture
def record():
    return StudyRecord(InMemoryStorage(), "name", RandomSampler(seed=0), maximize=True, resume=False)


def reopened(journal: Path) -> StudyRecord:
    return StudyRecord(journal_storage(journal), "name", RandomSampler(seed=0), maximize=True, resume=True)


def ended(record: StudyRecord, trial: Trial, state: str, reason: str = "", **values: float) -> Trial:
    for epoch, value in values.items():
        record.report(trial.number, int(epoch[1:]), value)
        trial.values[int(epoch[1:])] = value
    trial.state, trial.reason, trial.seconds = state, reason, 1.5
    record.end(trial)
    return trial


# Trials as the study tells them


def test_a_proposed_trial_holds_all_its_hparams_and_is_paused_until_it_runs(record, space):
    trial = record.propose(space)
    assert (trial.number, trial.state, trial.values, trial.attempts) == (0, "paused", {}, 0)
    assert set(trial.hparams) == set(HParams.model_fields)
    assert HParams(**trial.hparams).model_dump() == trial.hparams
    assert record.trials() == [trial]


@pytest.mark.parametrize(
    ("state", "values", "told", "value"),
    [
        ("completed", {"e1": 0.5, "e2": 0.9, "e3": 0.7}, TrialState.COMPLETE, 0.9),
        ("stopped", {"e1": 0.5}, TrialState.PRUNED, 0.5),
        ("stopped", {}, TrialState.PRUNED, None),
        ("diverged", {"e1": 0.5}, TrialState.FAIL, None),
        ("failed", {}, TrialState.FAIL, None),
        ("completed", {}, TrialState.FAIL, None),
    ],
)
def test_how_a_trial_ended_is_in_the_studys_own_states_and_in_ours(record, space, state, values, told, value):
    trial = ended(record, record.propose(space), state, "why", **values)
    (frozen,) = record.study.trials
    assert (frozen.state, frozen.value) == (told, value)
    assert {name: frozen.user_attrs[name] for name in ("state", "reason", "seconds")} == {
        "state": state,
        "reason": "why",
        "seconds": 1.5,
    }
    assert record.trials() == [trial]
    assert record.ended() == [0]


def test_the_best_value_of_a_loss_is_the_lowest(space):
    record = StudyRecord(InMemoryStorage(), "name", RandomSampler(seed=0), maximize=False, resume=False)
    ended(record, record.propose(space), "completed", e1=0.5, e2=0.2, e3=0.3)
    assert record.study.trials[0].value == 0.2


def test_of_several_objectives_each_is_told_at_the_best_epoch_and_every_epoch_is_read_back(journal, space):
    both = [Objective(metric="parameters"), Objective(metric="val_loss")]

    def opened() -> StudyRecord:
        storage, sampler = journal_storage(journal), RandomSampler(seed=0)
        return StudyRecord(storage, "name", sampler, maximize=False, resume=True, objectives=both)

    record = opened()
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "diverged": TrialState.FAIL}
    for state in states:
        trial = record.propose(space)
        for epoch, loss in enumerate([0.5, 0.2, 0.3], 1):
            figures = {"parameters": 100.0, "val_loss": loss}
            record.report(trial.number, epoch, loss, figures)
            trial.values[epoch], trial.figures[epoch] = loss, figures
        trial.state, trial.seconds = state, 1.5
        record.end(trial)
    record.end(replace(record.propose(space), state="completed"))  # no value
    frozen = record.study.trials
    assert [trial.state for trial in frozen] == [*states.values(), TrialState.FAIL]
    assert [trial.values for trial in frozen] == [[100.0, 0.2], None, None, None]
    assert record.study.metric_names == ["parameters", "val_loss"]
    assert [trial.number for trial in record.study.best_trials] == [0]
    again = opened()
    assert again.trials() == record.trials()
    assert [list(trial.values) for trial in again.trials()] == [[1, 2, 3]] * 3 + [[]]
    assert again.trials()[1].figures[2] == {"parameters": 100.0, "val_loss": 0.2}
    assert again.repeat_failed() == 0, "none failed"


def test_notes_are_read_back_as_a_trials_fields(journal, space):
    record = reopened(journal)
    record.enqueue({"learning_rate": 0.1}, parent=[3, 2], instead_of=7)
    trial = record.propose(space)
    assert (trial.parent, trial.instead_of, trial.replaces) == ((3, 2), 7, None)
    assert trial.hparams["learning_rate"] == 0.1
    record.report(0, 2, 0.7)
    record.report(0, 1, 0.5)
    record.note(0, attempts=2, lost=1)
    record.note(0, **{"epoch 2": {"checkpoint": "trials/00000/b", "seconds": 4.0, "elapsed": 9.5}})
    record.note(0, **{"epoch 1": {"checkpoint": "trials/00000/a", "seconds": 2.0, "elapsed": 7.5}})
    record.note(0, **{"rung 1": "passes rung 1"})
    (again,) = reopened(journal).trials()
    assert again == Trial(
        0,
        trial.hparams,
        "paused",
        {1: 0.5, 2: 0.7},
        seconds=4.0,
        checkpoints={1: "trials/00000/a", 2: "trials/00000/b"},
        saved_at={1: 7.5, 2: 9.5},
        judged={1: "passes rung 1"},
        attempts=2,
        lost=1,
        parent=(3, 2),
        instead_of=7,
    )
    assert list(again.values) == list(again.checkpoints) == [1, 2]


def test_an_end_that_was_only_half_written_is_none(journal, space):
    record = reopened(journal)
    record.propose(space)
    record.note(0, state="completed", reason="", seconds=1.0)
    (trial,) = reopened(journal).trials()
    assert trial.state == "paused"
    assert reopened(journal).ended() == []


def test_ends_are_told_in_their_order(record, space):
    trials = [record.propose(space) for _ in range(4)]
    for number in (2, 0, 3):
        ended(record, trials[number], "stopped", e1=0.1)
    assert record.ended() == [2, 0, 3]


def test_seconds_of_the_search_are_kept(journal):
    record = reopened(journal)
    assert record.elapsed == 0
    record.elapsed = 12.34567
    assert reopened(journal).elapsed == 12.346


# Points that wait


def test_enqueued_points_are_proposed_first_whole_or_in_part(record, space):
    record.enqueue({"learning_rate": 0.5, "translate": 3, "optimizer": "sgd", "momentum": 0.75})
    record.enqueue({"translate": 1})
    assert record.trials() == []
    first, second, third = (record.propose(space) for _ in range(3))
    shown = [first.hparams[name] for name in ("learning_rate", "translate", "optimizer", "momentum")]
    assert shown == [0.5, 3, "sgd", 0.75]
    assert second.hparams["translate"] == 1
    assert 1e-4 <= second.hparams["learning_rate"] <= 1.0
    assert third.hparams["learning_rate"] not in {0.5, second.hparams["learning_rate"]}


def test_what_waits_is_found_by_its_attribute(record, space):
    assert not record.is_enqueued(replaces=...)
    record.enqueue({}, replaces=3)
    assert record.is_enqueued(replaces=...)
    assert record.is_enqueued(replaces=3)
    assert not record.is_enqueued(replaces=4)
    assert not record.is_enqueued(instead_of=...)
    record.propose(space)
    assert not record.is_enqueued(replaces=...)


def test_planned_points_are_enqueued_once_whatever_was_done_of_them(journal, space):
    points = [{"translate": number} for number in range(4)]
    reopened(journal).plan(points[:2])
    record = reopened(journal)
    record.propose(space)
    record = reopened(journal)
    record.plan(points)
    assert [record.propose(space).hparams["translate"] for _ in range(3)] == [1, 2, 3]
    record.plan(points)
    assert not record.is_enqueued(start=...)


def test_failed_trials_are_repeated_and_not_twice(journal, space):
    record = reopened(journal)
    for state in ("completed", "failed", "stopped", "diverged", "failed"):
        ended(record, record.propose(space), state, **{} if state == "failed" else {"e1": 0.5})
    assert record.repeat_failed() == 2
    record = reopened(journal)
    assert record.repeat_failed() == 0
    again = [record.propose(space), record.propose(space)]
    assert [trial.replaces for trial in again] == [1, 4]
    trials = record.trials()
    assert [trial.hparams for trial in again] == [trials[1].hparams, trials[4].hparams]
    assert record.repeat_failed() == 0
    ended(record, again[0], "failed")
    assert record.repeat_failed() == 1
    assert record.propose(space).replaces == 5


def test_what_is_told_of_the_whole_search_stays(journal):
    record = reopened(journal)
    assert (record.retrain_seconds, record.ended_because) == (0, "")
    record.retrain_seconds, record.ended_because = 3.14159, "val_accuracy reached 0.9"
    record = reopened(journal)
    assert (record.retrain_seconds, record.ended_because) == (3.142, "val_accuracy reached 0.9")


def test_a_trial_that_was_stopped_before_its_first_value_is_repeated_with_the_failed_ones(journal, space):
    record = reopened(journal)
    for state, values in (("stopped", {}), ("stopped", {"e1": 0.5}), ("diverged", {})):
        ended(record, record.propose(space), state, "the first 3 trials failed alike", **values)
    assert record.repeat_failed() == 1
    assert record.propose(space).replaces == 0


# A journal that a crash left


def test_a_study_of_that_name_is_opened_only_to_go_on(journal):
    reopened(journal)
    with pytest.raises(NameTakenError, match=r"^the study name exists; .*--resume"):
        StudyRecord(journal_storage(journal), "name", RandomSampler(), maximize=True, resume=False)


def test_a_proposal_cut_short_anywhere_is_drawn_as_it_would_have_been(journal, space):
    record = reopened(journal)
    before = len(journal.read_bytes())
    trial = record.propose(space)
    content = journal.read_bytes()
    ends = [at + 1 for at in range(before, len(content)) if content[at : at + 1] == b"\n"]
    assert len(ends) > 3
    for end in ends:
        journal.write_bytes(content[:end])
        record = reopened(journal)
        record.mend(space)
        (again,) = record.trials()
        assert again.number == 0
        assert set(again.hparams) == set(trial.hparams)
        assert len(record.study.trials) == 1


# A study in a database


def test_a_study_in_a_database_goes_on_too(tmp_path, space):
    url = f"sqlite:///{tmp_path}/study.db"
    record = StudyRecord(url_storage(url), "name", RandomSampler(), maximize=True, resume=True)
    trial = ended(record, record.propose(space), "completed", e1=0.5)
    again = StudyRecord(url_storage(url), "name", RandomSampler(), maximize=True, resume=True)
    assert again.trials() == [trial]
    with pytest.raises(NameTakenError, match=r"^the study name exists"):
        StudyRecord(url_storage(url), "name", RandomSampler(), maximize=True, resume=False)


def test_a_study_that_cannot_be_written_is_an_os_error(tmp_path, space):
    url = f"sqlite:///{tmp_path}/study.db"
    record = StudyRecord(url_storage(url), "name", RandomSampler(), maximize=True, resume=True)
    record.propose(space)
    other = optuna.storages.RDBStorage(url)
    with other.engine.connect() as connection:
        connection.exec_driver_sql("drop table trial_user_attributes")
        connection.commit()
    with pytest.raises(OSError, match="no such table"):
        record.note(0, attempts=1)


def test_what_dashboards_show_is_there(journal, space):
    """Start and end of each trial, and values by epoch."""
    record = reopened(journal)
    ended(record, record.propose(space), "completed", e1=0.5, e2=0.6)
    (trial,) = read_journal(journal).trials
    assert trial.duration is not None
    assert trial.duration >= timedelta(0)
    assert trial.intermediate_values == {1: 0.5, 2: 0.6}
    json.dumps(trial.user_attrs)


def test_a_journal_that_vanishes_while_it_is_written_is_trouble_of_the_disk(session, monkeypatch):
    """Optuna's lock then says no more than that it is none."""
    one = session()
    one.fill()

    def gone(lock: str, to: str) -> None:
        Path(lock).unlink()
        raise NotADirectoryError(20, "Not a directory")

    with monkeypatch.context() as patched:
        patched.setattr("optuna.storages.journal._file.os.rename", gone)
        with pytest.raises(NotADirectoryError):
            one.record.note(0, lost=1)
        one.conductor.lost(0, "its process died")
    assert str(one.conductor.trouble) == "[Errno 20] Not a directory"
