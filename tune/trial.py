"""A trial: one training of one HParams in an actor, reporting each epoch to Ray Tune."""

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.train._internal.session import get_session

from cifar.config import METRICS, DataConfig, TrainerConfig
from cifar.hparams import HParams
from cifar.sources import TrainingData, load_training
from tune.tracking import Tracking, loggers
from tune.trials import CHECKPOINT_FILE

CLOSING_S = 60  # for a stopped training to close its files


@dataclass(frozen=True)
class TrialTask:
    """What all trials of an experiment share."""

    data: DataConfig
    trainer: TrainerConfig
    max_epochs: int
    seed: int
    cpus: float
    directory: str  # of all trials; each has a folder in it
    tracking: Tracking


@lru_cache(maxsize=1)
def training_data(config: DataConfig) -> TrainingData:
    """The training images, read once a process."""
    return load_training(config)


def train_trial(config: dict[str, Any], task: TrialTask) -> None:
    """Ray Tune's trainable. config: {"number": the trial's number in the study, "hparams": the fields of HParams}."""
    import torch
    from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

    from cifar.datamodule import ImageDataModule
    from cifar.train import fit

    torch.set_num_threads(max(1, int(task.cpus)))
    hparams = HParams(**config["hparams"])
    name = trial_name(config["number"])
    data = ImageDataModule(task.data, training_data(task.data), hparams.batch_size)
    report = TuneReportCheckpointCallback(list(METRICS), filename=CHECKPOINT_FILE, on="train_epoch_end")
    checkpoint = ray_tune.get_checkpoint()
    with (
        loggers(task.tracking, name, Path(task.directory) / name, hparams) as made,
        checkpoint.as_directory() if checkpoint else nullcontext() as folder,
    ):
        fit(
            hparams,
            data,
            task.trainer,
            max_epochs=task.max_epochs,
            seed=task.seed,
            loggers=made,
            callbacks=[report],
            resume_from=Path(folder) / CHECKPOINT_FILE if folder else None,
        )


class ClosesItsFiles:
    """Lets a stopped training close its loggers before its actor goes: Ray itself does not wait for the thread."""

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
