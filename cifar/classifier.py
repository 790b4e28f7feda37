"""The LightningModule: uint8 images in, logits out, with everything a checkpoint needs to be used alone."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from cifar.augment import Augment
from cifar.hparams import HParams
from cifar.networks import build
from cifar.optim import make_lr_schedule, make_optimizer, settings_after


class ImageClassifier(L.LightningModule):
    """A network with its normalisation, augmentation, loss and metrics.

    hparams: the fields of HParams. classes: their names, in label order. channels, image_size: of the images.
    mean, std: one per channel, of values in [0, 1].

    Logs train_loss, train_accuracy, val_loss, val_accuracy, test_loss and test_accuracy, each step and each epoch.
    """

    def __init__(
        self,
        hparams: dict[str, Any],
        classes: list[str],
        channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.point = HParams(**hparams)
        self.classes, self.channels, self.image_size = classes, channels, image_size
        self.network = build(self.point, len(classes), channels, image_size)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        fill = tuple(round(value * 255) for value in mean)
        self.augment = Augment(self.point.translate, self.point.flip, self.point.cutout, fill)
        self.train_accuracy = MulticlassAccuracy(len(classes), average="micro")
        self.val_accuracy = MulticlassAccuracy(len(classes), average="micro")
        self.test_accuracy = MulticlassAccuracy(len(classes), average="micro")
        self.test_confusion = MulticlassConfusionMatrix(len(classes))

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, image_size, image_size) uint8. Returns logits, (batch, classes) float32."""
        logits = self.network((images.float() / 255 - self.mean) / self.std)
        if not isinstance(logits, Tensor):  # some of torchvision's networks add auxiliary outputs
            logits = logits[0]
        assert isinstance(logits, Tensor)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step on augmented images."""
        images, labels = batch
        logits = self(self.augment(images))
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.point.label_smoothing)
        self._log("train", loss, self.train_accuracy, logits, labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss without label smoothing, so that trials compare."""
        self._measure("val", self.val_accuracy, batch)

    def on_test_epoch_start(self) -> None:
        """Lightning resets what is logged; the confusion matrix is not."""
        self.test_confusion.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As validation, and the confusion matrix, (classes, classes) with the true class along the first axis."""
        logits = self._measure("test", self.test_accuracy, batch)
        self.test_confusion.update(logits, batch[1])

    def _measure(self, stage: str, accuracy: Metric, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self.forward(images)
        self._log(stage, functional.cross_entropy(logits, labels), accuracy, logits, labels)
        return logits

    def _log(self, stage: str, loss: Tensor, accuracy: Metric, logits: Tensor, labels: Tensor) -> None:
        accuracy(logits, labels)
        values: dict[str, Any] = {f"{stage}_loss": loss, f"{stage}_accuracy": accuracy}
        self.log_dict(values, on_step=True, on_epoch=True, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and its schedule advanced after each step."""
        optimizer = make_optimizer(self.point, self.network.parameters())
        schedule = make_lr_schedule(self.point, optimizer, *self._steps())
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def follow_hparams(self) -> None:
        """Gives the optimizer and schedule that a checkpoint restored the settings of this module's HParams.

        The optimizer's moments stay; the learning rate is what the schedule of these HParams has at this step.
        """
        (optimizer,) = self.trainer.optimizers
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        steps = schedules[0].last_epoch if schedules else 0
        settings, state = settings_after(self.point, steps, *self._steps())
        for group in optimizer.param_groups:
            group.update(settings)
        if state is not None:
            schedules[0].load_state_dict(state)

    def _steps(self) -> tuple[int, int]:
        """Of the whole training, and of an epoch."""
        total = int(self.trainer.estimated_stepping_batches)
        return total, max(1, total // max(1, self.trainer.max_epochs or 1))
