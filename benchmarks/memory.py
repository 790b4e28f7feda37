"""What a node's trials have in memory, with one trial at a time and with four: the images are there once."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from measuring import ROOT, command, hardware, jpeg_images, lossless_images, write

SPACE = ROOT / "search_spaces" / "image_folder.yaml"
SETTINGS = ("space.width=0.125", "trainer.fast_dev_run=200", "retrain.epochs=1", "retrain.seeds=0")
MIB = 2**20


def processes() -> list[dict[str, int]]:
    """Of each trial's process, in bytes: what is its own, and of what it maps from Ray's object store, how much."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if not (folder / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc"):
                continue
            own, store, mapped = 0, 0, ""
            for line in (folder / "smaps").read_text().splitlines():
                name, *rest = line.split()
                if not name.endswith(":"):
                    mapped = line
                elif name in {"Private_Clean:", "Private_Dirty:"} and "plasma" not in mapped:
                    own += int(rest[0]) * 1024
                elif name == "Rss:" and "plasma" in mapped:
                    store += int(rest[0]) * 1024
        except (OSError, IndexError):
            continue
        found.append({"own": own, "store": store})
    return found


def search(images: Path, trials: int, folder: Path) -> list[dict[str, int]]:
    """Each process when all of them together had most, in a search with so many trials at once."""
    sets = (*SETTINGS, f"data.root={images}", f"resources.cpus_per_trial={os.cpu_count() / trials}")
    sets = (*sets, f"search.trials={trials}")
    most: list[dict[str, int]] = []
    running = subprocess.Popen(
        command(SPACE, folder, *sets), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    while running.poll() is None:
        now = processes()
        if len(now) == trials and sum(each["own"] for each in now) > sum(each["own"] for each in most):
            most = now
        time.sleep(0.5)
    if running.returncode:
        raise RuntimeError(running.stderr.read())
    return most


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="With 6,102 images in place of 60,000; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/memory.json")
def main(quick: bool, out: Path) -> None:
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = (lossless_images if quick else jpeg_images)(folder)
        pixels = 32 * 32 * 3 * sum(1 for _ in images.glob("train/*/*"))
        click.echo(f"training images: {pixels / MIB:.0f} MiB")
        for trials in (1, 4):
            each = search(images, trials, folder / str(trials))
            total = sum(one["own"] for one in each) + max(one["store"] for one in each)
            own = ", ".join(f"{one['own'] / MIB:.0f}" for one in each)
            store = ", ".join(f"{one['store'] / MIB:.0f}" for one in each)
            click.echo(f"{trials} at once: {total / MIB:.0f} MiB; their own {own}; mapped from the store {store}")
            record[str(trials)] = each
    click.echo(hardware())
    if not quick:
        write(out, {"pixels": pixels, "trials": record})


if __name__ == "__main__":
    main()
