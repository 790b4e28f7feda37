"""Training images a second of ResNet-18: ours, a plain PyTorch loop (the ceiling), and what one glues together.

All three train the same network with the same optimizer, schedule and precision. The plain loop takes the same batch
of device-resident noise again and again, without augmentation, metrics or Lightning; ours crops, flips and counts; the
peer is Lightning over torchvision's transforms in a DataLoader. Epochs of each in turns, the first of a kind left out.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import lightning as L
import numpy as np
import torch
from data_pipeline import Pictures, training_data
from measuring import ROOT, hardware, spread, write
from peer import Classifier
from torch.nn import functional
from torch.utils.data import DataLoader

from cifar.config import DataConfig, TrainerConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams
from cifar.networks import build
from cifar.optim import make_lr_schedule, make_optimizer
from cifar.train import fit

HPARAMS = {"network": "resnet18", "nesterov": True, "translate": 4, "flip": True}
CLASSES, SIZE = 10, 32


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Clock(L.Callback):
    """Seconds of each epoch's steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        wait()
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.is_last_batch:
            wait()
            self.seconds.append(time.perf_counter() - self._began)


def plain(hparams: HParams, steps: int, precision: str) -> float:
    """Seconds of an epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(hparams, CLASSES, 3, (SIZE, SIZE)).to(device)
    optimizer = make_optimizer(hparams, network.parameters())
    schedule = make_lr_schedule(hparams, optimizer, 2 * steps, steps)
    images = torch.randn(hparams.batch_size, 3, SIZE, SIZE, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (hparams.batch_size,), device=device)
    seconds = 0.0
    for _ in range(2):
        wait()
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        wait()
        seconds = time.perf_counter() - began
    return seconds


def ours(hparams: HParams, pixels: np.ndarray, labels: np.ndarray, precision: str) -> float:
    data = training_data(pixels, labels)
    module = ImageDataModule(DataConfig(source="digits"), data, hparams.batch_size, everything=True)
    clock = Clock()
    fit(hparams, module, TrainerConfig(precision=precision), max_epochs=2, seed=0, callbacks=[clock])
    return clock.seconds[-1]


def peer(hparams: HParams, pixels: np.ndarray, labels: np.ndarray, precision: str, workers: int) -> float:
    loader = DataLoader(
        Pictures(pixels, labels),
        batch_size=hparams.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    clock = Clock()
    trainer = L.Trainer(
        max_epochs=2,
        precision=precision,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(hparams, CLASSES, 3, SIZE), loader)
    return clock.seconds[-1]


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True, help="Trainings of two epochs of each kind, in turns.")
@click.option("--batch", type=int, help="Images a step.  [default: 512 on a GPU, 32 without]")
@click.option("--steps", type=int, help="Of an epoch.  [default: 90 on a GPU, 6 without]")
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"]), help="[default: bf16-mixed on a GPU]")
@click.option("--workers", type=int, help="Of the peer's DataLoader.  [default: 12 on a GPU, 0 without]")
@click.option("--quick", is_flag=True, help="Two steps, once; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/step.json")
def main(
    repeats: int,
    batch: int | None,
    steps: int | None,
    precision: str | None,
    workers: int | None,
    quick: bool,
    out: Path,
) -> None:
    gpu = torch.cuda.is_available()
    batch, steps = batch or (512 if gpu else 32), 2 if quick else steps or (90 if gpu else 6)
    precision = precision or ("bf16-mixed" if gpu else "32-true")
    workers = (12 if gpu else 0) if workers is None else workers
    hparams = HParams(batch_size=batch, **HPARAMS)
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (batch * steps, SIZE, SIZE, 3), dtype=np.uint8)
    labels = chance.integers(0, CLASSES, batch * steps)
    kinds: dict[str, Callable[[], float]] = {
        "plain loop": lambda: plain(hparams, steps, precision),
        "ours": lambda: ours(hparams, pixels, labels, "32" if precision == "32-true" else precision),
        "peer": lambda: peer(hparams, pixels, labels, precision, workers),
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(1 if quick else repeats):
        for name, epoch in kinds.items():
            rates[name].append(batch * steps / epoch())
    ratios = {
        name: [mine / theirs for mine, theirs in zip(rates["ours"], rates[name], strict=True)]
        for name in ("plain loop", "peer")
    }
    for name, each in rates.items():
        click.echo(f"{name:10} {spread(each)} images a second")
    for name, each in ratios.items():
        click.echo(f"ours / {name} {spread(each)}")
    click.echo(f"{hardware()}, batch {batch}, {steps} steps, {precision}, {workers} DataLoader workers")
    settings = {"batch": batch, "steps": steps, "precision": precision, "workers": workers}
    if not quick:
        write(out, {**settings, "threads": torch.get_num_threads(), "images_a_second": rates, "ratio": ratios})


if __name__ == "__main__":
    main()
