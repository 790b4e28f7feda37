"""One training in several processes, each on its share of every batch: Ray Train runs Lightning's DDP.

The batch size and the learning rate stay what they were: a process gets batch_size / devices images of each batch. On
GPUs batch norm is synchronised; on CPUs, where torch cannot, each process normalises by its own share.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from threading import Thread
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cifar.errors import DivergedError, UserError, first_line
from tune.errors import RetrainFailedError
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.last_mile import Winner
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.trials import TRIALS

_POLL_S = 0.5
_LEAST = 2  # images of a batch in each process, since batch norm cannot use one


class _Line:
    """What the first process says, for the driver to show."""

    def __init__(self) -> None:
        self._line = ""

    def set(self, line: str) -> None:
        self._line = line

    def get(self) -> str:
        return self._line


def train_together(
    experiment: Experiment,
    images: SharedImages,
    winner: Winner,
    directory: ExperimentDir,
    tracking: Tracking,
    cpus: float,
    gpus: float,
    say: Callable[[str], None],
) -> None:
    """`tune.winner.train_model` in `retrain.devices` processes, each with `cpus`, and a GPU of its own if `gpus`.

    What loses a process begins again, `search.max_retries` times at most. Raises UserError where a batch is too small
    to be shared out, or as one of the processes did; RetrainFailedError for anything else.
    """
    devices, batch = experiment.retrain.devices, winner.trial.hparams["batch_size"]
    if batch < _LEAST * devices:
        raise UserError(
            f"retrain.devices: got {devices}, and a batch of trial {winner.trial.number} has {batch} images, less than "
            f"{_LEAST} for each; lower it to {max(1, batch // _LEAST)} at most"
        )
    config = {
        "experiment": experiment,
        "images": images,
        "winner": winner,
        "directory": directory,
        "tracking": tracking,
        "threads": max(1, int(cpus)),
        "line": ray.remote(num_cpus=0)(_Line).remote(),
    }
    lost: Exception | None = None
    # Ray Train's own retries would repeat a training that raises, too
    for _ in range(1 + experiment.search.max_retries):
        lost = _run(config, cpus, gpus, say)
        if lost is None:
            return
    assert lost is not None
    raise RetrainFailedError(f"one of its processes died ({first_line(lost)})")


def _run(config: dict[str, Any], cpus: float, gpus: float, say: Callable[[str], None]) -> Exception | None:
    """Once. Returns how a process was lost, if one was; raises what one of them raised."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    experiment, directory = config["experiment"], config["directory"]
    place = directory.place
    trainer = TorchTrainer(
        _train,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=experiment.retrain.devices,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": cpus, **({"GPU": ceil(gpus)} if gpus else {})},
        ),
        run_config=RunConfig(
            name=f"{TRIALS}/together",
            storage_path=str(directory.path) if place.local else place.root,
            storage_filesystem=None if place.local else place.filesystem,
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    failure: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:
            failure.append(error)

    thread = Thread(target=fit, daemon=True)  # in the main one it would take Ctrl-C for itself
    thread.start()
    said = ""
    while thread.is_alive():
        thread.join(_POLL_S)
        line = ray.get(config["line"].get.remote())
        if line != said:
            said = line
            say(line)
    return _lost(failure[0]) if failure else None


def _lost(failure: Exception) -> Exception | None:
    """The error if it tells of a lost process; else raises what a process raised."""
    errors = list(getattr(failure, "worker_failures", {}).values()) or [failure]
    causes = [getattr(error, "cause", None) or error for error in errors]
    told = [cause for kind in (UserError, DivergedError) for cause in causes if isinstance(cause, kind)]
    if told and isinstance(told[0], UserError):
        raise told[0] from None
    lost = [error for error in errors if isinstance(error, RayError) and not isinstance(error, RayTaskError)]
    if lost and not told:
        return lost[0]
    cause = (told or causes)[0]
    raise RetrainFailedError(f"{type(cause).__name__}: {first_line(cause)}", str(failure)) from None


def _train(config: dict[str, Any]) -> None:
    """In each process."""
    import torch
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from cifar.train import Parallel
    from tune.winner import train_model

    torch.set_num_threads(config["threads"])
    first = get_context().get_world_rank() == 0
    # some of torchvision's networks have outputs that no loss looks at
    strategy = partial(RayDDPStrategy, find_unused_parameters=True)
    train_model(
        config["experiment"],
        ray.get(config["images"]),
        config["winner"],
        config["directory"],
        config["tracking"] if first else None,
        config["line"].set.remote if first else (lambda line: None),
        Parallel(strategy, RayLightningEnvironment, first),
    )
