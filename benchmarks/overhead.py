"""What a search of short trials costs beside their training: ours against what one glues together (peer.py).

24 trials of 2 to 4 epochs of `cnn` on 1,000 lossless CIFAR-10 images, in two slots. The peer trains the same HParams in
the same order, each for as many epochs as ours in bf16 did; ours is measured in float32 too, which is what the peer
trains in. Wall time is from the command to the last trial's end; a slot is busy while a trial trains, validates or
saves in it. Ratios are of the times an epoch, since which trials are stopped differs.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from measuring import ROOT, hardware, lossless_images, peer, searched, spread, write

SLOTS = 2


def experiment(images: Path, trials: int, max_epochs: int, precision: str) -> dict[str, Any]:
    """The experiment file."""
    rates = 10 ** np.random.default_rng(0).uniform(-4, -2.5, trials)
    return {
        "data": {"source": "image_folder", "root": str(images), "limit": 1000},
        "space": {
            "network": "cnn",
            "optimizer": "adam",
            "lr_schedule": "constant",
            "weight_decay": 0.0,
            "batch_size": 32,
            "translate": 4,
            "flip": True,
            "learning_rate": {"type": "float", "lower": 1e-4, "upper": 1e-2, "log": True},
        },
        "search": {
            "trials": trials,
            "sampler": "random",
            "start": [{"learning_rate": float(rate)} for rate in rates],
        },
        "scheduler": {
            "type": "asha",
            "mode": "stop",
            "max_epochs": max_epochs,
            "grace_period": max(1, max_epochs // 2),
            "reduction_factor": 2,
        },
        "trainer": {"precision": precision},
        "retrain": {"epochs": 1, "seeds": 0},
    }


def share_busy(told: dict[str, Any]) -> float:
    """Of the slots' time, from the beginning of the epoch that was reported first to the last report."""
    began = told["first_report"] - told["first_busy_s"]
    return told["busy_s"] / (SLOTS * (told["last_report"] - began))


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True, help="Searches of each kind, in turns.")
@click.option("--trials", default=24, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes of the peer's DataLoader.")
@click.option("--quick", is_flag=True, help="4 trials of 1 to 2 epochs, once; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/overhead.json")
def main(repeats: int, trials: int, workers: int, quick: bool, out: Path) -> None:
    precisions = {"ours, bf16": "bf16-mixed", "ours": "32"}
    measured: dict[str, list[dict[str, Any]]] = {**{kind: [] for kind in precisions}, "peer": []}
    trials, epochs = (4, 2) if quick else (trials, 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = lossless_images(folder)
        for number in range(1 if quick else repeats):
            planned: list[dict[str, Any]] = []
            for kind, precision in precisions.items():
                spec = folder / f"short{number}{precision}.yaml"
                spec.write_text(json.dumps(experiment(images, trials, epochs, precision)))
                told, trained = searched(spec, folder / "ours")
                planned = planned or trained
                measured[kind].append({**told, "epochs": sum(trial["epochs"] for trial in trained)})
            plan = {
                "data": str(images / "train"),
                "limit": 1000,
                "validation_fraction": 0.1,
                "max_epochs": epochs,
                "precision": "32-true",
                "workers": workers,
                "gpus": 0,
                "trials": planned,
            }
            measured["peer"].append(peer(plan, folder / f"peer{number}"))
    wall = {kind: [told["end"] - told["began"] for told in runs] for kind, runs in measured.items()}
    busy = {kind: [share_busy(told) for told in runs] for kind, runs in measured.items()}
    an_epoch = {
        kind: [taken / told["epochs"] for taken, told in zip(wall[kind], runs, strict=True)]
        for kind, runs in measured.items()
    }
    ratios = {
        kind: [one / other for one, other in zip(an_epoch[kind], an_epoch["peer"], strict=True)] for kind in precisions
    }
    for kind, runs in measured.items():
        trained = [told["epochs"] for told in runs]
        click.echo(f"{kind:10} {spread(wall[kind])} s, slots busy {spread(busy[kind])}, epochs {trained}")
    for kind, each in ratios.items():
        click.echo(f"{kind} / peer {spread(each)}")
    click.echo(hardware())
    record = {"trials": trials, "wall_s": wall, "busy": busy, "ratio": ratios, "runs": measured}
    if not quick:
        write(out, record)


if __name__ == "__main__":
    main()
