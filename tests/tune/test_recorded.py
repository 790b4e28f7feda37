"""An experiment read from its directory while it runs, after its end, and where there is none."""

import pytest

from tune.errors import ResumeError, StorageError
from tune.experiment import ExperimentDir
from tune.recorded import names, read_experiment
from tune.summary import summary_of

PROMOTE = ("search.trials=6", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "search.sampler=random")


def test_a_running_search_is_read_without_disturbing_it(begun, storage):
    one = begun("one", *PROMOTE, slots=2)
    directory = read_experiment(str(storage), "one", "status").directory
    with directory.locked():
        one.run(steps=3)
        told = read_experiment(str(storage), "one", "status")
        assert told.running
        live = {trial.number: trial.state for trial in one.trials.values()}
        assert {trial.number: trial.state for trial in told.trials} == live, "without what is only proposed"
        assert set(live.values()) == {"running", "paused"}
        assert [trial.values for trial in told.trials] == [trial.values for trial in one.trials.values()]
    assert (told.winner, told.test) == (None, None)
    with pytest.raises(StorageError, match=r"one: there is no model yet$"):
        summary_of(told)


def test_what_was_killed_runs_no_more(begun, storage):
    begun("one", *PROMOTE, slots=2).run(steps=3)
    told = read_experiment(str(storage), "one", "status")
    assert not told.running
    assert {trial.state for trial in told.trials} == {"paused"}


def test_a_finished_search_is_read_as_the_study_has_it(begun, storage):
    one = begun("one", *PROMOTE).run()
    told = read_experiment(str(storage), "one", "status")
    assert told.name == "one"
    assert {trial.number: (trial.state, trial.values) for trial in told.trials} == {
        trial.number: (trial.state, trial.values) for trial in one.trials.values()
    }
    assert told.search_seconds == max(trial.ended_at for trial in told.trials)


def test_a_missing_one_is_told_with_those_that_are_there(begun, storage):
    begun("one", *PROMOTE)
    begun("two", *PROMOTE)
    assert names(str(storage)) == ["one", "two"]
    assert names(str(storage / "nowhere")) == []
    with pytest.raises(ResumeError, match=r"status: there is no experiment on in .*; did you mean 'one'\?"):
        read_experiment(str(storage), "on", "status")


def test_a_record_of_a_winner_that_is_none_is_told_with_its_file(begun, storage):
    begun("one", *PROMOTE).run()
    (storage / "one" / "winner.yaml").write_text("trial: 99\n")
    with pytest.raises(StorageError, match=r"one/winner\.yaml: is no record of a winner"):
        _ = read_experiment(str(storage), "one", "status").winner


def test_a_search_is_not_over_while_this_machine_runs_its_audits(begun, storage):
    one = begun("one", *PROMOTE, "scheduler.mode=stop", "scheduler.audit=1")
    while not (one.conductor.audits.live and all(trial.ended_at for trial in one.trials.values())):
        one.fill()
        one.train(min(one.epoch))
    with ExperimentDir(storage / "one").locked():
        assert not read_experiment(str(storage), "one", "status").searched
    one.run()
    assert read_experiment(str(storage), "one", "status").searched
