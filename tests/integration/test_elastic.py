"""A cluster that grows and shrinks while it is searched on: nodes announced as leaving, and Ray's autoscaler."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SPACE = PROJECT / "search_spaces" / "quickstart.yaml"
SETTINGS = ("data.limit=400", "scheduler.type=none", "retrain.seeds=0", "retrain.epochs=1")

# A second or so an epoch, in which the processor has nothing to do.
SLOW = """
import time

from torch import nn


class Slow(nn.Module):
    def __init__(self, classes, inputs):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, images):
        time.sleep(0.1 if self.training else 0)
        return self.net(images)


def slow(classes, channels, image_size):
    return Slow(classes, channels * image_size**2)
"""
HEAD, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"  # Ray's fake provider knows it by those

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clusters")]


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> float:
    """Waits for it; the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"no {what} within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture
def epochs(folder, study) -> Callable[[], int]:
    """Epochs that the search has recorded."""

    def count() -> int:
        journal = folder / "experiments" / "test" / "study.journal"
        return journal.read_text().count('"intermediate_value"') if journal.exists() else 0

    return count


def sets(*settings: str) -> list[str]:
    return [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]


def nodes_of(address: str) -> list[dict]:
    """As Ray tells of them, asked in a process of its own."""
    code = (
        f"import json, ray; ray.init({address!r}, log_to_driver=False, logging_level='ERROR'); "
        "print(json.dumps(ray.nodes()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_node_that_is_announced_as_leaving_is_left_with_a_checkpoint(
    start, ray_head, ray_worker, folder, study, epochs
):
    address = ray_head(0)
    ray_worker(address)
    (leaves,) = [node["NodeID"] for node in nodes_of(address) if node["Resources"].get("CPU")]
    (folder / "slow.py").write_text(SLOW)
    point = ("space.network=slow:slow", "space.batch_size=32", "space.width=1.0")
    long = sets(*point, "search.trials=2", "scheduler.max_epochs=25")
    running = start("tune.run", "--space", SPACE, "--name", "test", "--address", address, *long)
    until(lambda: epochs() >= 3, "third epoch")
    ray_worker(address)
    command = ["drain-node", "--address", address, "--node-id", leaves, "--reason-message", "for the test"]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "600"]
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *command, *reason], check=True, capture_output=True)
    done = running.end()
    assert done.code == 0, done.err
    assert "a node is announced as leaving: its trials save their epoch and go on elsewhere" in done.out
    trials = study(folder / "experiments" / "test")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert [trial.user_attrs.get("lost", 0) for trial in trials] == [0, 0]
    assert sorted(trial.user_attrs["attempts"] for trial in trials) == [1, 2], "one of them ran there"
    assert epochs() == 50, "and none of its epochs was trained twice"


def test_an_autoscaler_brings_the_nodes_that_trials_wait_for_and_takes_idle_ones(
    start, ray_head, folder, study, epochs, monkeypatch, tmp_path, free_port
):
    """Ray's own fake provider of nodes: processes of this machine."""
    port = free_port()
    group = {"resources": {"CPU": 1, "object_store_memory": 150_000_000}, "node_config": {}}
    config = {
        "cluster_name": "fake",
        "max_workers": 2,
        "provider": {
            "type": "external",  # as "fake_multinode" Ray looks for a file that it does not ship
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "head_node_id": HEAD,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {**group, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": HEAD_TYPE,
        "idle_timeout_minutes": 0.05,
        # Ray reads these from a file that it does not ship
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("initialization_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{key: [] for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")},
        **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands")},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1,
    }
    file = tmp_path / "autoscaler.json"
    file.write_text(json.dumps(config))
    for name, value in {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }.items():
        monkeypatch.setenv(name, value)
    address = ray_head(0, 0, "--include-dashboard=false", f"--autoscaling-config={file}", port=port)
    for name in ("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "RAY_CLOUD_INSTANCE_ID", "RAY_NODE_TYPE_NAME"):
        monkeypatch.delenv(name)
    few = sets("search.trials=8", "scheduler.max_epochs=9")
    done = start("tune.run", "--space", SPACE, "--name", "test", "--address", address, *few).end()
    assert done.code == 0, done.err
    assert "no node has room for a trial (1 CPU) yet: the cluster was asked for one" in done.out
    assert "slots: 2, 1 before" in done.out
    trials = study(folder / "experiments" / "test")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    until(lambda: not any(node["Alive"] and node["Resources"].get("CPU") for node in nodes_of(address)), "idle end", 60)
