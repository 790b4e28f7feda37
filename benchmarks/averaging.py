"""Whether averaged weights beat the last ones: the winner of image_folder.yaml's search with several seeds, in pairs.

Each seed's training goes on for 12 epochs at a constant and at a falling learning rate; each of these tails gives its
last weights (raw), their average after each epoch (SWA) and their exponential average (EMA), measured on the held-out
images. The peer of an average is raw of the same tail; all are held against the training without a tail, too.
"""

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import click
from measuring import ROOT, hardware, lossless_images, searched, write
from rich.console import Console
from rich.table import Table

from tune import yaml_file
from tune.finalists import mean_interval

SPACE = ROOT / "search_spaces" / "image_folder.yaml"
TINY = ("data.limit=400", "space.width=0.125", "search.trials=2", "scheduler.max_epochs=2", "scheduler.grace_period=1",
        "retrain.epochs=2")  # fmt: skip


def table(evidence: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row of each way: its values by seed, and the means, with 95 % intervals, of its differences, in pairs."""
    known = {(row["lr_schedule"], row["average"]): row["values"] for row in evidence if row["start"] == "scratch"}
    rows = []
    for (tail, average), values in known.items():
        row: dict[str, Any] = {"tail": tail, "weights": average, "values": values}
        for name, other in (("than raw", (tail, "raw")), ("than no tail", ("none", "raw"))):
            if other != (tail, average):
                differences = [a - b for a, b in zip(values, known[other], strict=True)]
                row[name] = [mean(differences), *(mean_interval(differences) or ())]
        rows.append(row)
    return rows


def shown(figures: list[float] | None) -> str:
    """In points: 0.92 [0.47, 1.36]."""
    if figures is None:
        return ""
    middle, *interval = (f"{100 * figure:+.2f}" for figure in figures)
    return f"{middle} [{', '.join(interval)}]" if interval else middle


@click.command(help=__doc__)
@click.option("--seeds", default=6, show_default=True)
@click.option("--precision", default="32", show_default=True)
@click.option("--quick", is_flag=True, help="Two seeds at a tiny size; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/averaging.json")
def main(seeds: int, precision: str, quick: bool, out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = [f"data.root={lossless_images(folder)}", f"trainer.precision={precision}", "retrain.start=scratch"]
        sets += ["retrain.finalists=1", f"retrain.seeds={2 if quick else seeds}", *(TINY if quick else ())]
        searched(SPACE, folder, *sets)
        winner, _ = yaml_file.read(folder / SPACE.stem / "winner.yaml")
    rows = table(winner["evidence"])
    told = Table(title=f"val_accuracy, {len(rows[0]['values'])} seeds, in pairs; {hardware()}", title_justify="left")
    for column in ("tail", "weights", "mean", "points more than raw", "points more than no tail"):
        told.add_column(column)
    for row in rows:
        differences = [shown(row.get(name)) for name in ("than raw", "than no tail")]
        told.add_row(row["tail"], row["weights"], f"{mean(row['values']):.4f}", *differences)
    Console().print(told)
    if not quick:
        write(out, {"precision": precision, "hparams": winner["hparams"], "val_accuracy": rows})


if __name__ == "__main__":
    main()
