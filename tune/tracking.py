"""Loggers of one training: TensorBoard files always, W&B if asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cifar.hparams import HParams
from tune.sections import TrackingConfig

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Tracking:
    """Where W&B's runs of an experiment go; mode None: nowhere. token: of the experiment, in the ids of its runs."""

    group: str
    project: str
    mode: str | None
    directory: str
    token: str = ""


def resolve(config: TrackingConfig, group: str, directory: Path) -> tuple[Tracking, str]:
    """The tracking of an experiment, and a line for the user where it is not what was asked for."""
    asked = config.wandb or os.environ.get("WANDB_MODE", "off")
    mode = asked if asked in {"online", "offline"} else None
    note = ""
    if mode == "online":
        import wandb

        if not wandb.api.api_key:
            mode, note = (
                "offline",
                f"W&B: no API key, so runs are kept in {directory}; `wandb sync` uploads them",
            )
    return Tracking(group, config.project, mode, str(directory), _token(directory) if mode else ""), note


def _token(directory: Path) -> str:
    """Drawn once an experiment, so that a trial that goes on later goes on in the same run."""
    file = directory / "token"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid4().hex[:12], encoding="utf-8")
    return file.read_text(encoding="utf-8")


@contextmanager
def loggers(tracking: Tracking | None, name: str, folder: Path, hparams: HParams) -> Iterator[list["Logger"]]:
    """The loggers of the training `name`, with its HParams logged; closed at the end, however that comes.

    tracking: None in a process whose training another one logs.
    """
    if tracking is None:
        yield []
        return
    from lightning.pytorch.loggers import TensorBoardLogger

    made: list[Logger] = [TensorBoardLogger(str(folder), name="", version="")]
    if tracking.mode is not None:
        made.append(_wandb(tracking, name))
    try:
        for logger in made:
            logger.log_hyperparams(hparams.model_dump())
        yield made
    finally:
        for logger in made:
            logger.finalize("success")
        if tracking.mode is not None:
            import wandb

            wandb.finish()


def _wandb(tracking: Tracking, name: str) -> Any:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    Path(tracking.directory).mkdir(parents=True, exist_ok=True)
    online = tracking.mode != "offline"
    run = wandb.init(
        id=f"{tracking.token}-{name}",
        resume="allow" if online else None,  # offline, the runs of one id become one when they are uploaded
        project=tracking.project,
        group=tracking.group,
        name=f"{tracking.group}/{name}",
        job_type="final" if name == "final" else "trial",
        dir=tracking.directory,
        mode="online" if online else "offline",
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbLogger(experiment=run)
