"""ImageDataModule: batches cut from arrays that live on the training's device, with a fixed validation split."""

import warnings
from collections.abc import Iterator

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cifar.config import DataConfig
from cifar.errors import DataError
from cifar.sources import Images, TrainingData, load_test

_NO_GRADIENT_PIXELS = 2**20  # of one channel, in a batch that needs no gradients


class Batches:
    """An epoch's batches: (batch, channels, size, size) uint8 and (batch,) int64, both on the arrays' device.

    Shuffled by torch's global generator, so that seeding an epoch fixes it. A last batch of a single image is left out
    of training: batch norm cannot use it.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, indices: Tensor, batch_size: int, *, train: bool) -> None:
        self.pixels, self.labels, self.indices = pixels, labels, indices
        self.batch_size, self.train = batch_size, train

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (rest > (1 if self.train and full else 0))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.indices
        if self.train:
            order = order[torch.randperm(len(order)).to(order.device)]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.pixels[chosen], self.labels[chosen]


class ImageDataModule(L.LightningDataModule):
    """The images of one training.

    `data` is what `cifar.sources.load_training` gave. `everything` trains on the validation images too, and leaves
    none to validate on. The test images are read when, and only when, a test is run.
    """

    def __init__(self, config: DataConfig, data: TrainingData, batch_size: int, *, everything: bool = False) -> None:
        super().__init__()
        self.config, self.data, self.batch_size = config, data, batch_size
        self.everything = everything
        self.training, self.held_out = split(data, config)
        self.test_skipped: tuple[str, ...] = ()  # broken test images, known once they were read
        self._on_device: dict[str, tuple[Tensor, Tensor]] = {}

    def train_dataloader(self) -> Batches:
        """One epoch of training batches."""
        if self.everything:
            return self._batches_of_everything()
        return self._batches("train", self.data.train, self.training, self.batch_size, train=True)

    def _batches_of_everything(self) -> Batches:
        images = self.data.train
        if self.data.validation is not None:
            images = Images(
                np.concatenate([images.pixels, self.data.validation.pixels]),
                np.concatenate([images.labels, self.data.validation.labels]),
            )
        return self._batches("everything", images, np.arange(len(images)), self.batch_size, train=True)

    def val_dataloader(self) -> Batches:
        """The validation images, in order."""
        if self.data.validation is not None:
            everyone = np.arange(len(self.data.validation))
            return self._batches("validation", self.data.validation, everyone, self._large, train=False)
        return self._batches("train", self.data.train, self.held_out, self._large, train=False)

    def test_dataloader(self) -> Batches:
        """The test images, in order. Reads them."""
        images = load_test(self.config, self.data)
        self.test_skipped = images.skipped
        return self._batches("test", images, np.arange(len(images)), self._large, train=False)

    @property
    def _large(self) -> int:
        return max(self.batch_size, min(1024, _NO_GRADIENT_PIXELS // self.data.image_size**2))

    def _batches(
        self, name: str, images: Images, indices: npt.NDArray[np.int64], batch_size: int, *, train: bool
    ) -> Batches:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        key = f"{name} on {device}"
        if key not in self._on_device:
            with warnings.catch_warnings():
                # a mapped file is read-only, and nothing here writes to it
                warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
                pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
            self._on_device[key] = (pixels.to(device), labels.to(device))
        pixels, labels = self._on_device[key]
        return Batches(pixels, labels, torch.from_numpy(indices).to(device), batch_size, train=train)


def split(data: TrainingData, config: DataConfig) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the images trained on, and of those held out for validation, the same share of each class.

    Depends on the labels and `config.split_seed` alone. Raises DataError where a class is too small to be split.
    """
    everyone = np.arange(len(data.train), dtype=np.int64)
    if data.validation is not None:
        return everyone, everyone[:0]
    from sklearn.model_selection import train_test_split

    try:
        training, held_out = train_test_split(
            everyone,
            test_size=config.validation_fraction,
            random_state=config.split_seed,
            stratify=data.train.labels,
        )
    except ValueError as error:
        raise DataError(
            f"{len(data.train)} training images of {len(data.classes)} classes cannot be split with "
            f"data.validation_fraction {config.validation_fraction}: {error}"
        ) from None
    return np.sort(training), np.sort(held_out)
