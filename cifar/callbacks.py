"""What a training logs and guards, as Lightning callbacks."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image, ImageDraw
from torch import Tensor
from torch.optim.swa_utils import update_bn

_TILE, _CAPTION = 64, 24  # pixels


class SeedEpochs(L.Callback):
    """Seeds every epoch from (seed, epoch), so that one resumed at an epoch's start goes on as if never interrupted."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds shuffling, augmentation and dropout, which all draw from torch's global generators."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) % 2**63)


class StopEarly(L.Callback):
    """Lightning's EarlyStopping, in the order of callbacks.

    Lightning runs its own after all others, so that a checkpoint saved at an epoch's end lacks what that epoch
    counted, and a resumed training would stop late.
    """

    def __init__(self, monitor: str, patience: int, mode: str) -> None:
        self.inner = EarlyStopping(monitor, patience=patience, mode=mode)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """As EarlyStopping."""
        self.inner.setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the epoch, and asks for the end after too many without improvement."""
        self.inner.on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What it has counted."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from there."""
        self.inner.load_state_dict(state_dict)


class TellEpochs(L.Callback):
    """Says in a line how far a training is, after each epoch."""

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self.what, self.say = what, say

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says it."""
        loss = trainer.callback_metrics["train_loss"].item()
        self.say(f"{self.what}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, train_loss {loss:.4f}")


class EpochAverage(WeightAveraging):
    """Stochastic weight averaging: the equal average of the weights after each epoch, batch-norm statistics refreshed.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018. Lightning's
    callback averages; since running statistics of averaged weights are not the average of running statistics,
    one more pass over the training images makes them (torch.optim.swa_utils.update_bn).
    """

    def __init__(self) -> None:
        super().__init__(use_buffers=False)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After each epoch, not after each step."""
        return epoch_idx is not None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts the average into the module."""
        super().on_train_end(trainer, pl_module)
        update_bn(_augmented(trainer, pl_module), pl_module)


def _augmented(trainer: L.Trainer, module: Any) -> Iterator[Tensor]:
    for images, _ in trainer.train_dataloader:  # type: ignore[union-attr]
        yield module.augment(images)


class PredictionImages(L.Callback):
    """After each validation, the first images with their predicted and true class as one picture, in every logger."""

    def __init__(self, count: int) -> None:
        self.count = count

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws and logs the picture."""
        if trainer.sanity_checking or not isinstance(classes := pl_module.classes, list):
            return
        images, labels = _first(trainer, self.count)
        with torch.no_grad():
            predicted = pl_module(images).argmax(1)
        picture = draw_predictions(images.cpu(), predicted.tolist(), labels.tolist(), classes)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(picture)
                logger.experiment.add_image("val_predictions", pixels, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("val_predictions", [picture], step=trainer.global_step)


def _first(trainer: L.Trainer, count: int) -> tuple[Tensor, Tensor]:
    loader: Any = trainer.val_dataloaders
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for some, theirs in loader:
        images.append(some)
        labels.append(theirs)
        if sum(map(len, labels)) >= count:
            break
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def draw_predictions(images: Tensor, predicted: list[int], true: list[int], classes: list[str]) -> Image.Image:
    """A picture of eight tiles a row, each captioned "predicted / true", green where they agree and red where not.

    images: (n, 1 or 3, size, size) uint8.
    """
    columns = min(8, max(1, len(images)))
    rows = -(-len(images) // columns)
    picture = Image.new("RGB", (columns * (_TILE + 4), rows * (_TILE + _CAPTION + 4)), "white")
    draw = ImageDraw.Draw(picture)
    for index, image in enumerate(images):
        left, top = index % columns * (_TILE + 4) + 2, index // columns * (_TILE + _CAPTION + 4) + 2
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        picture.paste(Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST), (left, top))
        colour = "green" if predicted[index] == true[index] else "red"
        for line, label in enumerate((predicted[index], true[index])):
            draw.text(
                (left, top + _TILE + line * 11),
                f"{classes[label][:10]}",
                fill=colour if line == 0 else "black",
            )
    return picture
