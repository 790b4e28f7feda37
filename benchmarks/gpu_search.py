"""A whole search, retrain and test on one GPU: 64 trials of resnet.yaml on all of CIFAR-10, against the peer (peer.py).

The images are JPEG, whose accuracy compares with nothing published, so baseline.yaml is trained on them too. The peer
trains four of our trials, for as many epochs as ours did; its time for all of them is extrapolated from its time an
epoch, its start left out. Without a GPU all of it is tiny, and no figure is meant.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from measuring import ROOT, hardware, jpeg_images, lossless_images, peer, searched, write

PEER_TRIALS = 4
TINY = (
    "data.limit=600",
    "space.width=0.125",
    "scheduler.max_epochs=4",
    "scheduler.reduction_factor=2",
    "retrain.epochs=1",
    "retrain.seeds=0",
    "trainer.precision=32",
)


def run(space: str, images: Path, folder: Path, *sets: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A shipped experiment on these images: its trials, and with what came of it, when things were."""
    file = ROOT / "search_spaces" / space
    began = time.time()
    told, trials = searched(file, folder, "data.source=image_folder", f"data.root={images}", *sets)
    metrics = json.loads((folder / file.stem / "model" / "metrics.json").read_text())
    return {**told, "test": metrics["test"], "search_s": told["end"] - began, "all_s": time.time() - began}, trials


def spread_out(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four of the trials, from the shortest to the longest."""
    ranked = sorted(trials, key=lambda trial: trial["epochs"])
    return [ranked[place * (len(ranked) - 1) // (PEER_TRIALS - 1)] for place in range(PEER_TRIALS)]


@click.command(help=__doc__)
@click.option("--trials", default=64, show_default=True)
@click.option("--workers", default=8, show_default=True, help="Processes of the peer's DataLoader.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/gpu_search.json")
def main(trials: int, workers: int, out: Path) -> None:
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = (jpeg_images if gpu else lossless_images)(folder)
        sets = (f"search.trials={trials}", "retrain.seeds=0") if gpu else (*TINY, f"search.trials={PEER_TRIALS}")
        told, trained = run("resnet.yaml", images, folder / "ours", *sets)
        single = () if gpu else ("data.limit=600", "scheduler.max_epochs=1", "retrain.epochs=1", "space.width=0.125")
        baseline, _ = run("baseline.yaml", images, folder / "baseline", *single)
        chosen = spread_out(trained)
        plan = {
            "data": str(images / "train"),
            "limit": sum(1 for _ in images.glob("train/*/*")) if gpu else 600,
            "validation_fraction": 0.1,
            "max_epochs": 30 if gpu else 4,
            "precision": "bf16-mixed" if gpu else "32-true",
            "workers": workers if gpu else 0,
            "gpus": int(gpu),
            "trials": chosen,
        }
        glued = peer(plan, folder / "peer")
    epochs = sum(trial["epochs"] for trial in trained)
    began = glued["first_report"] - glued["first_busy_s"]
    extrapolated = (glued["last_report"] - began) / glued["epochs"] * epochs
    ratio = extrapolated / told["search_s"]
    click.echo(
        f"ours: {len(trained)} trials, {epochs} epochs in {told['search_s']:.0f} s; all in {told['all_s']:.0f} s"
    )
    click.echo(f"peer: {glued['epochs']} epochs of {PEER_TRIALS} trials; for ours {extrapolated:.0f} s, extrapolated")
    click.echo(f"trials an hour: {ratio:.3g} times the peer's")
    click.echo(f"test accuracy: {told['test']['accuracy']:.4f}, baseline.yaml {baseline['test']['accuracy']:.4f}")
    click.echo(hardware())
    if gpu:
        write(out, {"ours": told, "trials": trained, "baseline": baseline, "peer": glued, "ratio": ratio})


if __name__ == "__main__":
    main()
