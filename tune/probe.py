"""What a training takes of its device: time a step, and memory."""

import os
import resource
import time
from contextlib import suppress
from functools import cache
from typing import Any

import lightning as L
import torch

from cifar import train
from cifar.config import Size
from cifar.costs import flops
from cifar.datamodule import ImageDataModule
from cifar.errors import DivergedError
from cifar.hparams import HParams
from cifar.networks import build
from cifar.sources import TrainingData
from tune.spec import Experiment

_MEASURED_S = 3.0


def cost(hparams: HParams, images: TrainingData) -> int:
    """Floating-point operations of a step's forward pass."""
    return _cost_an_image(hparams.network, hparams.width, len(images.classes), images.channels, images.image_size) * (
        hparams.batch_size
    )


@cache
def _cost_an_image(name: str, width: float, classes: int, channels: int, size: Size) -> int:
    network = build(HParams(network=name, width=width, pretrained=False), classes, channels, size).eval()
    return flops(network, torch.zeros(1, channels, *size))


def warm(hparams: HParams, experiment: Experiment, images: TrainingData, threads: int) -> None:
    """Trains for some steps with so many threads, and validates."""
    torch.set_num_threads(threads)
    _train(hparams, experiment, images, _Stopwatch(time.time(), 1.0))


def pace(
    hparams: HParams, experiment: Experiment, images: TrainingData, start: float
) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Trains from now on, and times its steps for some seconds from `start`, by the wall clock.

    Returns the seconds of a step, and the memories as tune.packing.Pace has them. Raises TimeoutError where the
    training begins after `start`, so that it would be timed beside nobody.
    """
    watch = _Stopwatch(start, _MEASURED_S)
    _train(hparams, experiment, images, watch)
    if watch.began > start:
        raise TimeoutError("a training began when the others were timed already")
    return watch.step_seconds, _memory()


def _train(hparams: HParams, experiment: Experiment, images: TrainingData, watch: "_Stopwatch") -> None:
    slow = hparams.model_copy(update={"learning_rate": 1e-6, "pretrained": False})  # none diverges that fast
    data = ImageDataModule(experiment.data, images, slow.batch_size)
    config = experiment.trainer.model_copy(update={"fast_dev_run": False, "early_stopping": None})
    with suppress(DivergedError):
        train.fit(slow, data, config, max_epochs=100_000, seed=0, callbacks=[watch])  # validates when it ends


class _Stopwatch(L.Callback):
    """Ends a training when its steps were timed for `seconds` from `start` on; two at least."""

    def __init__(self, start: float, seconds: float) -> None:
        self._start, self._seconds = start, seconds
        self._first, self._steps = 0.0, 0
        self.began, self.step_seconds = 0.0, float("inf")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After all that is not training."""
        self.began = time.time()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Looks at the clock."""
        if time.time() < self._start or trainer.should_stop:
            return
        if not self._first:
            self._first = _now()
            return
        self._steps += 1
        if time.time() > self._start + self._seconds:
            self.step_seconds = (_now() - self._first) / self._steps
            trainer.should_stop = True


def _now() -> float:
    """When all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time()


def _memory() -> tuple[tuple[int, int], ...]:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, there
    if not torch.cuda.is_available():
        return (process,)
    free, total = torch.cuda.mem_get_info()
    # what CUDA itself takes is in no count of torch's; beside other processes it is too much, never too little
    device = torch.cuda.max_memory_reserved() + total - free - torch.cuda.memory_reserved(), total
    return device, process
