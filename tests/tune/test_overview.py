"""An experiment in short, running, interrupted and finished, from its directory alone."""

import io
import json
import os
import shutil
import time
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from tune import experiment as experiments
from tune.errors import ResumeError, StorageError
from tune.evaluation import Evaluation
from tune.experiment import ExperimentDir
from tune.last_mile import LastMile
from tune.listing import all_of, choose
from tune.overview import Overview, moment, overview
from tune.report.result import state

FIELDS = (
    "search.trials=6", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "search.sampler=random",
    "retrain.seeds=0", "retrain.epochs=3",
)  # fmt: skip
RESUMING = "python -m tune.run --space search.yaml --name one --resume"


@pytest.fixture
def finished(begun, storage):
    """An experiment with its model, or what says so."""

    def make(name: str, **made_from: object) -> ExperimentDir:
        one = begun(name, *FIELDS).run()
        directory = ExperimentDir(storage / name)
        mile = LastMile(one.experiment, directory, one.record, lambda jobs, done: None, print)
        winner = mile.winner(list(one.trials.values()))
        mile.write(winner, len(one.trials))
        directory.model.mkdir()
        test = asdict(Evaluation(0.9, 0.85, 0.95, 200, 0.3, [[90, 10], [10, 90]], []))
        made = {**winner.made_from(one.experiment), **made_from}
        (directory.model / "metrics.json").write_text(json.dumps({"test": test, "made_from": made}))
        return directory

    return make


def told(storage, name: str = "one") -> Overview:
    return overview(str(storage), name)


def lines(one: Overview, *, terminal: bool = False) -> list[str]:
    stream = io.StringIO()
    one.print(Console(file=stream, width=80, force_terminal=terminal, color_system=None, legacy_windows=False))
    return stream.getvalue().splitlines()


def test_a_running_search(begun, storage):
    one = begun("one", *FIELDS, slots=2)
    with ExperimentDir(storage / "one").locked():
        one.record.slots = 2
        one.run(steps=5)
        here = told(storage)
        assert here.state == "running"
        live = [trial.state for trial in one.trials.values()]
        assert here.as_dict()["trials"]["by_state"] == {state: live.count(state) for state in sorted(set(live))}
        assert here.as_dict()["slots"] == {"busy": live.count("running"), "of": 2}
        assert here.as_dict()["epochs"] == 5
        shown = lines(here)
        assert shown[0] == "one: running, in the search"
        assert f"slots: {live.count('running')} of 2 busy" in shown
        assert any(line.startswith("left: about ") and "until" in line for line in shown)
        assert (here.goes_on, here.as_dict()["go_on"]) == ("", None)


def test_the_time_of_a_running_search_goes_on_between_its_epochs(begun, storage):
    one = begun("one", *FIELDS, slots=2)
    with ExperimentDir(storage / "one").locked():
        one.run(steps=1)
        before = told(storage).standing.elapsed
        journal = storage / "one" / "study.journal"
        os.utime(journal, (time.time() - 100, time.time() - 100))
        assert told(storage).standing.elapsed == pytest.approx(before + 100, abs=20)
    assert told(storage).standing.elapsed < 50, "of one that was killed then it does not"


def test_a_search_that_was_killed(begun, storage):
    begun("one", *FIELDS, slots=2).run(steps=5)
    here = told(storage)
    assert here.state == "interrupted"
    shown = lines(here)
    assert shown[0] == "one: interrupted, in the search"
    assert f"go on: {RESUMING}" in shown
    assert not [line for line in shown if line.startswith("slots")]
    assert here.as_dict()["go_on"] == RESUMING
    assert here.as_dict()["winner"] is None


def test_a_search_that_was_resumed_goes_on_by_the_last_command(begun, storage):
    one = begun("one", *FIELDS, slots=2).run(steps=3)
    before = told(storage).known.provenance
    command = "python -m tune run --space search.yaml --name one --resume"
    experiments.begin(ExperimentDir(one.folder), one.experiment, command, "f00d", before)
    assert (told(storage).goes_on, told(storage).as_dict()["sessions"]) == (command, 2)


def test_an_ended_search_without_its_model(begun, storage):
    begun("one", *FIELDS).run()
    here = told(storage)
    assert (here.title(), here.goes_on) == ("one: interrupted, in the last mile", RESUMING)
    assert here.as_dict()["last_mile"] == [{"name": "model", "done": 0, "of": 1, "epochs": 3}]
    assert "model: 0 of 1 trained" in lines(here)


def test_a_search_all_of_whose_trials_failed_is_tried_again(begun, storage):
    one = begun("one", *FIELDS, slots=3)
    for number in one.fill():
        one.leave(number)
        one.conductor.failed(number, "ValueError: 3")
    one.close()
    here = told(storage)
    assert here.goes_on == f"python -m tune retry one --storage {storage}"
    assert "ended: the first 3 trials failed alike (ValueError: 3)" in lines(here)
    assert "trials: 3 failed" in lines(here)


def test_a_finished_experiment(finished, storage):
    finished("one")
    here = told(storage)
    shown = lines(here)
    assert shown[0] == "one: finished"
    assert "trials: 6 of 6 ended" in shown
    number = here.known.winner.trial.number
    assert f"winner: trial {number}, the highest val_accuracy of 6 trials" in shown
    assert "test: 90.00% (95 % interval 85.00% to 95.00%, 200 images)" in shown
    assert f"model: {storage}/one/model" in shown
    assert not [line for line in shown if line.startswith(("go on", "left", "slots"))]
    json_ = here.as_dict()
    assert (json_["state"], json_["winner"]) == ("finished", number)
    assert json_["test"] == {"accuracy": 0.9, "low": 0.85, "high": 0.95, "images": 200}
    assert json_["best"]["hparams"].keys() <= {"learning_rate", "translate", "optimizer", "momentum"}
    assert json_["left"] == {"epochs": 0, "seconds": 0.0}
    json.dumps(json_, allow_nan=False)


def test_a_model_of_an_earlier_winner_does_not_finish_an_experiment(finished, storage):
    finished("one", trial=99)
    assert told(storage).state == "interrupted"
    assert told(storage).as_dict()["test"] is None


def test_a_record_of_the_model_that_another_version_wrote_is_told_with_its_file(finished, storage):
    file = finished("one").model / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "test": {"accuracy": 0.9, "colour": "red"}}))
    with pytest.raises(StorageError, match=r"one/model/metrics\.json: is no record of a model of this version"):
        told(storage).as_dict()
    assert "metrics.json" in all_of(str(storage))[0].error


def test_a_finished_search_that_was_extended_is_interrupted_again(finished, begun, storage):
    directory = finished("one")
    one = replace(told(storage).known.experiment)
    more = one.search.model_copy(update={"trials": 9})
    experiments.begin(directory, replace(one, search=more), "python -m tune.run --name one", "f00d", {})
    here = told(storage)
    assert (here.state, here.as_dict()["trials"]["planned"]) == ("interrupted", 9)


def test_every_state_fits_80_columns(finished, begun, storage):
    finished("one")
    begun("two", *FIELDS, "search.time_budget_s=1000", "search.patience=4").run(steps=4)
    begun("x" * 200, *FIELDS).run()
    for name in ("one", "two", "x" * 200):
        shown = lines(told(storage, name), terminal=True)
        assert max(map(len, shown)) <= 80
        assert "".join(shown[:3]).replace("\n", "").startswith(name)


def test_limits_are_counted_as_the_search_counted_them(begun, storage):
    limits = ("search.patience=50", "search.epoch_budget=200", "search.target=0.99", "search.time_budget_s=5000")
    one = begun("one", *FIELDS, *limits, slots=2).run(steps=9)
    goals = {goal.field: goal for goal in told(storage).standing.goals()}
    assert goals["search.patience"].done == one.conductor.limits.without_improvement
    assert goals["search.epoch_budget"].done == 9
    assert goals["search.target"].done == max(max(trial.values.values(), default=0) for trial in one.trials.values())
    assert goals["search.time_budget_s"].done == round(told(storage).standing.elapsed, 3)


def test_nothing_is_changed_by_looking(begun, storage):
    one = begun("one", *FIELDS, slots=2)
    directory = ExperimentDir(one.folder)
    with directory.locked():
        one.run(steps=3)
        before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in one.folder.rglob("*")}
        told(storage).as_dict()
        assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in one.folder.rglob("*")} == before
        one.run(steps=3)


def test_a_search_in_an_object_store_is_not_disturbed(begun, server, s3_keys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = begun("one", *FIELDS, slots=2).run(steps=5)
    where = server.uri("overviews/some folder", options="&allow_bucket_creation=true")
    directory = experiments.reserve(where, "one")
    experiments.begin(directory, one.experiment, "python -m tune.run --name one", "f00d")
    shutil.copy(one.folder / "study.journal", directory.journal)
    directory.model.mkdir()
    (directory.model / "model.ckpt").write_text("large")
    directory.publish()
    with directory.locked():
        before = {path: path.stat().st_mtime_ns for path in directory.path.rglob("*")}
        here = overview(where, "one")
        assert (here.state, here.as_dict()["epochs"]) == ("running", 5)
        assert here.known.directory.path != directory.path
        assert not (here.known.directory.path / "model").exists(), "which nobody asked for"
        assert {path: path.stat().st_mtime_ns for path in directory.path.rglob("*")} == before
    here = overview(where, "one")
    assert here.state == "interrupted"
    assert lines(here)[0] == "one: interrupted (or run by another machine), in the search"
    assert choose(where) == ("one", "")
    assert [line.told["state"] for line in all_of(where)] == ["interrupted"]


def test_a_search_that_is_extended_is_not_over_because_an_earlier_session_was(begun, storage):
    one = begun("one", *FIELDS, "search.epoch_budget=3", slots=2).run()
    assert told(storage).known.ended_because == "the search's 3 epochs were trained (search.epoch_budget)"
    more = one.experiment.search.model_copy(update={"epoch_budget": 50, "trials": 12})
    longer = replace(one.experiment, search=more)
    provenance = told(storage).known.provenance
    experiments.begin(ExperimentDir(one.folder), longer, "python -m tune.run --name one --resume", "f00d", provenance)
    with ExperimentDir(one.folder).locked():
        replace(one, experiment=longer, told=[], began=[], epoch={}, seconds={}).run(steps=2)
        here = told(storage)
        assert (here.title(), here.known.ended_because) == ("one: running, in the search", "")
        assert state(here.known).startswith("This experiment is running: "), "so says its report"
        assert here.standing.epochs_left() > 0


def test_an_unknown_one_is_told_with_those_that_are_there(begun, storage):
    begun("one", *FIELDS)
    with pytest.raises(ResumeError, match=r"^status: there is no experiment on in .*did you mean 'one'\?$"):
        told(storage, "on")


def test_moments():
    assert moment("2026-11-25T20:15:48+00:00") == "2026-11-25 20:15 UTC"
    assert moment("") == "not known"
