"""The model on the cluster: an actor trains, evaluates and exports, while the driver shows how far it is."""

from collections.abc import Callable
from typing import Any

import ray

from cifar.errors import UserError
from cifar.sources import TrainingData
from tune.errors import RetrainFailedError
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.last_mile import Winner
from tune.naming import shortened
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.winner import Made

_POLL_S = 0.5


class _Retrain:
    """Makes the model; `line` says how far it is."""

    def __init__(self) -> None:
        self._line = "preparing"

    def line(self) -> str:
        return self._line

    def run(
        self,
        experiment: Experiment,
        data: TrainingData,
        winner: Winner,
        directory: ExperimentDir,
        tracking: Tracking,
        readings: int,
        cpus: int,
        train: bool,
    ) -> Made:
        import torch

        from tune.winner import finish_model, train_model

        torch.set_num_threads(cpus)

        def say(line: str) -> None:
            self._line = line

        if train:
            train_model(experiment, data, winner, directory, tracking, say)
        return finish_model(experiment, data, winner, directory, tracking, readings, say)


def make_model(
    experiment: Experiment,
    images: SharedImages,
    winner: Winner,
    directory: ExperimentDir,
    tracking: Tracking,
    readings: int,
    cpus: float,
    gpus: float,
    say: Callable[[str], None],
    *,
    train: bool,
) -> Made:
    """`tune.winner.train_model`, if it is to `train`, and `finish_model`; `say` hears each step.

    images: what `tune.images.share` gave. Both in an actor with `cpus` and `gpus`, but where `retrain.devices` says
    so, several processes with as much each train together.

    A lost process or node is replaced, and the training begins again, `search.max_retries` times at most. Raises the
    UserError that it raised, RetrainFailedError for anything else.
    """
    if train and experiment.retrain.devices > 1:
        from tune.parallel import train_together

        say(f"training in {experiment.retrain.devices} processes")
        train_together(experiment, images, winner, directory, tracking, cpus, gpus, say)
        train = False
    retrain: Any = ray.remote(_Retrain)
    retries = experiment.search.max_retries
    title = shortened(experiment.name, f" model, of trial {winner.trial.number}")
    actor = retrain.options(
        name=title, num_cpus=cpus, num_gpus=gpus, max_concurrency=2, max_restarts=retries, max_task_retries=retries
    ).remote()
    made = actor.run.options(name=title).remote(
        experiment, images, winner, directory, tracking, readings, max(1, int(cpus)), train
    )
    said = ""
    try:
        while not ray.wait([made], timeout=_POLL_S)[0]:
            line = ray.get(actor.line.remote())
            if line != said:
                said = line
                say(line)
        result: Made = ray.get(made)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise RetrainFailedError(f"{type(error.cause).__name__}: {error.cause}", str(error)) from None
    except ray.exceptions.RayActorError as error:
        raise RetrainFailedError(f"its process died ({str(error).splitlines()[0]})") from None
    return result
