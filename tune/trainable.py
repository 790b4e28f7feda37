"""The trainable: one trial's training in an actor, reporting each epoch to Ray Tune."""

import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.train._internal.session import get_session

from cifar.config import DataConfig, TrainerConfig
from cifar.errors import CheckpointError, DivergedError
from cifar.hparams import HParams
from cifar.sources import TrainingData
from tune.images import SharedImages
from tune.naming import TITLE
from tune.storage import Storage
from tune.tracking import Tracking, loggers, run_of
from tune.trials import CHECKPOINT_FILE, DIVERGED, EPOCH

CLOSING_S = 60  # for a stopped training to close its files


@dataclass(frozen=True)
class TrialTask:
    """What all trials of an experiment share.

    objectives: names of several. place: the experiment's directory; folder: a local one for curves.
    """

    data: DataConfig
    images: SharedImages
    trainer: TrainerConfig
    max_epochs: int
    seed: int
    objectives: tuple[str, ...]
    cpus: float
    place: Storage
    folder: Path
    tracking: Tracking


@lru_cache(maxsize=1)
def training_data(images: SharedImages) -> TrainingData:
    """The training images, in the memory that all processes of a node share."""
    data: TrainingData = ray.get(images)
    return data


def train_trial(config: dict[str, Any], task: TrialTask) -> None:
    """Ray Tune's trainable.

    config: {"number": the trial's number in the study, "hparams": the fields of HParams, "folder": of its checkpoints,
    "checkpoints": [[epoch, path in the experiment directory], …] to go on from, the first sound one, "changed": whether
    its HParams differ from those of the checkpoints, "alone": whether it has a GPU to itself, "audit": whether it ended
    for the search, so that its curves, which tell of the search, go on no more}.
    """
    import torch

    _settle()
    torch.set_num_threads(max(1, int(task.cpus)))
    try:
        _train(config, task)
    finally:
        gc.collect()  # trainers and models refer to each other, and the next trial's would come on top of them
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


@cache
def _settle() -> None:
    """Once a process: what imports made stays, so that no later collection looks through it."""
    import tune.reporting  # noqa: F401

    gc.collect()
    gc.freeze()


def _train(config: dict[str, Any], task: TrialTask) -> None:
    from cifar.costs import costs
    from cifar.datamodule import ImageDataModule
    from cifar.train import fit
    from tune.reporting import ReportEpochs

    hparams = HParams(**config["hparams"])
    name = trial_name(config["number"])
    data = ImageDataModule(task.data, training_data(task.images), hparams.batch_size)
    measured = costs(hparams, data, task.trainer, task.objectives)
    run = run_of(name, "trial", config["hparams"], config["number"], task.seed)
    with loggers(None if config["audit"] else task.tracking, run, task.folder / name) as made:
        for checkpoint in _candidates(config["checkpoints"], task.place):
            try:
                fit(
                    hparams,
                    data,
                    task.trainer,
                    max_epochs=task.max_epochs,
                    seed=task.seed,
                    loggers=made,
                    callbacks=[ReportEpochs(measured)],
                    resume_from=checkpoint,
                    changed=config["changed"] and checkpoint is not None,
                )
                break
            except CheckpointError:
                continue
            except DivergedError as error:
                ray_tune.report({EPOCH: error.epoch, DIVERGED: str(error)})
                break


def _candidates(checkpoints: list[tuple[int, str]], place: Storage) -> Iterator[Path | None]:
    """What a training may go on from: each checkpoint, then nothing."""
    for _, path in checkpoints:
        with place.opened(f"{path}/{CHECKPOINT_FILE}") as file:
            yield file
    yield None


class ClosesItsFiles:
    """Lets a stopped training close its loggers before its actor goes: Ray itself does not wait for the thread."""

    _name: str

    def setup(self, config: dict[str, Any]) -> None:
        """Ray Tune's hook at the beginning of an actor, after which Ray asks it once what it is."""
        super().setup(config)  # type: ignore[misc]
        self._name = f"begun for {config[TITLE]}" if TITLE in config else self._name

    def cleanup(self) -> None:
        """Ray Tune's hook at the end of an actor."""
        session = get_session()
        if session is not None:
            with suppress(Exception):  # what the training raised, Ray's own cleanup raises again
                session.finish(timeout=CLOSING_S)
        super().cleanup()  # type: ignore[misc]


train_trial.__mixins__ = (ClosesItsFiles,)  # type: ignore[attr-defined]


def trial_name(number: int) -> str:
    """The folder of a trial."""
    return f"{number:05d}"
