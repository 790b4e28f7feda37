"""ImageDataModule: batches cut from arrays that live on the training's device, with a fixed validation split."""

import warnings
from collections.abc import Callable, Iterator
from math import prod
from weakref import WeakKeyDictionary

import lightning as L
import numpy as np
import torch
from torch import Tensor

from cifar.augment import Augment
from cifar.config import DataConfig
from cifar.errors import NoTestImagesError
from cifar.sources import Images, Indices, TrainingData, split

_NO_GRADIENT_PIXELS = 2**20  # of one channel, in a batch that needs no gradients

# Of images that trainings of this process share, by device: pixels (n, height, width, channels) uint8 and labels (n,).
_on_device: WeakKeyDictionary[Images, dict[torch.device, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


class Batches:
    """An epoch's batches: (batch, channels, height, width) uint8, channels last in memory, and (batch,) int64.

    Both are on the arrays' device. Shuffled by torch's global generator, so that seeding an epoch fixes it. A last
    batch of a single image is left out of training: batch norm cannot use it. pixels: (n, height, width, channels).
    change: of a batch's images and their (batch,) indices, makes what is trained on. part: (k, n): of each batch, this
    is the k-th process' share of n, all of which see the batches in one order.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        indices: Tensor,
        batch_size: int,
        *,
        train: bool,
        change: Callable[[Tensor, Tensor], Tensor] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.pixels, self.labels, self.indices = pixels, labels, indices
        self.batch_size, self.train, self.change, self.part = batch_size, train, change, part

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (rest > (2 * self.part[1] - 1 if self.train and full else 0))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.indices
        share, shares = self.part
        if self.train:
            order = order[torch.randperm(len(order)).to(order.device)]
            if share:
                torch.manual_seed((torch.initial_seed() + share) % 2**63)  # images change by chance, in each otherwise
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size][share::shares]
            images = self.pixels.index_select(0, chosen).permute(0, 3, 1, 2)
            yield (self.change(images, chosen) if self.change else images), self.labels[chosen]


class ImageDataModule(L.LightningDataModule):
    """The images of one training, and no test images.

    `data` is what `cifar.sources.load_training` gave. `everything` trains on the validation images too, and leaves
    none to validate on. `augment` is what changes the training images; where its flip is alternating, each is mirrored
    every second epoch (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498).
    """

    def __init__(self, config: DataConfig, data: TrainingData, batch_size: int, *, everything: bool = False) -> None:
        super().__init__()
        self.config, self.data, self.batch_size = config, data, batch_size
        self.everything = everything
        self.training, self.held_out = split(data, config)
        self.augment = Augment()
        self._everything: Images | None = None

    def train_dataloader(self) -> Batches:
        """One epoch of training batches, augmented; where several processes train, this one's share of each."""
        batches = self.training_batches()
        if self.trainer is not None:
            batches.part = (self.trainer.global_rank, self.trainer.world_size)
        return batches

    def training_batches(self) -> Batches:
        """The same batches, whole."""
        if self.everything:
            images = self._all()
            return self.batches(images, np.arange(len(images)), self.batch_size, train=True)
        return self.batches(self.data.train, self.training, self.batch_size, train=True)

    def _all(self) -> Images:
        if self.data.validation is None:
            return self.data.train
        if self._everything is None:
            parts = (self.data.train, self.data.validation)
            pixels = np.concatenate([images.pixels for images in parts])
            self._everything = Images(pixels, np.concatenate([images.labels for images in parts]))
        return self._everything

    def val_dataloader(self) -> Batches:
        """The validation images, in order."""
        if self.data.validation is not None:
            everyone = np.arange(len(self.data.validation))
            return self.batches(self.data.validation, everyone, self.large, train=False)
        return self.batches(self.data.train, self.held_out, self.large, train=False)

    def test_dataloader(self) -> Batches:
        """None: raises NoTestImagesError."""
        raise NoTestImagesError(
            "a training has no test images: they are read once, after the search, by tune.evaluation, "
            "since what is chosen by them says nothing of new images; use val_dataloader()"
        )

    @property
    def large(self) -> int:
        """The size of batches that need no gradients."""
        return max(self.batch_size, min(1024, _NO_GRADIENT_PIXELS // prod(self.data.image_size)))

    def batches(self, images: Images, indices: Indices, batch_size: int, *, train: bool) -> Batches:
        """Batches of the images at `indices`, on the training's device; augmented if they are to `train` on."""
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        there = _on_device.setdefault(images, {})
        if device not in there:
            with warnings.catch_warnings():
                # mapped and shared memory is read-only, and nothing here writes to it
                warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
                pixels = torch.from_numpy(images.pixels.transpose(0, 2, 3, 1))
                there[device] = (pixels.to(device), torch.from_numpy(images.labels).to(device))
        chosen = torch.from_numpy(indices).to(device)
        return Batches(*there[device], chosen, batch_size, train=train, change=self._augmented if train else None)

    def _augmented(self, images: Tensor, indices: Tensor) -> Tensor:
        if self.augment.flip != "alternating":
            return self.augment(images)
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self.augment(images, _coin(indices) ^ bool(epoch % 2))


def _coin(indices: Tensor) -> Tensor:
    """Heads or tails, (n,) bool, always the same for an index."""
    return ((indices * 0x9E3779B1 >> 15) & 1).bool()
