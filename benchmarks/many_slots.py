"""What share of 64 slots trains, with trials of 2 s: ours against bare Ray Tune with OptunaSearch, ASHA, reused actors.

The slots are simulated: Ray is told that this machine has 64 CPUs, and a trial sleeps. An epoch is a second and a
report; ASHA compares after 1 and 2 epochs and lets half go on, 4 are all: a trial takes 2 s in the mean. A slot is busy
for the second that an epoch is to last, and not for what a late wake-up adds. The share is that of the steady state,
from when every slot has had a trial to when the last trial begins, and that of the whole, from the first trial to the
last one's end. Ours searches as it comes, with its Gaussian process and forked processes; the peer is told that 64
trials may run at once, else it begins one process at a time. Both stop by ASHA, none saves anything.
"""

import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import click
import numpy as np
import ray
from measuring import ROOT, apart, hardware, spread, write
from ray import tune as ray_tune
from scale import ours, peer, value

from tune import cluster, fork_server
from tune.study import StudyRecord

SLOTS, EPOCH_S = 64, 1.0
_SAMPLED_EVERY_S = 3.0
RUNGS = {"max_epochs": 4, "grace_period": 1, "reduction_factor": 2}
NOTES = "MANY_SLOTS_NOTES"  # the folder where trials note their epochs


def epochs(rate: float) -> Iterator[dict[str, float]]:
    """Sleeps for each epoch of a trial, then gives its report: of a curve whose height is by chance."""
    height = random.Random(rate).random()
    with (Path(os.environ[NOTES]) / str(os.getpid())).open("a", buffering=1) as notes:
        for epoch in range(1, RUNGS["max_epochs"] + 1):
            notes.write(f"{epoch} {time.time()}\n")
            time.sleep(EPOCH_S)
            yield {"epoch": epoch, "val_accuracy": value(height, epoch)}


def sleeping(config: dict[str, Any], task: Any) -> None:
    """Our trainable."""
    for report in epochs(config["hparams"]["dropout"]):
        ray_tune.report(report)


def peer_sleeping(config: dict[str, Any]) -> None:
    """The peer's."""
    for report in epochs(config["dropout"]):
        ray_tune.report(report)


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds of each proposal of ours."""
    seconds: list[float] = []
    propose = StudyRecord.propose

    def proposed(self: StudyRecord, *arguments: Any) -> Any:
        began = time.perf_counter()
        trial = propose(self, *arguments)
        seconds.append(time.perf_counter() - began)
        return trial

    StudyRecord.propose = proposed  # type: ignore[method-assign]
    yield seconds
    StudyRecord.propose = propose  # type: ignore[method-assign]


@contextmanager
def cluster_of(kind: str) -> Iterator[None]:
    """Ray as each kind has it, told of 64 CPUs."""
    if kind == "ours":
        os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": SLOTS})
        with fork_server.serving() as python, cluster.connected(None, python):
            yield
    else:
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        with ray.init(address="local", num_cpus=SLOTS, **quiet):
            yield


def cpu_seconds() -> dict[tuple[str, int], float]:
    """Processor time until now of this process, of trials' processes, and of all else that it started, one by one."""
    import psutil

    def of(process: Any) -> float:
        times = process.cpu_times()
        return times.user + times.system

    spent = {("driver", os.getpid()): time.process_time()}
    notes = {int(file.name) for file in Path(os.environ[NOTES]).iterdir()}
    for process in psutil.Process().children(recursive=True):
        spent["workers" if process.pid in notes else "ray", process.pid] = of(process)
    return spent


class Meter(Thread):
    """Notes what time and processor time are when all slots have had a trial, and at the end of the search."""

    def __init__(self, notes: Path) -> None:
        super().__init__(daemon=True)
        self._notes, self._over = notes, Event()
        self.full: tuple[float, dict[tuple[str, int], float]] | None = None
        self._latest: dict[tuple[str, int], float] = {}
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.1):
            if len(list(self._notes.iterdir())) == SLOTS:
                self.full = time.time(), cpu_seconds()
                break
        while not self._over.wait(_SAMPLED_EVERY_S):  # trials' processes end with the search
            self._latest |= cpu_seconds()

    def since(self) -> tuple[float, dict[str, float]] | None:
        """When all slots had had a trial, and processor time since then: of trials' processes, to the last sample."""
        self._over.set()
        self.join()
        if self.full is None:
            return None
        at, before = self.full
        since: dict[str, float] = defaultdict(float)
        for process, spent in (self._latest | cpu_seconds()).items():
            since[process[0]] += spent - before.get(process, 0.0)
        return at, since


def shares(folder: Path, full: float | None) -> dict[str, Any]:
    """What the notes of all slots say; full: when the last slot had its first trial."""
    slots = [[(int(epoch), float(began)) for epoch, began in map(str.split, file.open())] for file in folder.iterdir()]
    began = np.array([began for slot in slots for _, began in slot])
    firsts = [began for slot in slots for epoch, began in slot if epoch == 1]
    gaps: dict[bool, list[float]] = {True: [], False: []}  # before a trial, and within one
    for slot in slots:
        for (_, before), (epoch, after) in pairwise(slot):
            gaps[epoch == 1].append(1000 * (after - before - EPOCH_S))

    def busy(since: float, until: float) -> float:
        inside = np.clip(np.minimum(began + EPOCH_S, until) - np.maximum(began, since), 0, None)
        return float(inside.sum() / (SLOTS * (until - since)))

    return {
        "slots_used": len(slots),
        "busy": busy(full, max(firsts)) if full and full < max(firsts) else None,
        "busy_whole": busy(began.min(), began.max() + EPOCH_S),
        "seconds_to_fill": full - began.min() if full else None,
        "steady_s": max(firsts) - full if full else None,
        "steady_trials": sum(first >= full for first in firsts) if full else None,
        "reports": len(began),
        "gap_before_trial_ms": float(np.median(gaps[True])),
        "gap_within_trial_ms": float(np.median(gaps[False])),
    }


def measure(kind: str, trials: int) -> dict[str, Any]:
    """In this process."""
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder, notes = Path(name), Path(name) / "notes"
        notes.mkdir()
        os.environ[NOTES] = str(notes)
        with cluster_of(kind), timed() as proposals:
            meter, began = Meter(notes), time.monotonic()
            if kind == "ours":
                journal = ours(trials, folder, sleeping, SLOTS, RUNGS).stat().st_size
            else:
                peer(trials, folder, peer_sleeping, SLOTS, RUNGS)
            seconds, since = time.monotonic() - began, meter.since()
        told = {"trials": trials, "seconds": seconds, **shares(notes, since[0] if since else None)}
    if since and told["steady_trials"]:
        told["cpu_ms_a_trial"] = {name: 1000 * spent / told["steady_trials"] for name, spent in since[1].items()}
        told["driver_ms_a_report"] = told["cpu_ms_a_trial"]["driver"] * trials / told["reports"]
    if kind == "ours":
        told |= {"journal_bytes": journal, "proposal_ms": 1000 * float(np.median(proposals[len(proposals) // 2 :]))}
    return told


@click.command(help=__doc__)
@click.option("--repeats", default=3, show_default=True, help="Searches of ours.")
@click.option("--peers", default=1, show_default=True, help="Of the peer, 8 minutes each; 0 keeps what --out has.")
@click.option("--trials", default=1280, show_default=True)
@click.option("--quick", is_flag=True, help="192 trials, ours only; writes nothing.")
@click.option("--kind", type=click.Choice(["ours", "peer"]), help="One search, here.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/many_slots.json")
def main(repeats: int, peers: int, trials: int, quick: bool, kind: str | None, out: Path) -> None:
    if kind:
        click.echo(json.dumps(measure(kind, trials)))
        return
    repeats, peers, trials = (1, 0, 192) if quick else (repeats, peers, trials)
    kept = json.loads(out.read_text())["runs"]["peer"] if not (quick or peers) else []
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": kept}
    for turn in range(max(repeats, peers)):
        for name in ["ours"] * (turn < repeats) + ["peer"] * (turn < peers):
            runs[name].append(apart(__file__, "--kind", name, "--trials", trials))
    for name, each in runs.items():
        if each:
            tell(name, each)
    click.echo(hardware())
    if not quick:
        write(out, {"slots": SLOTS, "epoch_s": EPOCH_S, "rungs": RUNGS, "runs": runs})


def tell(name: str, runs: list[dict[str, Any]]) -> None:
    """A kind's figures."""

    def of(key: str) -> str:
        return spread([run[key] for run in runs if run[key] is not None] or [float("nan")])

    click.echo(f"{name:5} busy {of('busy')} when steady, {of('busy_whole')} in the whole; {of('seconds')} s")
    click.echo(
        f"      idle before a trial {of('gap_before_trial_ms')} ms, before an epoch {of('gap_within_trial_ms')} ms"
    )
    for part in ("driver", "workers", "ray"):
        spent = [run["cpu_ms_a_trial"][part] for run in runs if "cpu_ms_a_trial" in run]
        click.echo(f"      {part}: {spread(spent or [float('nan')])} ms of processor time a trial")
    if name == "ours":
        click.echo(f"      a proposal {of('proposal_ms')} ms; the journal {of('journal_bytes')} bytes")


if __name__ == "__main__":
    main()
