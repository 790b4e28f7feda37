"""From the command to the first reported epoch of the quick start: ours against what one glues together (peer.py)."""

import subprocess
import tempfile
import time
from pathlib import Path

import click
from measuring import ROOT, command, hardware, peer, spread, write

SPACE = ROOT / "search_spaces" / "quickstart.yaml"
SHORT = ("search.trials=2", "scheduler.type=none", "scheduler.max_epochs=1", "retrain.epochs=1", "retrain.seeds=0")
# one of the space's points; the peer's search ends after an epoch of two trials, one a slot
HPARAMS = {
    "network": "resnet9",
    "width": 0.25,
    "batch_size": 32,
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "translate": 1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
}
PLAN = {
    "data": "digits",
    "limit": 1437,
    "validation_fraction": 0.2,
    "max_epochs": 12,
    "precision": "32-true",
    "workers": 0,
    "gpus": 0,
    "trials": [{"hparams": HPARAMS, "epochs": 1}] * 2,
}


def ours(folder: Path) -> float:
    """Seconds until the study has a value. The search goes on to its end, so that it leaves no process behind."""
    journal = folder / SPACE.stem / "study.journal"
    began, first = time.time(), None
    process = subprocess.Popen(
        command(SPACE, folder, *SHORT), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    while process.poll() is None:
        if first is None and journal.exists() and '"intermediate_value"' in journal.read_text():
            first = time.time() - began
        time.sleep(0.02)
    if process.returncode or first is None:
        raise RuntimeError(process.stderr.read())
    return first


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True, help="Starts of each kind, in turns.")
@click.option("--quick", is_flag=True, help="Once; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/start.json")
def main(repeats: int, quick: bool, out: Path) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as name:
        for number in range(1 if quick else repeats):
            seconds["ours"].append(ours(Path(name) / f"ours{number}"))
            told = peer(PLAN, Path(name) / f"peer{number}")
            seconds["peer"].append(told["first_report"] - told["began"])
    ratios = [one / other for one, other in zip(seconds["ours"], seconds["peer"], strict=True)]
    for kind, each in seconds.items():
        click.echo(f"{kind:5} {spread(each)} s")
    click.echo(f"ours / peer {spread(ratios)}, {hardware()}")
    if not quick:
        write(out, {"seconds": seconds, "ratio": ratios})


if __name__ == "__main__":
    main()
