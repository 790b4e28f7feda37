"""What the driver costs a trial: ours against bare Ray Tune with OptunaSearch, ASHA and reused actors.

Trials of a trainable that reports 9 numbers and does nothing, in two slots; both stop by ASHA, none saves anything. A
kind is measured in a process of its own, which says how long its search took and what memory it had come to. Each
time is that of the whole search, without Ray's start, by the number of trials.
"""

import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import ray
from measuring import ROOT, apart, hardware, spread, write
from ray import tune as ray_tune

from tune import cluster

REPORTS, SLOTS = 9, 2
RUNGS = {"max_epochs": REPORTS, "grace_period": 1, "reduction_factor": 3}


def value(rate: float, epoch: int) -> float:
    """A made-up learning curve."""
    return 1 - rate - 1 / (epoch + 1)


def nothing(config: dict[str, Any], task: Any) -> None:
    """Our trainable."""
    for epoch in range(1, REPORTS + 1):
        ray_tune.report({"epoch": epoch, "val_accuracy": value(config["hparams"]["dropout"], epoch)})


def ours(
    trials: int,
    folder: Path,
    trainable: Callable[..., None] = nothing,
    slots: int = SLOTS,
    rungs: dict[str, int] = RUNGS,
) -> Path:
    """A search of ours, of which nothing is told to W&B; its journal."""
    from rich.console import Console

    from tune import experiment as experiments
    from tune import spec
    from tune.open_study import open_study
    from tune.progress import Progress
    from tune.search import search
    from tune.tracking import Tracking

    file = folder / "scale.yaml"
    space = {
        "dropout": {"type": "float", "lower": 0.0, "upper": 0.9},
        "learning_rate": {"type": "float", "lower": 1e-4, "upper": 1.0, "log": True},
        "weight_decay": {"type": "float", "lower": 1e-6, "upper": 1e-2, "log": True},
        "translate": {"type": "int", "lower": 0, "upper": 8},
    }
    plan = {
        "data": {"source": "digits"},
        "space": space,
        "search": {"trials": trials},
        "scheduler": {"type": "asha", "mode": "stop", **rungs},
    }
    file.write_text(json.dumps(plan))
    experiment = spec.load(file)
    directory = experiments.reserve(str(folder / "experiments"), "scale")
    experiments.begin(directory, experiment, "benchmark", "", None, "")
    record, _ = open_study(experiment, directory, str(folder), None, "", resume=False)
    share = cluster.Share(1, 0, slots)
    off = Tracking("", "", None, "")
    with Progress(experiment, slots, Console(file=Path(os.devnull).open("w"))) as progress:
        done, _ = search(experiment, ray.put(None), directory, record, share, off, progress, trainable)
    assert len(done) == trials, f"{len(done)} of {trials} trials"
    return directory.journal


def peer_nothing(config: dict[str, Any]) -> None:
    """The peer's trainable."""
    for epoch in range(1, REPORTS + 1):
        ray_tune.report({"val_accuracy": value(config["dropout"], epoch)})


def peer(
    trials: int,
    folder: Path,
    trainable: Callable[..., None] = peer_nothing,
    slots: int | None = None,
    rungs: dict[str, int] = RUNGS,
) -> None:
    """The same of bare Ray Tune."""
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space = {
        "dropout": ray_tune.uniform(0.0, 0.9),
        "learning_rate": ray_tune.loguniform(1e-4, 1.0),
        "weight_decay": ray_tune.loguniform(1e-6, 1e-2),
        "translate": ray_tune.randint(0, 9),
    }
    config = ray_tune.TuneConfig(
        metric="val_accuracy",
        mode="max",
        search_alg=OptunaSearch(),
        scheduler=ASHAScheduler(
            max_t=rungs["max_epochs"], grace_period=rungs["grace_period"], reduction_factor=rungs["reduction_factor"]
        ),
        num_samples=trials,
        max_concurrent_trials=slots,
        reuse_actors=True,
    )
    with_cpu = ray_tune.with_resources(trainable, {"cpu": 1})
    run_config = ray_tune.RunConfig(storage_path=str(folder), verbose=0)
    results = ray_tune.Tuner(with_cpu, param_space=space, tune_config=config, run_config=run_config).fit()
    assert len(results) == trials, f"{len(results)} of {trials} trials"


def measure(kind: str, trials: int) -> dict[str, float]:
    """In this process: seconds and milliseconds a trial, the driver's own processor time, its memory in MiB."""
    random.seed(0)
    alone = {"address": "local", "include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    with cluster.connected(None) if kind == "ours" else ray.init(**alone), tempfile.TemporaryDirectory() as name:
        began, cpu = time.monotonic(), time.process_time()
        {"ours": ours, "peer": peer}[kind](trials, Path(name))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "ms_a_trial": 1000 * seconds / trials, "cpu_s": cpu, "memory_mib": memory}


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True, help="Searches of 1,000 trials of each kind, in turns.")
@click.option("--large", default=10_000, show_default=True, help="Trials of the large search of ours; 0 for none.")
@click.option("--quick", is_flag=True, help="30 trials, once; writes nothing.")
@click.option("--kind", type=click.Choice(["ours", "peer"]), help="One search, here.")
@click.option("--trials", default=1000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/scale.json")
def main(repeats: int, large: int, quick: bool, kind: str | None, trials: int, out: Path) -> None:
    if kind:
        click.echo(json.dumps(measure(kind, trials)))
        return
    repeats, trials, large = (1, 30, 0) if quick else (repeats, trials, large)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for name, told in runs.items():
            told.append(apart(__file__, "--kind", name, "--trials", trials))
    times = {name: [told["ms_a_trial"] for told in each] for name, each in runs.items()}
    ratios = [one / other for one, other in zip(times["ours"], times["peer"], strict=True)]
    for name, each in runs.items():
        memory = spread([told["memory_mib"] for told in each])
        click.echo(f"{name:5} {trials} trials: {spread(times[name])} ms a trial, driver {memory} MiB")
    click.echo(f"ours / peer {spread(ratios)}")
    record: dict[str, Any] = {"trials": trials, "runs": runs, "ratio": ratios}
    if large:
        told = apart(__file__, "--kind", "ours", "--trials", large)
        growth = told["ms_a_trial"] / sorted(times["ours"])[len(times["ours"]) // 2]
        click.echo(f"ours  {large} trials: {told['ms_a_trial']:.3g} ms a trial, {growth:.3g} times that of {trials}")
        click.echo(f"      driver {told['memory_mib']:.0f} MiB")
        record |= {"large": {"trials": large, **told, "growth": growth}}
    click.echo(hardware())
    if not quick:
        write(out, record)


if __name__ == "__main__":
    main()
