"""The quick start's job, as a new user calls it: on a cluster of its own, without options."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

from cifar.train import load
from tune import spec, yaml_file

PROJECT = Path(__file__).parents[2]
QUICKSTART = PROJECT / "search_spaces" / "quickstart.yaml"
# where README's way from a laptop to a cluster begins; test_readme_walk.py goes on with it
LAPTOP = re.findall(r"\n## On a cluster\n.*?^```\n(.*?)^```", (PROJECT / "README.md").read_text(), re.M | re.S)[0]


@pytest.mark.timeout(600)
def test_the_quick_start_leaves_a_tested_model_and_commands_that_work(call, folder, study, row):
    python, flag, *words = shlex.split(LAPTOP)
    assert (python, flag) == ("python", "-m")
    done = call(*[PROJECT / word if word.startswith("search_spaces/") else word for word in words], timeout=400)
    assert done.code == 0, done.err
    assert done.err == ""
    experiment = folder / "experiments" / "quickstart"

    assert done.out.startswith(f"quickstart: 24 trials, in {os.cpu_count()} slots of 1 CPU; {experiment}\n")

    # the search: at least 12 trials, some of them stopped, each told to the study with every epoch's value
    trials = study(experiment)
    states = [trial.state.name for trial in trials]
    assert len(trials) >= 12
    assert states.count("PRUNED") >= 3
    assert states.count("COMPLETE") >= 1
    assert set(states) == {"COMPLETE", "PRUNED"}
    for trial in trials:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        if trial.state.name == "PRUNED":
            assert re.match(r"stopped at rung \d+: 0\.\d+ ranks \d+ of \d+", trial.user_attrs["reason"])

    # the winner is the checkpoint of the epoch it is named for
    winner = yaml_file.read(experiment / "winner.yaml")[0]
    checkpoint = torch.load(experiment / winner["checkpoint"] / "checkpoint.ckpt", weights_only=True)
    assert checkpoint["epoch"] + 1 == winner["epoch"]
    assert trials[winner["trial"]].intermediate_values[winner["epoch"]] == winner["val_accuracy"]

    # the closing table
    accuracy, low, high = (float(part) for part in re.findall(r"(\d+\.\d+)%", row(done.out, "test accuracy")))
    assert low < accuracy <= high
    assert accuracy >= 98
    assert row(done.out, "winner").startswith("trial ")
    assert "learning_rate" in row(done.out, "HParams")
    best = max(max(trial.intermediate_values.values()) for trial in trials)
    assert max(finalist["search"] for finalist in winner["finalists"]) == best
    assert float(row(done.out, "val_accuracy").split()[0]) == pytest.approx(winner["val_accuracy"], abs=1e-4)
    assert re.match(r"0\.\d{4} \(95 % interval 0\.\d{4} to [01]\.\d{4}\), 2 fresh seeds", row(done.out, "over seeds"))
    assert row(done.out, "made").startswith("from the checkpoint, ")

    # the experiment directory
    metrics = json.loads((experiment / "model" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy / 100, abs=1e-4)
    confusion = torch.tensor(metrics["test"]["confusion"])
    assert confusion.shape == (10, 10)
    assert confusion.trace() / confusion.sum() == pytest.approx(metrics["test"]["accuracy"])
    (reading,) = (experiment / "test_ledger.jsonl").read_text().splitlines()
    assert json.loads(reading)["accuracy"] == metrics["test"]["accuracy"]
    assert load(experiment / "model" / "model.ckpt").classes == [str(digit) for digit in range(10)]
    assert (experiment / "model" / "model.onnx").stat().st_size > 10_000
    assert f"{accuracy:.2f}%" in (experiment / "report.html").read_text()
    assert f"{accuracy:.2f}%" in (experiment / "model" / "README.md").read_text()
    assert list((experiment / "trials" / "00000").glob("events.out.tfevents.*"))
    assert spec.load(experiment / "experiment.yaml").search.trials == len(trials)

    # the commands it names
    predict = re.search(r"^ +python -m (cifar\.predict .*)$", done.out, re.MULTILINE)
    assert predict
    predicted = call(*shlex.split(predict.group(1)))
    assert predicted.code == 0
    assert re.search(r"example\.png +\d +\d+\.\d% +\d \d+\.\d%, \d \d+\.\d%", predicted.out)

    # the same name again is refused, and costs nothing
    before = {path: path.stat().st_mtime_ns for path in experiment.rglob("*")}
    again = call("tune.run", "--space", QUICKSTART)
    assert again.code == 2
    advice = "go on with it by --resume, or choose another name, as in --name quickstart-2"
    assert again.err == f"error: the experiment {experiment} exists; {advice}\n"
    assert {path: path.stat().st_mtime_ns for path in experiment.rglob("*")} == before
