"""What a training takes of its device: time a step, and memory."""

import os
import resource
import time
from contextlib import suppress
from typing import Any

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from cifar import train
from cifar.datamodule import ImageDataModule
from cifar.errors import DivergedError
from cifar.hparams import HParams
from cifar.networks import build
from cifar.sources import TrainingData
from tune.spec import Experiment

_MEASURED_S = 3.0


def cost(hparams: HParams, images: TrainingData) -> int:
    """Floating-point operations of a step's forward pass."""
    afresh = hparams.model_copy(update={"pretrained": False})
    network = build(afresh, len(images.classes), images.channels, images.image_size).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, images.channels, images.image_size, images.image_size))
    return int(counter.get_total_flops()) * hparams.batch_size


def pace(
    hparams: HParams, experiment: Experiment, images: TrainingData, start: float, threads: int
) -> tuple[float, int, int]:
    """Trains from now on with so many threads, and times its steps for some seconds from `start`, by the wall clock.

    Returns the seconds of a step, and in bytes the most that this process took of its device, and what that has.
    """
    torch.set_num_threads(threads)
    slow = hparams.model_copy(update={"learning_rate": 1e-6, "pretrained": False})  # none diverges that fast
    data = ImageDataModule(experiment.data, images, slow.batch_size)
    config = experiment.trainer.model_copy(update={"fast_dev_run": False, "early_stopping": None})
    watch = _Stopwatch(start)
    with suppress(DivergedError):
        model = train.fit(slow, data, config, max_epochs=100_000, seed=0, callbacks=[watch])
        train.validate(model, data, config)
    return watch.step_seconds, *_memory()


class _Stopwatch(L.Callback):
    """Ends a training when enough of its steps were timed."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._first, self._steps = 0.0, 0
        self.step_seconds = float("inf")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if time.time() < self._start or trainer.should_stop:
            return
        if not self._first:
            self._first = _now()
            return
        self._steps += 1
        if time.time() > self._start + _MEASURED_S:
            self.step_seconds = (_now() - self._first) / self._steps
            trainer.should_stop = True


def _now() -> float:
    """When all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time()


def _memory() -> tuple[int, int]:
    if not torch.cuda.is_available():
        everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, everything
    free, total = torch.cuda.mem_get_info()
    # what CUDA itself takes is in no count of torch's; beside other processes it is too much, never too little
    return torch.cuda.max_memory_reserved() + total - free - torch.cuda.memory_reserved(), total
