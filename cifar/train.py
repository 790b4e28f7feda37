"""One training: fit() trains a classifier, go_on() trains it on and averages its weights, test() measures it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from cifar.averaging import Averages
from cifar.callbacks import (
    FollowHParams,
    KeepMistakes,
    LogEpochs,
    Mistake,
    PredictionImages,
    SeedEpochs,
    StopAtNonFinite,
    StopEarly,
)
from cifar.checkpoint import check_hparams, read_checkpoint
from cifar.classifier import ImageClassifier
from cifar.compilation import CountCompiling, compiled
from cifar.config import METRICS, Average, TrainerConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams


@dataclass(frozen=True)
class Parallel:
    """How processes train together: what makes Lightning's strategy, and its plugin that knows the others.

    first: whether this is the one that saves.
    """

    strategy: Callable[[], Strategy]
    environment: Callable[[], ClusterEnvironment]
    first: bool


def fit(
    hparams: HParams,
    data: ImageDataModule,
    config: TrainerConfig,
    *,
    max_epochs: int,
    seed: int,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[L.Callback] = (),
    resume_from: Path | None = None,
    changed: bool = False,
    parallel: Parallel | None = None,
) -> ImageClassifier:
    """Trains `hparams` for `max_epochs`, or until early stopping, and returns the classifier as it then is.

    `resume_from` is a checkpoint of the same training; what follows equals what would have followed without the stop,
    which is nothing where that training had ended. With `changed`, `hparams` may differ from the checkpoint's in
    cifar.hparams.MUTABLE: weights, the optimizer's moments and the count of epochs are the checkpoint's, all else is
    as if it had always been that of `hparams`, the learning rate at each step included. parallel: where this process is
    one of several that train together, each on its share of every batch.

    Raises DivergedError where the loss or a weight is not finite, before that epoch is validated or saved;
    CheckpointError where `resume_from` is missing or damaged, and ValueError where its HParams differ and must not,
    both before anything is trained; UserError where the network is to be compiled and cannot be.
    """
    if resume_from is not None:
        content = read_checkpoint(resume_from)
        check_hparams(resume_from, content, hparams, changed=changed)
        max_epochs = max(max_epochs, content["epoch"])  # Lightning refuses to go back, even if there is nothing to do
        del content
    L.seed_everything(seed, verbose=False)
    model = make_classifier(hparams, data)
    extras: list[L.Callback] = []
    if config.early_stopping and not data.everything:
        monitor = config.early_stopping.monitor
        extras.append(StopEarly(monitor, config.early_stopping.patience, METRICS[monitor]))
    if resume_from is not None and changed:
        extras.append(FollowHParams())
    # Before `callbacks`, which may save a checkpoint: what early stopping has counted belongs in it.
    standing = [*extras, *callbacks]
    trainer = _trainer(config, max_epochs, seed, loggers, standing, validate=not data.everything, parallel=parallel)
    data.augment = model.augment
    with _quiet(), _compiled(model, config):
        trainer.fit(model, datamodule=data, ckpt_path=resume_from, weights_only=True)
    return model


def go_on(
    model: ImageClassifier,
    data: ImageDataModule,
    config: TrainerConfig,
    *,
    epochs: int,
    learning_rate: float,
    lr_schedule: Literal["constant", "cosine"],
    seed: int,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[L.Callback] = (),
    parallel: Parallel | None = None,
) -> dict[Average, ImageClassifier]:
    """Trains a copy of `model` on from `learning_rate`, which stays or falls to 0, and returns what it then is.

    Under each name of cifar.averaging.Averages: the last weights, and averages of those on the way. Raises
    DivergedError as `fit` does.
    """
    point = model.point.model_copy(update={"lr_schedule": lr_schedule, "learning_rate": learning_rate})
    point = point.model_copy(update={"min_lr_fraction": 0.0, "pretrained": False})
    L.seed_everything(seed, verbose=False)
    trained = make_classifier(point, data)
    trained.load_state_dict(model.state_dict())
    averages = Averages()
    everything = [*callbacks, averages]
    trainer = _trainer(config, epochs, seed, loggers, everything, validate=not data.everything, parallel=parallel)
    data.augment = model.augment
    with _quiet(), _compiled(trained, config):
        trainer.fit(trained, datamodule=data)
    models = {}
    for name, state in averages.states.items():
        models[name] = make_classifier(point, data)
        models[name].load_state_dict(state)
    return models


def validate(model: ImageClassifier, data: ImageDataModule, config: TrainerConfig) -> dict[str, float]:
    """val_loss and val_accuracy of `model`."""
    with _quiet():
        (metrics,) = _trainer(config, 1, 0, (), ()).validate(model, datamodule=data, verbose=False)
    return _epoch_values(metrics)


@dataclass(frozen=True)
class Tested:
    """What a test gave.

    metrics: test_loss, test_accuracy, test_calibration_error. confusion, confusion_of_views: without and with test-time
    augmentation, (classes, classes) int64, true class first. mistakes: the surest ones first.
    """

    metrics: dict[str, float]
    confusion: torch.Tensor
    confusion_of_views: torch.Tensor
    mistakes: list[Mistake]


def test(
    model: ImageClassifier,
    data: ImageDataModule,
    config: TrainerConfig,
    *,
    loggers: Sequence[Logger] = (),
    mistakes: int = 0,
) -> Tested:
    """Measures `model` on the test images that `data` has, as cifar.testset does; mistakes: how many to keep."""
    kept = KeepMistakes()
    with _quiet():
        (metrics,) = _trainer(config, 1, 0, loggers, (kept,)).test(model, datamodule=data, verbose=False)
    plain, with_views = (each.compute().cpu() for each in (model.test_confusion, model.test_confusion_of_views))
    return Tested(_epoch_values(metrics), plain, with_views, kept.surest(mistakes))


def make_classifier(hparams: HParams, data: ImageDataModule) -> ImageClassifier:
    """A new classifier for the classes and images of `data`."""
    images = data.data
    return ImageClassifier(
        hparams=hparams.model_dump(),
        classes=list(images.classes),
        channels=images.channels,
        image_size=images.image_size,
        mean=list(images.mean),
        std=list(images.std),
    )


def device_of(config: TrainerConfig) -> torch.device:
    """Where a training runs."""
    return _trainer(config, 1, 0, (), ()).strategy.root_device


def load(checkpoint: Path) -> ImageClassifier:
    """A classifier from a Lightning checkpoint, on the CPU. Only tensors and plain values are unpickled."""
    return from_checkpoint(torch.load(checkpoint, map_location="cpu", weights_only=True))


def from_checkpoint(content: dict[str, Any]) -> ImageClassifier:
    """A classifier from what a checkpoint holds. The network that it names is built, the user's own too."""
    arguments = content["hyper_parameters"]
    point = {**arguments["hparams"], "pretrained": False}  # its own weights follow
    model = ImageClassifier(**{**arguments, "hparams": point})
    model.load_state_dict(content["state_dict"])
    return model


def save(model: ImageClassifier, file: Path) -> None:
    """Writes a Lightning checkpoint that `load`, and Lightning itself, read; weights only, no optimizer."""
    with _quiet():
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(file, weights_only=True)


def _compiled(model: ImageClassifier, config: TrainerConfig) -> AbstractContextManager[None]:
    return compiled(model.network) if config.compile else nullcontext()


def _trainer(
    config: TrainerConfig,
    max_epochs: int,
    seed: int,
    loggers: Sequence[Logger],
    callbacks: Sequence[L.Callback],
    *,
    validate: bool = True,
    parallel: Parallel | None = None,
) -> L.Trainer:
    standard: list[L.Callback] = [SeedEpochs(seed), StopAtNonFinite()]
    if loggers:
        standard += [LearningRateMonitor(logging_interval="step"), LogEpochs()]
    if config.compile:
        standard.append(CountCompiling())
    if config.prediction_images and validate:
        standard.append(PredictionImages(config.prediction_images))
    together: dict[str, Any] = {"devices": config.devices}
    if parallel:
        together = {
            "devices": "auto",
            "strategy": parallel.strategy(),
            "plugins": [parallel.environment()],
            "sync_batchnorm": torch.cuda.is_available() and config.accelerator != "cpu",  # there is none for CPUs
            "use_distributed_sampler": False,
        }
    with _quiet():
        return L.Trainer(
            **together,
            accelerator=config.accelerator,
            precision=config.precision,
            max_epochs=max_epochs,
            log_every_n_steps=config.log_every_n_steps,
            fast_dev_run=config.fast_dev_run,
            logger=list(loggers),
            callbacks=[*standard, *callbacks],
            num_sanity_val_steps=0,
            limit_val_batches=None if validate else 0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def _epoch_values(metrics: Any) -> dict[str, float]:
    """Lightning names a value logged by step and by epoch twice; the epoch's is the one to keep."""
    return {name.removesuffix("_epoch"): value for name, value in metrics.items() if not name.endswith("_step")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice to interactive users would drown the lines that matter."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            warnings.filterwarnings("ignore", ".*The number of training batches.*", UserWarning)
            # Lightning's own use of what torch deprecates
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
