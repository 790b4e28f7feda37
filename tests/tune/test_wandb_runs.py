"""W&B's runs, written and read back by W&B itself; and what becomes of them when it cannot."""

import gc
import os
import signal
import subprocess

import pytest
from PIL import Image

from tune import wandb_runs as module
from tune.tracking import Tracking
from tune.wandb_runs import Begin, End, Picture, Row, Runs

# W&B does not wait for its own process
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield
    gc.collect()


@pytest.fixture
def write(tmp_path):
    """Writes messages; what was said."""

    def tell(*messages, mode="offline", folder=tmp_path / "wandb"):
        said = []
        runs = Runs(Tracking("group", "project", mode, str(folder), "token"), said.append)
        runs.prepare()
        for message in messages:
            message() if callable(message) else runs.tell(message)
        list(runs.close())
        return said

    return tell


def kill_wandb():
    """Its own process, under this one."""
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True)
    for pid in children.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    assert children.stdout.strip()


TRIAL = Begin("00000", "trial", {"learning_rate": 0.5, "trial": 0, "seed": 0})
CURVE = [Row("00000", {"epoch": epoch, "val_loss_epoch": 1 / epoch}) for epoch in (1, 2)]


def test_a_trial_is_one_run_with_its_curves_pictures_state_and_reason(write, wandb_runs, tmp_path):
    picture = Picture("00000", "val_predictions", 5, Image.new("RGB", (8, 8)))
    step = Row("00000", {"step": 4, "lr-SGD": 0.25})
    # the end may overtake the last values, and the trial goes on in another process in between
    end = End("00000", "stopped", "stopped at rung 2", 2, {"best_epoch": 2})
    assert write(TRIAL, step, CURVE[0], TRIAL, picture, end, CURVE[1]) == []
    (run,) = wandb_runs(tmp_path / "wandb").values()
    assert len(run.folders) == 1
    about = [run.about[name] for name in ("display_name", "run_group", "job_type")]
    assert about == ["group/00000", "group", "trial"]
    assert {name: run.about["config"][name] for name in TRIAL.config} == TRIAL.config
    assert run.values("val_loss_epoch") == {1: 1.0, 2: 0.5}
    assert run.values("lr-SGD", "step") == {4: 0.25}
    (file,) = next(row["val_predictions.filenames"] for row in run.rows if row.get("step") == 5)
    with Image.open(run.file(file)) as image:
        assert image.size == (8, 8)
    assert (run.about["tags"], run.about["notes"]) == (["stopped"], "stopped at rung 2")
    assert (run.summary["state"], run.summary["reason"]) == ("stopped", "stopped at rung 2")
    assert (run.summary["best_epoch"], run.exits) == (2, [0])


def test_what_failed_has_failed_in_wandb_too_and_what_did_not_end_is_paused(write, wandb_runs, tmp_path):
    other = Begin("00001", "trial", {})
    assert write(TRIAL, other, End("00000", "failed", "ValueError: no luck")) == []
    runs = wandb_runs(tmp_path / "wandb")
    assert (runs["group/00000"].exits, runs["group/00000"].summary["state"]) == ([1], "failed")
    assert (runs["group/00001"].exits, runs["group/00001"].summary["state"]) == ([0], "paused")


def test_a_resumed_search_tells_ends_that_were_not_told_and_goes_on_in_the_same_runs(write, wandb_runs, tmp_path):
    write(TRIAL, Begin("00001", "trial", {}), CURVE[0], End("00001", "completed", ""))
    ends = [End(name, "stopped", "", recalled=True) for name in ("00000", "00001", "00002")]
    write(*ends)  # 00000 began and did not end; 00002 is from before W&B was asked for
    runs = wandb_runs(tmp_path / "wandb")
    assert set(runs) == {"group/00000", "group/00001"}
    assert [len(run.folders) for run in runs.values()] == [2, 1]
    assert [run.summary["state"] for run in runs.values()] == ["stopped", "completed"]
    assert len({run.about["run_id"] for run in runs.values()}) == 2


def test_more_runs_than_can_be_open_take_turns(write, wandb_runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_OPEN", 1)
    assert write(TRIAL, Begin("00001", "trial", {}), *CURVE, End("00000", "completed", "", 2)) == []
    run = wandb_runs(tmp_path / "wandb")["group/00000"]
    assert (run.values("val_loss_epoch"), run.summary["state"]) == ({1: 1.0, 2: 0.5}, "completed")


def test_where_wandbs_process_dies_it_goes_on_in_another_and_says_so_once(write, wandb_runs, tmp_path):
    said = write(TRIAL, CURVE[0], kill_wandb, CURVE[1], kill_wandb, End("00000", "completed", "", 2))
    (line,) = said
    assert line.endswith("; the search goes on, and W&B may lack some of it")
    run = wandb_runs(tmp_path / "wandb")["group/00000"]
    assert {row["epoch"]: row["val_loss_epoch"] for row in run.rows} == {1: 1.0, 2: 0.5}
    assert run.summary["state"] == "completed"


def test_a_folder_that_cannot_be_written_is_said_once_and_given_up(write, tmp_path):
    (tmp_path / "file").touch()
    said = write(TRIAL, *CURVE, End("00000", "completed", "", 2), folder=tmp_path / "file" / "wandb")
    assert len(said) == 1
    assert "Not a directory" in said[0]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "wandb").touch()  # where W&B would go elsewhere by itself
    assert write(TRIAL, *CURVE, folder=tmp_path / "taken")[0].startswith("W&B: ")


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "no API key"), ("short", "WANDB_API_KEY invalid: API key must have 40+ characters, has 5.")],
)
def test_online_without_a_key_that_can_be_one_says_offline_and_goes_on(
    write, wandb_runs, tmp_path, monkeypatch, key, reason
):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    folder = tmp_path / "wandb"
    said = write(TRIAL, *CURVE, End("00000", "completed", "", 2), mode="online")
    assert said == [f"W&B: {reason}, so runs are kept in {folder}; `wandb sync` uploads them"]
    (run,) = wandb_runs(folder).values()
    assert run.values("val_loss_epoch") == {1: 1.0, 2: 0.5}
