"""The LightningModule: uint8 images in, logits out, with everything a checkpoint needs to be used alone."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

from cifar.augment import Augment
from cifar.config import Size, as_size
from cifar.hparams import HParams
from cifar.networks import build
from cifar.optim import make_lr_schedule, make_optimizer, settings_after


class _Means(nn.Module):
    """A stage's loss and accuracy over an epoch, and of single steps; both stay on the device until the epoch ends."""

    def __init__(self, stage: str, classes: int) -> None:
        super().__init__()
        self.stage = stage
        self.loss = MeanMetric(nan_strategy="disable")
        self.accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
        self.steps: list[tuple[int, Tensor]] = []  # (loss, accuracy) of each

    def count(self, loss: Tensor, logits: Tensor, labels: Tensor, step: int | None) -> None:
        """Adds a batch, which is one of the steps to be logged unless `step` is None."""
        loss = loss.detach()
        self.loss.update(loss, len(labels))
        self.accuracy.update(logits, labels)
        if step is not None:
            right = (logits.detach().argmax(1) == labels).float().mean()
            self.steps.append((step, torch.stack([loss.float(), right])))

    def reset(self) -> None:
        self.loss.reset()
        self.accuracy.reset()
        self.steps.clear()

    def log(self, module: L.LightningModule) -> None:
        """Logs everything, and waits for the device."""
        values = {f"{self.stage}_loss": self.loss.compute(), f"{self.stage}_accuracy": self.accuracy.compute()}
        module.log_dict(values, on_step=False, on_epoch=True, logger=False, batch_size=1)
        by_epoch = {f"{name}_epoch": value for name, value in values.items()}
        fits = module.trainer.state.fn == TrainerFn.FITTING  # in which cifar.callbacks.LogEpochs logs all at once
        module.log_dict(by_epoch, on_step=False, on_epoch=True, logger=False if fits else None, batch_size=1)
        if not self.steps or not module.loggers:
            return
        table = torch.stack([pair for _, pair in self.steps]).tolist()
        for (step, _), (loss, right) in zip(self.steps, table, strict=True):
            for logger in module.loggers:
                logger.log_metrics({f"{self.stage}_loss_step": loss, f"{self.stage}_accuracy_step": right}, step)


class ImageClassifier(L.LightningModule):
    """A network with its normalisation, loss and metrics, and the augmentation that it is to be trained with.

    hparams: the fields of HParams. classes: their names, in label order. channels, image_size: of the images;
    the latter (height, width), or as older checkpoints have it, a square's side.
    mean, std: one per channel, of values in [0, 1].

    Logs train_loss, train_accuracy, val_loss, val_accuracy, test_loss and test_accuracy at each epoch's end, with the
    values of single steps: of each in validation and test, of every `log_every_n_steps`th in training. Before that,
    nothing waits for the device. A test's end logs test_calibration_error too, in [0, 1]: the expected calibration
    error over 15 bins of the highest probability (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    """

    def __init__(
        self,
        hparams: dict[str, Any],
        classes: list[str],
        channels: int,
        image_size: int | Size,
        mean: list[float],
        std: list[float],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.point = HParams(**hparams)
        self.classes, self.channels, self.image_size = classes, channels, as_size(image_size)
        self.network = build(self.point, len(classes), channels, self.image_size)
        self.scale: Tensor  # of a row of pixels, channels last: what takes uint8 to mean 0 and deviation 1
        self.shift: Tensor
        deviations, (_, width) = torch.tensor(std), self.image_size
        self.register_buffer("scale", (1 / (255 * deviations)).repeat(width), persistent=False)
        self.register_buffer("shift", (-torch.tensor(mean) / deviations).repeat(width), persistent=False)
        self.augment = Augment(
            translate=self.point.translate,
            flip=self.point.flip,
            cutout=self.point.cutout,
            color_jitter=self.point.color_jitter,
            fill=tuple(round(value * 255) for value in mean),
        )
        self.train_means, self.val_means, self.test_means = (
            _Means(stage, len(classes)) for stage in ("train", "val", "test")
        )
        self.test_confusion, self.test_confusion_of_views = (
            MulticlassConfusionMatrix(len(classes), validate_args=False) for _ in range(2)
        )
        self.test_calibration = MulticlassCalibrationError(len(classes), n_bins=15, norm="l1", validate_args=False)

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) uint8. Returns logits, (batch, classes) float32."""
        logits = self.network(self.normalise(images))
        if not isinstance(logits, Tensor):  # some of torchvision's networks add auxiliary outputs
            logits = logits[0]
        assert isinstance(logits, Tensor)
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) uint8 as float32 of mean 0 and deviation 1, channels last in memory."""
        rows = images.permute(0, 2, 3, 1)
        values = torch.addcmul(self.shift, rows.flatten(2).float(), self.scale)
        values = values.view(rows.shape).permute(0, 3, 1, 2)
        # a network of the user's own may not bear it
        return values.contiguous() if ":" in self.point.network else values

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step on augmented images."""
        images, labels = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.point.label_smoothing)
        step = self.trainer.global_step
        logged = (step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        self.train_means.count(loss, logits, labels, step if logged else None)
        if self.trainer.is_last_batch:  # before the callbacks of the epoch's end, which read it
            self.train_means.log(self)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss without label smoothing, so that trials compare."""
        self._measure(self.val_means, batch, batch_idx)

    def on_train_epoch_start(self) -> None:
        """Counts anew."""
        self.train_means.reset()

    def on_validation_epoch_start(self) -> None:
        """As for training."""
        self.val_means.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs val_loss and val_accuracy."""
        self.val_means.log(self)

    def on_test_epoch_start(self) -> None:
        """As for training."""
        self.test_means.reset()
        self.test_confusion.reset()
        self.test_confusion_of_views.reset()
        self.test_calibration.reset()

    def on_test_epoch_end(self) -> None:
        """Logs test_loss, test_accuracy and test_calibration_error."""
        self.test_means.log(self)
        self.log("test_calibration_error", self.test_calibration.compute(), batch_size=1)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """As validation, and confusion matrices, (classes, classes) with the true class along the first axis.

        One of the images as they are, one with test-time augmentation (cifar.augment.Augment.views). Returns the
        logits of the images as they are, (n, classes).
        """
        logits = self._measure(self.test_means, batch, batch_idx)
        self.test_confusion.update(logits, batch[1])
        # as probabilities, which logits that happen to be in [0, 1] would be taken for
        self.test_calibration.update(logits.softmax(1), batch[1])
        (_, weight), *others = self.augment.views(batch[0])
        together = weight * logits
        for images, weight in others:
            together = together + weight * self.forward(images)
        self.test_confusion_of_views.update(together, batch[1])
        return logits

    def _measure(self, means: _Means, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.forward(images)
        batches = self.trainer.num_val_batches if means.stage == "val" else self.trainer.num_test_batches
        step = self.trainer.current_epoch * int(batches[0]) + batch_idx
        means.count(functional.cross_entropy(logits, labels), logits, labels, step)
        return logits

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
