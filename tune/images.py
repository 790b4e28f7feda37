"""The images of an experiment: read once by the driver, shared by all trials of a node through Ray's object store."""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeAlias

from cifar import sources
from cifar.config import DataConfig
from cifar.sources import TrainingData

if TYPE_CHECKING:
    import ray

SharedImages: TypeAlias = "ray.ObjectRef[TrainingData]"


def load(config: DataConfig) -> TrainingData:
    """The training images, split; the test images are made ready. Raises DataError.

    In a process of its own where torchvision reads them: it brings torch, which the driver does without.
    """
    if config.source in {"digits", "image_folder"}:
        return _load(config)
    quiet = (signal.SIGINT, signal.SIG_IGN)  # the driver hears Ctrl-C too, and tells it better
    with ProcessPoolExecutor(1, get_context("spawn"), signal.signal, quiet) as pool:
        return pool.submit(_load, config).result()


def _load(config: DataConfig) -> TrainingData:
    data = sources.divided(sources.load_training(config), config)
    sources.prepare_test(config, data)
    return data


def share(data: TrainingData) -> SharedImages:
    """Puts them into Ray's object store, whence each node gets one copy when its first trial asks for it."""
    import ray

    return ray.put(data)
