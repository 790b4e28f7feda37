"""What goes wrong in a search: said in a line, never at the cost of what was done."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = ("data.limit=400", "retrain.epochs=1", "scheduler.max_epochs=3", "trainer.log_every_n_steps=5")
SPACES = Path(__file__).parents[2] / "search_spaces"


def test_more_gpus_than_the_cluster_has_are_refused_at_once(search, folder):
    done = search("quickstart.yaml", "resources.gpus_per_trial=1")
    assert done.code == 2
    assert done.err == (
        "error: resources.gpus_per_trial: got 1, and no node of the cluster has that much "
        "(1 node: 2 CPUs, 0 GPUs); lower it, as in --set resources.gpus_per_trial=auto\n"
    )
    assert not (folder / "experiments" / "test").exists()


def test_a_cluster_that_is_not_there_is_said_at_once(call):
    done = call("tune.run", "--space", SPACES / "quickstart.yaml", "--address", "127.0.0.1:9", timeout=30)
    assert done.code == 2
    assert "--address 127.0.0.1:9: no Ray cluster answers there" in done.err
    assert done.err.count("\n") == 1


def test_a_search_whose_trials_all_raise_ends_after_three_with_the_first_traceback(search, own, folder, study):
    done = search(own("broken"), "search.trials=20")
    assert done.code == 1
    assert done.err.count("The first failure:") == 1
    assert done.err.count('own.py", line') == 1
    assert done.err.endswith("trials gave a value; the first: ValueError: this network was never finished\n")
    # three in a row, and what the other slot had begun by then
    assert 3 <= len(study(folder / "experiments" / "test")) <= 5


def test_a_network_that_cannot_be_imported_is_the_users_to_repair(search, own):
    done = search(own("misspelt"))
    assert done.code == 2
    assert done.err.startswith("error: network own:misspelt cannot be imported: ")
    assert "Traceback" not in done.err


def test_a_trial_whose_loss_is_no_number_is_stopped_and_never_wins(search, own, folder, study, row):
    done = search(own("exploding"))
    assert done.code == 0, done.err
    diverged = [trial for trial in study(folder / "experiments" / "test") if trial.user_attrs["state"] == "diverged"]
    assert diverged
    for trial in diverged:
        assert trial.params["width"] == 2.0
        assert trial.state.name == "FAIL"
        assert "was nan at epoch" in trial.user_attrs["reason"]
    assert "width 0.5" in row(done.out, "HParams")


def test_a_network_that_onnx_cannot_express_costs_the_export_only(search, own, folder, row):
    done = search(own("unexportable"), "search.trials=1")
    assert done.code == 0, done.err
    model = folder / "experiments" / "test" / "model"
    assert (model / "model.ckpt").exists()
    assert not (model / "model.onnx").exists()
    assert json.loads((model / "metrics.json").read_text())["onnx_error"]
    assert "- No `model.onnx`: " in (model / "README.md").read_text()
    assert "(without ONNX: " in done.out


@pytest.mark.slow
def test_trials_that_raise_are_recorded_and_one_good_one_saves_the_search(search, own, folder, study, row):
    done = search(own("first_only"), "search.trials=4")
    assert done.code == 0, done.err
    trials = study(folder / "experiments" / "test")
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", *["FAIL"] * 3]
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert {trial.user_attrs["reason"] for trial in failed} == {"ValueError: no luck"}
    assert row(done.out, "trials") == "4 trials: 1 completed, 3 failed; 3 epochs"


@pytest.mark.slow
def test_a_time_budget_ends_the_search_and_what_is_there_is_retrained(search, folder, study, row):
    done = search("quickstart.yaml", "search.trials=1000", "search.time_budget_s=30", "retrain.epochs=1")
    assert done.code == 0, done.err
    reasons = [trial.user_attrs.get("reason", "") for trial in study(folder / "experiments" / "test")]
    assert len(reasons) < 1000
    assert any("the search's 30 s were up (search.time_budget_s)" in reason for reason in reasons)
    assert row(done.out, "test accuracy")


@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once_without_a_traceback_and_leaves_what_can_be_resumed(cluster, folder, study):
    command = [sys.executable, "-m", "tune.run", "--space", SPACES / "quickstart.yaml", "--address", cluster]
    running = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, and so their children, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert running.stdout is not None
    assert any(line.startswith("[") for line in iter(running.stdout.readline, "")), "no trial ended"
    running.send_signal(signal.SIGINT)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert err.startswith("interrupted; nothing that was recorded is lost. To go on:\n  python -m tune.run --space ")
    assert err.rstrip().endswith("--resume")
    trials = study(folder / "experiments" / "quickstart")
    assert any(trial.intermediate_values for trial in trials)
    assert any(trial.state.name == "RUNNING" for trial in trials)  # to be gone on with
    time.sleep(1)  # the cluster takes the job's processes down


@pytest.mark.slow
def test_two_searches_of_one_seed_give_the_same_values(search, folder, study):
    one_slot = (*TINY, "resources.max_concurrent=1", "search.trials=4")
    for name in ("first", "second"):
        done = search("quickstart.yaml", *one_slot, name=name)
        assert done.code == 0, done.err
    first, second = (study(folder / "experiments" / name) for name in ("first", "second"))
    assert [trial.params for trial in first] == [trial.params for trial in second]
    assert [trial.intermediate_values for trial in first] == [trial.intermediate_values for trial in second]
    first_model, second_model = (
        (folder / "experiments" / name / "model" / "metrics.json").read_text() for name in ("first", "second")
    )
    assert first_model == second_model
