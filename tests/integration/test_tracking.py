"""What W&B and TensorBoard have of a real search, read back by themselves."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from cifar.hparams import HParams

SPACE = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
TINY = ("data.limit=400", "retrain.epochs=1", "scheduler.max_epochs=3", "trainer.log_every_n_steps=5")


def trial_name(number):
    return f"test/{number:05d}"


def test_wandb_offline_is_complete_without_a_key(search, folder, study, wandb_runs, hparams_tab):
    pictures = "trainer.prediction_images=4"
    done = search("quickstart.yaml", *TINY, pictures, "search.trials=3", WANDB_MODE="offline")
    assert done.code == 0, done.err
    directory = folder / "experiments" / "test"
    trials = study(directory)
    runs = wandb_runs(directory / "wandb")
    assert set(runs) == {*(trial_name(trial.number) for trial in trials), "test/final"}
    sessions = hparams_tab(directory / "trials")
    for trial in trials:
        known, run = trial.user_attrs, runs[trial_name(trial.number)]
        assert len(run.folders) == 1, "a trial that pauses goes on in the same file"
        assert (run.about["run_group"], run.about["job_type"]) == ("test", "trial")
        config = {name: run.about["config"][name] for name in (*HParams.model_fields, "trial", "seed")}
        assert config == {**known["hparams"], "trial": trial.number, "seed": 0}
        assert run.values("val_accuracy_epoch") == trial.intermediate_values
        for name in ("train_loss_epoch", "train_accuracy_epoch", "val_loss_epoch"):
            assert set(run.values(name)) == set(trial.intermediate_values)
        optimizer = {"sgd": "SGD", "adamw": "AdamW"}[known["hparams"]["optimizer"]]
        rates = run.values(f"lr-{optimizer}", "step")
        assert len(rates) >= len(trial.intermediate_values)
        assert all(0 < rate <= known["hparams"]["learning_rate"] for rate in rates.values())
        drawn = [row["val_predictions.filenames"] for row in run.rows if "val_predictions.filenames" in row]
        assert len(drawn) == len(trial.intermediate_values)
        assert all(run.file(file).stat().st_size for (file,) in drawn)
        assert (run.summary["state"], run.summary["reason"]) == (known["state"], known["reason"])
        assert (run.about["tags"], run.about["notes"]) == ([known["state"]], known["reason"] or known["state"])
        best = max(trial.intermediate_values.values())
        assert run.summary["best_val_accuracy"] == best
        session = sessions[f"{trial.number:05d}"]
        assert session[1] == "STATUS_SUCCESS"
        last = max(trial.intermediate_values)
        assert session[3]["hp_metric"] == (last, pytest.approx(best))
        assert session[3]["val_accuracy_epoch"][1] == pytest.approx(trial.intermediate_values[last])
        assert session[3]["epoch"][1] == last
    _check_final(runs["test/final"], directory)


def _check_final(run, directory):
    """The final run has all that metrics.json has, the model and the report."""
    metrics = json.loads((directory / "model" / "metrics.json").read_text())
    test, classes = metrics["test"], metrics["classes"]
    assert run.about["job_type"] == "final"
    assert run.about["config"]["trial"] == metrics["made_from"]["trial"]
    told = {"accuracy": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    told |= {name: name for name in ("loss", "images", "calibration_error")}
    assert {name: run.summary[f"test_{key}"] for name, key in told.items()} == {name: test[name] for name in told}
    row = next(row for row in run.rows if "report.path" in row)
    table = json.loads(run.file(row["per_class.path"]).read_text())
    by_name = {values[0]: dict(zip(table["columns"][1:], values[1:], strict=True)) for values in table["data"]}
    assert by_name == metrics["per_class"]
    pairs = json.loads(run.file(row["confusion_matrix_table.path"]).read_text())["data"]
    assert {(true, predicted): count for true, predicted, count in pairs} == {
        (true, predicted): test["confusion"][i][j]
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
    }
    assert len(row["mistakes.filenames"]) == len(test["mistakes"]) > 0
    for file, caption, mistake in zip(
        row["mistakes.filenames"], row["mistakes.captions"], test["mistakes"], strict=True
    ):
        assert run.file(file).stat().st_size
        true, predicted = classes[mistake["true"]], classes[mistake["predicted"]]
        assert caption == f"true {true}, predicted {predicted} ({mistake['probability']:.1%})"
    assert run.file(row["report.path"]).read_bytes() == (directory / "report.html").read_bytes()
    (artifact,) = [one for one in run.artifacts if one["type"] == "model"]
    assert json.loads(artifact["metadata"])["test_accuracy"] == test["accuracy"]
    kept = {one["path"]: Path(one["local_path"]).read_bytes() for one in artifact["manifest"]["contents"]}
    for name in ("model.ckpt", "model.onnx", "metrics.json", "README.md"):
        assert kept[name] == (directory / "model" / name).read_bytes()
    assert kept["report.html"] == (directory / "report.html").read_bytes()


@pytest.mark.slow
def test_when_wandbs_process_is_killed_no_trial_is_lost_and_one_line_says_so(
    start, folder, study, wandb_runs, processes
):
    sets = ("search.trials=6", "data.limit=400", "retrain.seeds=1", "retrain.epochs=1", "scheduler.max_epochs=6")
    arguments = [part for one in sets for part in ("--set", one)]
    running = start("tune.run", "--space", SPACE, "--name", "test", *arguments, WANDB_MODE="offline")
    told = folder / "experiments/test/wandb/told.jsonl"
    until = time.monotonic() + 120
    while not (told.exists() and told.read_text().count("begun") >= 2 and (cores := processes(r"^\S*/wandb-core "))):
        assert time.monotonic() < until
        assert running.process.poll() is None, running.end()
        time.sleep(0.02)
    for pid in cores:
        os.kill(pid, signal.SIGKILL)
    done = running.end()
    assert done.code == 0, done.err
    assert done.out.count("W&B: ") == 1
    assert "the search goes on, and W&B may lack some of it" in done.out
    trials, runs = study(folder / "experiments/test"), wandb_runs(folder / "experiments/test/wandb")
    for trial in trials:
        assert "lost" not in trial.user_attrs
        run = runs[trial_name(trial.number)]
        curve = {row["epoch"]: row["val_accuracy_epoch"] for row in run.rows if "val_accuracy_epoch" in row}
        assert curve == trial.intermediate_values
        assert run.summary["state"] == trial.user_attrs["state"]
    assert runs["test/final"].summary["test_accuracy"] > 0.5
    finalists = [run for name, run in runs.items() if "seed" in name]
    assert [run.about["job_type"] for run in finalists] == ["finalist"] * 2
    assert {run.summary["state"] for run in finalists} == {"completed"}


@pytest.fixture(scope="module")
def away(search_once):
    """What a search with pictures said whose W&B server is not there, and its experiment directory."""
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    return search_once(*TINY, "search.trials=4", "trainer.prediction_images=4", **server)


@pytest.mark.slow
@pytest.mark.xdist_group("away")
def test_a_server_that_is_not_there_delays_no_trial(away, study, wandb_runs):
    out, directory = away
    assert out.count("W&B: ") == 1
    assert "so runs are kept in " in out
    assert {trial.user_attrs["state"] for trial in study(directory)} <= {"completed", "stopped"}
    runs = wandb_runs(directory / "wandb")
    assert len(runs) == 5
    for trial in study(directory):
        assert runs[trial_name(trial.number)].values("val_accuracy_epoch") == trial.intermediate_values


@pytest.mark.slow
@pytest.mark.xdist_group("away")
def test_tensorboard_shows_trials_pictures_and_the_hparams_tab(away, study):
    out, directory = away
    logs = directory / "trials"
    assert out.count(f"tensorboard --logdir {logs}") == 2, "at the start and at the end"
    port = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", logs, "--port", "0", "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            for line in server.stderr:
                if "http://" in line:
                    port = int(line.partition("http://")[2].partition(":")[2].partition("/")[0])
                    break
            trials = study(directory)
            names = {f"{trial.number:05d}" for trial in trials}
            until = time.monotonic() + 60
            while not names <= set(_asked(port, "/data/runs")):
                assert time.monotonic() < until
                time.sleep(0.2)
            tab = "/data/plugin/hparams"
            shown = _asked(port, f"{tab}/experiment", {"experimentName": ""})
            assert "learning_rate" in {info["name"] for info in shown["hparamInfos"]}
            order = [{"metric": {"tag": "hp_metric", "group": ""}, "order": "ORDER_DESC"}]
            statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
            query = {"experimentName": "", "allowedStatuses": statuses, "colParams": order, "sliceSize": 100}
            groups = _asked(port, f"{tab}/session_groups", query)["sessionGroups"]
            best = [max(trial.intermediate_values.values()) for trial in trials]
            values = [group["metricValues"][0]["value"] for group in groups]
            assert values == pytest.approx(sorted(best, reverse=True))
            for trial in trials:
                run = f"run={trial.number:05d}"
                curve = _asked(port, f"/data/plugin/scalars/scalars?tag=val_accuracy_epoch&{run}")
                assert [value for _, _, value in curve] == pytest.approx(list(trial.intermediate_values.values()))
                tags = _asked(port, "/data/plugin/scalars/tags")[f"{trial.number:05d}"]
                assert any(tag.startswith("lr-") for tag in tags)
                images = _asked(port, f"/data/plugin/images/images?tag=val_predictions&{run}&sample=0")
                assert len(images) == len(curve)
        finally:
            server.terminate()


def _asked(port, path, data=None):
    """The answer of a server, once it is there."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
