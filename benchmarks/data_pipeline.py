"""Training images a second on one core, cropped, flipped and normalised: ours against torchvision's in a DataLoader.

The peer is what a script has: images in memory as PIL's, RandomCrop with padding, RandomHorizontalFlip, ToTensor and
Normalize of one image at a time, in a DataLoader of this process. Both give shuffled batches of float32.
"""

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from measuring import ROOT, hardware, spread, write
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cifar.config import DataConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams
from cifar.sources import Images, TrainingData
from cifar.train import make_classifier

SIZE, BATCH, REACH = 32, 128, 4
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


class Pictures(Dataset):
    """As torchvision's CIFAR10 holds them."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=REACH),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def peer(pixels: np.ndarray, labels: np.ndarray) -> Callable[[], int]:
    loader = DataLoader(Pictures(pixels, labels), batch_size=BATCH, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


def training_data(pixels: np.ndarray, labels: np.ndarray) -> TrainingData:
    """All to be trained on, none held out."""
    halves = (np.arange(len(labels)), np.arange(0))
    return TrainingData(Images(pixels.transpose(0, 3, 1, 2), labels), None, tuple("0123456789"), MEAN, STD, "", halves)


def ours(pixels: np.ndarray, labels: np.ndarray) -> Callable[[], int]:
    module = ImageDataModule(DataConfig(source="digits"), training_data(pixels, labels), BATCH)
    model = make_classifier(HParams(network="cnn", translate=REACH, flip=True), module)
    module.augment = model.augment
    loader = module.train_dataloader()
    return lambda: sum(len(model.normalise(images)) for images, _ in loader)


@click.command(help=__doc__)
@click.option("--repeats", default=9, show_default=True, help="Epochs of each kind, in turns.")
@click.option("--images", "count", default=10_000, show_default=True)
@click.option("--quick", is_flag=True, help="500 images, once; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/data_pipeline.json")
def main(repeats: int, count: int, quick: bool, out: Path) -> None:
    repeats, count = (1, 500) if quick else (repeats, count)
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    labels = chance.integers(0, 10, count)
    kinds = {"ours": ours(pixels, labels), "peer": peer(pixels, labels)}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(repeats + 1):
        for name, epoch in kinds.items():
            began = time.perf_counter()
            seen = epoch()
            seconds = time.perf_counter() - began
            assert seen == count, f"{name} gave {seen} of {count} images"
            if number or quick:  # the first warms up
                rates[name].append(seen / seconds)
    ratios = [one / other for one, other in zip(rates["ours"], rates["peer"], strict=True)]
    for name, each in rates.items():
        click.echo(f"{name:5} {spread(each)} images a second")
    click.echo(f"ours / peer {spread(ratios)}, {hardware()}")
    if not quick:
        write(out, {"images": count, "batch": BATCH, "threads": 1, "images_a_second": rates, "ratio": ratios})


if __name__ == "__main__":
    main()
