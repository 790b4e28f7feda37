"""What a training logs and guards, as Lightning callbacks."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw
from torch import Tensor

from cifar.config import METRICS, not_finite
from cifar.errors import DivergedError

_TILE, _CAPTION = 64, 24  # pixels


class SeedEpochs(L.Callback):
    """Seeds every epoch from (seed, epoch), so that one resumed at an epoch's start goes on as if never interrupted."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds shuffling, augmentation and dropout, which all draw from torch's global generators."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) % 2**63)


class StopAtNonFinite(L.Callback):
    """Raises DivergedError as soon as a training loss is known not to be finite.

    On a CPU that is at once. From a GPU each loss is copied without waiting, and looked at when it has come, some steps
    later; an epoch's last step waits for all of them, and looks at the weights too, which its own update may have
    spoilt. Validation, and what saves a checkpoint at an epoch's end, come after that.
    """

    def __init__(self) -> None:
        self._coming: deque[_Loss] = deque()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets an earlier training that broke off."""
        self._coming.clear()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at what is known; after the last batch, at all."""
        self._coming.append(_Loss(outputs["loss"], trainer.current_epoch + 1, trainer.global_step))
        while self._coming and (trainer.is_last_batch or self._coming[0].has_come()):
            self._coming.popleft().check()
        if trainer.is_last_batch:
            _check_weights(pl_module, trainer.current_epoch + 1, trainer.global_step)


class _Loss:
    """A step's loss on its way to the host."""

    def __init__(self, loss: Tensor, epoch: int, step: int) -> None:
        self.epoch, self.step, self.value = epoch, step, loss
        self.copied: torch.cuda.Event | None = None
        if loss.is_cuda:
            self.value = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.copied.record()

    def has_come(self) -> bool:
        """Whether `check` would not wait."""
        if self.copied is None:
            return self.value.device.type == "cpu"
        return bool(self.copied.query())  # type: ignore[no-untyped-call]

    def check(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()
        value = self.value.item()
        if not math.isfinite(value):
            raise DivergedError(self.epoch, self.step, value)


def _check_weights(module: L.LightningModule, epoch: int, step: int) -> None:
    """As the loss, for all weights and running statistics; waits once."""
    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    if torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        return
    values = torch.cat([tensor.detach().flatten() for tensor in tensors])
    raise DivergedError(epoch, step, values[~values.isfinite()][0].item(), "a weight")


class FollowHParams(L.Callback):
    """Lets a resumed training go on with the module's HParams instead of the checkpoint's."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has restored the optimizer and the schedule by now."""
        pl_module.follow_hparams()  # type: ignore[operator]


class StopEarly(L.Callback):
    """Lightning's EarlyStopping, in the order of callbacks.

    Lightning runs its own after all others, so that a checkpoint saved at an epoch's end lacks what that epoch
    counted, and a resumed training would stop late.
    """

    def __init__(self, monitor: str, patience: int, mode: str) -> None:
        self.inner = EarlyStopping(monitor, patience=patience, mode=mode)
        self.ended = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """As EarlyStopping."""
        self.inner.setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the epoch, and asks for the end after too many without improvement."""
        before = trainer.should_stop
        self.inner.on_train_epoch_end(trainer, pl_module)
        self.ended = trainer.should_stop and not before

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A training that had ended does not go on when it is resumed: Lightning forgets that it was to stop."""
        trainer.should_stop = trainer.should_stop or self.ended

    def state_dict(self) -> dict[str, Any]:
        """What it has counted."""
        return {**self.inner.state_dict(), "ended": self.ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from there."""
        self.inner.load_state_dict(state_dict)
        self.ended = state_dict.get("ended", False)


class TellEpochs(L.Callback):
    """Says in a line how far a training is, after each epoch."""

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self.what, self.say = what, say

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says it."""
        loss = trainer.callback_metrics["train_loss"].item()
        self.say(f"{self.what}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, train_loss {loss:.4f}")


class KeepValues(L.Callback):
    """Keeps what a training logs after each epoch, by epoch from 1, then by name."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After training and validation."""
        known = trainer.callback_metrics
        self.values[trainer.current_epoch + 1] = {name: known[name].item() for name in METRICS if name in known}

    def not_finite(self) -> str:
        """The first that was no number, in words, as the search tells of it; empty if all were."""
        return next(filter(None, (not_finite(values, epoch) for epoch, values in self.values.items())), "")


class LogEpochs(L.Callback):
    """Logs an epoch's means to every logger: once, when all of them are known.

    Lightning would log those of validation and of training apart, the latter after all callbacks: never, where one of
    them ends the training.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After training and validation; epochs are counted from 1."""
        known = trainer.callback_metrics
        means = {f"{name}_epoch": known[name].item() for name in METRICS if name in known}
        for logger in trainer.loggers:
            logger.log_metrics({**means, "epoch": trainer.current_epoch + 1}, step=trainer.global_step - 1)
            logger.save()


class EndAfter(L.Callback):
    """Ends a training after an epoch, its learning rates being those of the whole one."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After training and validation."""
        trainer.should_stop = trainer.should_stop or trainer.current_epoch + 1 >= self.epoch


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for another class. image: its place in the test; probability: in (0, 1]."""

    image: int
    true: int
    predicted: int
    probability: float


class KeepMistakes(L.Callback):
    """Keeps the mistakes of a test, by how sure the model was of them."""

    def __init__(self) -> None:
        self._seen = 0
        self._mistakes: list[Mistake] = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets an earlier test."""
        self._seen, self._mistakes = 0, []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """outputs: the logits, (n, classes)."""
        confidence, predicted = outputs.float().softmax(1).max(1)
        labels = batch[1]
        for index in (predicted != labels).nonzero().flatten().tolist():
            told = int(labels[index]), int(predicted[index]), float(confidence[index])
            self._mistakes.append(Mistake(self._seen + index, *told))
        self._seen += len(labels)

    def surest(self, count: int) -> list[Mistake]:
        """So many of them, that of the highest probability first; of equal ones the earlier image."""
        return sorted(self._mistakes, key=lambda one: (-one.probability, one.image))[:count]


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
            elif hasattr(logger, "log_image"):
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

    images: (n, 1 or 3, height, width) uint8, each as large as its tile holds.
    """
    columns = min(8, max(1, len(images)))
    rows = -(-len(images) // columns)
    picture = Image.new("RGB", (columns * (_TILE + 4), rows * (_TILE + _CAPTION + 4)), "white")
    draw = ImageDraw.Draw(picture)
    for index, image in enumerate(images):
        left, top = index % columns * (_TILE + 4) + 2, index // columns * (_TILE + _CAPTION + 4) + 2
        pixels = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())
        width, height = (max(1, round(side * _TILE / max(pixels.size))) for side in pixels.size)
        picture.paste(pixels.resize((width, height), Image.Resampling.NEAREST), (left, top))
        colour = "green" if predicted[index] == true[index] else "red"
        for line, label in enumerate((predicted[index], true[index])):
            draw.text(
                (left, top + _TILE + line * 11),
                f"{classes[label][:10]}",
                fill=colour if line == 0 else "black",
            )
    return picture
