"""One training in several processes, each on its share of every batch: Ray Train runs Lightning's DDP.

The batch size and the learning rate stay what they were: a process gets batch_size / devices images of each batch.
"""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from math import ceil
from typing import Any

import ray

from cifar.errors import UserError
from tune.errors import RetrainFailedError
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.last_mile import Winner
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.trials import TRIALS

_POLL_S = 0.5
_LEAST = 2  # images of a batch in each process, since batch norm cannot use one


def train_together(
    experiment: Experiment,
    images: SharedImages,
    winner: Winner,
    directory: ExperimentDir,
    tracking: Tracking,
    cpus: float,
    gpus: float,
) -> None:
    """`tune.winner.train_model` in `retrain.devices` processes, each with `cpus`, and a GPU of its own if `gpus`.

    What loses a process begins again, `search.max_retries` times at most. Raises UserError where a batch is too small
    to be shared out, or as one of the processes did; RetrainFailedError for anything else.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    devices, batch = experiment.retrain.devices, winner.trial.hparams["batch_size"]
    if batch < _LEAST * devices:
        raise UserError(
            f"retrain.devices: got {devices}, and a batch of trial {winner.trial.number} has {batch} images, less than "
            f"{_LEAST} for each; lower it to {max(1, batch // _LEAST)} at most"
        )
    place = directory.place
    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "experiment": experiment,
            "images": images,
            "winner": winner,
            "directory": directory,
            "tracking": tracking,
            "threads": max(1, int(cpus)),
        },
        scaling_config=ScalingConfig(
            num_workers=devices,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": cpus, **({"GPU": ceil(gpus)} if gpus else {})},
        ),
        run_config=RunConfig(
            name=f"{TRIALS}/together",
            storage_path=str(directory.path) if place.local else place.root,
            storage_filesystem=None if place.local else place.filesystem,
            failure_config=FailureConfig(max_failures=experiment.search.max_retries),
        ),
    )
    pool = ThreadPoolExecutor(1)  # in the main thread it would take Ctrl-C for itself
    try:
        fitted = pool.submit(trainer.fit)
        while not wait_for([fitted], timeout=_POLL_S).done:
            continue
        fitted.result()
    except TrainingFailedError as error:
        causes = list(getattr(error, "worker_failures", {}).values()) or [error]
        cause = getattr(causes[0], "cause", causes[0])
        if isinstance(cause, UserError):
            raise cause from None
        first = (str(cause).strip().splitlines() or [""])[0]
        raise RetrainFailedError(f"{type(cause).__name__}: {first}", str(error)) from None
    finally:
        pool.shutdown(wait=False)


def _train(config: dict[str, Any]) -> None:
    """In each process."""
    import torch
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from cifar.train import Parallel
    from tune.winner import train_model

    torch.set_num_threads(config["threads"])
    first = get_context().get_world_rank() == 0
    parallel = Parallel(RayDDPStrategy, RayLightningEnvironment, first)
    tracking = config["tracking"] if first else None
    data = ray.get(config["images"])
    train_model(
        config["experiment"], data, config["winner"], config["directory"], tracking, lambda line: None, parallel
    )
