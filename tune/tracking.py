"""Where a training's curves go: to TensorBoard's files always, to W&B if asked for."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from tune.experiment import write_text
from tune.sections import TrackingConfig
from tune.wandb_runs import Begin, JobType

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


class Sink(Protocol):
    """What takes messages for W&B, at once and without errors."""

    def put(self, message: Any) -> None: ...


@dataclass(frozen=True)
class Tracking:
    """Where W&B's runs of an experiment go; mode None: nowhere. token: of the experiment, in the ids of its runs.

    sink: the process that writes them, once it is there.
    """

    group: str
    project: str
    mode: str | None
    directory: str
    token: str = ""
    sink: Sink | None = None

    def tell(self, message: Any) -> None:
        """Hands a message of tune.wandb_runs on, if anybody wants it."""
        if self.sink is not None:
            self.sink.put(message)


def resolve(config: TrackingConfig, group: str, directory: Path) -> tuple[Tracking, str]:
    """The tracking of an experiment, and a line for the user where it is not what was asked for."""
    asked = config.wandb or os.environ.get("WANDB_MODE", "off")
    mode = asked if asked in {"online", "offline"} else None
    try:
        return Tracking(group, config.project, mode, str(directory), _token(directory) if mode else ""), ""
    except OSError as error:
        note = f"W&B: {directory} cannot be written ({error.strerror}), so nothing is logged to W&B"
        return Tracking(group, config.project, None, str(directory)), note


def _token(directory: Path) -> str:
    """Drawn once an experiment, so that a trial that goes on later goes on in the same run."""
    file = directory / "token"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_text(file, uuid4().hex[:12])
    return file.read_text(encoding="utf-8")


def run_of(name: str, job_type: JobType, hparams: Mapping[str, Any], trial: int, seed: int) -> Begin:
    """What is known of a training when it begins. trial: whose HParams they are."""
    return Begin(name, job_type, {**hparams, "trial": trial, "seed": seed})


@contextmanager
def loggers(tracking: Tracking | None, run: Begin, folder: Path) -> Iterator[list["Logger"]]:
    """The loggers of a training, with its HParams logged; closed at the end, however that comes.

    tracking: None in a process whose training another one logs.
    """
    if tracking is None:
        yield []
        return
    from lightning.pytorch.loggers import TensorBoardLogger

    curves = TensorBoardLogger(str(folder), name="", version="")
    curves.hparams.update(run.config)  # as a file; the HParams tab is the driver's
    made: list[Logger] = [curves]
    if tracking.sink is not None:
        from tune.wandb_logger import HandsOn

        tracking.tell(run)
        made.append(HandsOn(tracking, run.name))
    try:
        yield made
    finally:
        for logger in made:
            logger.finalize("success")
