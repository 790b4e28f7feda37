"""Slots: kept busy by the same processes, which start each trial from a clean state; a light driver; images once."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

ONE_SLOT = ("resources.max_concurrent=1", "trainer.log_every_n_steps=5")
AUGMENTED = ("space.translate=1", "space.cutout=2", "space.dropout=0.0", "space.optimizer=adamw")


@pytest.fixture
def noted(folder):
    """(process, its own memory in KiB) of each network built by a trial, in order; the last is the retrain's."""

    def read() -> list[tuple[int, int]]:
        lines = (folder / "noted").read_text().splitlines()
        return [(int(process), int(memory)) for process, memory in map(str.split, lines)]

    return read


@pytest.mark.slow
def test_a_trial_in_a_used_process_or_in_a_fork_is_the_trial_in_a_new_one(search, call, own, folder, study, noted):
    """Where Ray is started by the search, its processes are forks."""
    settings = (*ONE_SLOT, *AUGMENTED, "space.width=1.0", "resources.cpus_per_trial=1")
    done = search(own("noted"), *settings, "search.trials=3")
    assert done.code == 0, done.err
    first, *others = study(folder / "experiments" / "test")
    assert len({process for process, _ in noted()[:3]}) == 1, "the process is used again"
    assert [trial.intermediate_values for trial in others] == [first.intermediate_values] * 2
    assert len(set(first.intermediate_values.values())) > 1

    sets = [part for setting in (*settings, "search.trials=1") for part in ("--set", setting)]
    done = call("tune.run", "--space", own("noted"), "--name", "own", *sets)
    assert done.code == 0, done.err
    (forked,) = study(folder / "experiments" / "own")
    assert forked.intermediate_values == first.intermediate_values


@pytest.mark.slow
def test_both_slots_keep_their_processes(search, own, folder, noted):
    two_slots = "resources.max_concurrent=2"
    done = search(own("noted"), two_slots, "space.width=1.0", "search.trials=8", "scheduler.max_epochs=1")
    assert done.code == 0, done.err
    assert len({process for process, _ in noted()[:8]}) == 2


# Searches with a trainable that ends at once, in a cluster of its own; with a second argument it is told to end as soon
# as that many trials were handed out, of which the last has no slot yet.
INSTANT = """
import os, signal, sys
from pathlib import Path
import ray
from ray import tune as ray_tune
from ray.tune import registry
from rich.console import Console
from tune import cluster, experiment as experiments, spec
from tune.conductor import Conductor
from tune.errors import InterruptedSearchError
from tune.open_study import open_study
from tune.progress import Progress
from tune.search import search
from tune.tracking import Tracking

def instant(config, task):
    with Path("processes").open("a") as file:
        print(os.getpid(), file=file)
    ray_tune.report({"epoch": 1, "val_accuracy": 0.5})

handed_out = []
choose = Conductor.next

def handed_out_and_interrupted(conductor):
    start = choose(conductor)
    if start not in (None, "finished"):
        handed_out.append(start)
        if len(handed_out) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGTERM)
    return start

if len(sys.argv) > 2:
    Conductor.next = handed_out_and_interrupted

asked = []
ask = registry._internal_kv_get
registry._internal_kv_get = lambda key: asked.append(key) or ask(key)

experiment = spec.load(Path(sys.argv[1]), ("search.trials=60", "search.sampler=random", "scheduler.max_epochs=1"))
directory = experiments.reserve("experiments", "instant")
experiments.begin(directory, experiment, "", "", None, "")
record, _ = open_study(experiment, directory, "experiments", None, "", resume=False)
with cluster.connected(None), Progress(experiment, 2, Console(file=open(os.devnull, "w"))) as progress:
    share = cluster.Share(os.cpu_count() / 2, 0, 2)
    off = Tracking("", "", None, "")
    try:
        search(experiment, ray.put(None), directory, record, share, off, progress, instant)
    except InterruptedSearchError:
        print("interrupted")
print(*[trial.state for trial in record.trials()])
print(len(asked))
"""


@pytest.fixture
def instant(own, folder):
    """Runs it; what it printed, and how often each process trained."""

    def run(*arguments: str) -> tuple[list[str], Counter[str]]:
        (folder / "instant.py").write_text(INSTANT.replace('Path("processes")', f"Path({str(folder / 'processes')!r})"))
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "instant.py", str(own("linear")), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), Counter((folder / "processes").read_text().split())

    return run


def test_trials_that_end_at_once_fill_every_slot_too(instant):
    """Left to itself, Ray takes back the process that comes for a second trial when the first has ended before."""
    (states, _), processes = instant()
    assert states.split() == ["completed"] * 60
    assert len(processes) == 2
    assert min(processes.values()) > 10, processes


def test_the_cluster_is_asked_for_what_trains_once_and_not_for_each_trial(instant):
    (states, asked), _ = instant()
    assert states.split() == ["completed"] * 60
    assert 0 < int(asked) < 10


def test_a_trial_that_has_no_slot_yet_does_not_begin_once_the_search_is_told_to_end(instant):
    (interrupted, states, _), processes = instant("9")
    assert interrupted == "interrupted"
    assert states.split().count("completed") == processes.total() < 9
    assert set(states.split()) == {"completed", "paused"}


def test_the_driver_imports_neither_torch_nor_lightning(search, own):
    done = search(own("linear"), "space.width=1.0", "search.trials=1", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    assert {"ray", "optuna", "tune.search", "tune.report"} <= imported
    assert not imported & {"torch", "lightning", "torchvision", "torchmetrics"}


@pytest.mark.slow
def test_fifty_trials_leave_no_memory_behind(search, own, noted):
    done = search(own("noted"), *ONE_SLOT, "space.width=1.0", "search.trials=51", "scheduler.max_epochs=1")
    assert done.code == 0, done.err
    memory = [own for _, own in noted()[:51]]
    assert len({process for process, _ in noted()[:51]}) == 1
    grown = min(memory[40:]) - min(memory[5:15])  # the first ones load what all use
    assert grown < 10 * 1024, f"{grown} KiB more after 35 trials: {memory}"
