"""Searches with several objectives: their record, their winner within bounds, and going on with them."""

import re
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tune import yaml_file

SPACE = Path(__file__).parents[2] / "search_spaces" / "two_objectives.yaml"
SETTINGS = (
    "data.limit=600",
    "search.trials=7",
    "search.sampler=tpe",
    "scheduler.max_epochs=2",
    "retrain.epochs=1",
    "resources.max_concurrent=1",
)

pytestmark = pytest.mark.timeout(600)


def study(experiment: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(experiment / "study.journal")))
    return optuna.load_study(study_name=experiment.name, storage=storage)


def record(experiment: Path) -> list[tuple]:
    """All that must not depend on interruptions."""
    return [
        (
            trial.params,
            trial.state.name,
            trial.values,
            {name: value for name, value in trial.user_attrs.items() if re.match(r"(value|figures) \d", name)},
        )
        for trial in study(experiment).trials
    ]


def words(experiment: Path) -> str:
    html = (experiment / "report.html").read_text()
    return " ".join(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", html, flags=re.S).split())


@pytest.mark.slow
def test_a_search_killed_and_out_of_bounds_goes_on_to_the_winner_that_it_would_have_had(
    search, start, cluster, folder, row
):
    done = search("two_objectives.yaml", *SETTINGS, name="whole")
    assert done.code == 0, done.err
    whole = folder / "experiments" / "whole"
    known = study(whole)
    assert known.metric_names == ["val_accuracy", "parameters"]
    assert [direction.name for direction in known.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(trial.state.name == "COMPLETE" and len(trial.values) == 2 for trial in known.trials)
    assert len({trial.values[1] for trial in known.trials}) > 1, "widths differ"
    winner, _ = yaml_file.read(whole / "winner.yaml")
    within = [trial for trial in known.trials if trial.values[1] <= 200_000]
    assert known.trials[winner["trial"]].values == max(
        (trial.values for trial in within), key=lambda pair: (pair[0], -pair[1])
    )
    assert winner["parameters"] <= 200_000
    assert winner["why"] == "the highest val_accuracy of 7 trials with parameters at most 200,000"
    front = f"{len(known.best_trials)} of 7 trials"
    assert row(done.out, "front") == front
    assert row(done.out, "parameters") == f"{winner['parameters']:,.0f}"
    assert "Pareto front Learning curves" in words(whole)
    assert f"{front} are beaten by none in all objectives" in words(whole)

    killed = folder / "experiments" / "killed"
    impossible = [*SETTINGS, "search.choose.subject_to.parameters.upper=100"]
    sets = [part for setting in impossible for part in ("--set", setting)]
    run = start("tune.run", "--space", SPACE, "--name", "killed", "--address", cluster, *sets)
    until = time.monotonic() + 120
    while not (killed / "study.journal").exists() or (killed / "study.journal").read_bytes().count(b'"value ') < 7:
        assert time.monotonic() < until
        assert run.process.poll() is None
        time.sleep(0.05)
    run.kill(signal.SIGKILL)
    done = search("two_objectives.yaml", *impossible, name="killed", flags=["--resume"])
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert re.fullmatch(
        r"error: none of 7 trials is within search\.choose \(parameters at most 100\): the closest, trial \d, has "
        r"val_accuracy 0\.\d+, parameters 26,278; to go on, move the bound or raise search\.trials, with --resume",
        line,
    )
    assert record(killed) == record(whole)
    assert not (killed / "winner.yaml").exists()
    done = search("two_objectives.yaml", *SETTINGS, name="killed", flags=["--resume"])
    assert done.code == 0, done.err
    assert "nothing is left to train" in done.out
    again, _ = yaml_file.read(killed / "winner.yaml")
    assert {**again, "checkpoint": ""} == {**winner, "checkpoint": ""}


@pytest.mark.slow
def test_every_cost_is_measured_and_the_main_metric_need_not_come_first(search, folder, row):
    names = ("inference_ms", "val_loss", "epoch_seconds", "flops")
    given = ", ".join(f"{{metric: {name}}}" for name in names)
    several = f"search={{objectives: [{given}], sampler: nsga2, trials: 2}}"
    done = search("two_objectives.yaml", *SETTINGS[:1], *SETTINGS[3:], several)
    assert done.code == 0, done.err
    experiment = folder / "experiments" / "test"
    for trial in study(experiment).trials:
        milliseconds, loss, seconds, flops = trial.values
        assert 0 < milliseconds < 10_000
        assert loss == min(trial.user_attrs["value 1"], trial.user_attrs["value 2"])
        assert 0 < seconds < trial.user_attrs["seconds"]
        assert flops == int(flops) > 100_000
    winner, _ = yaml_file.read(experiment / "winner.yaml")
    assert winner["why"] == "the lowest inference_ms of 2 trials"
    assert winner["inference_ms"] == min(trial.values[0] for trial in study(experiment).trials)
    assert row(done.out, "val_loss")
    assert row(done.out, "epoch_seconds")
