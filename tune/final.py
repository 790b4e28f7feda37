"""The retrain on the cluster: one actor retrains, evaluates and exports, while the driver shows how far it is."""

from collections.abc import Callable
from typing import Any

import ray

from cifar.errors import UserError
from cifar.sources import TrainingData
from tune.errors import RetrainFailedError
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.trials import Trial
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
        winner: Trial,
        directory: ExperimentDir,
        tracking: Tracking,
        readings: int,
        cpus: int,
    ) -> Made:
        import torch

        from tune.winner import make_model

        torch.set_num_threads(cpus)

        def say(line: str) -> None:
            self._line = line

        return make_model(experiment, data, winner, directory, tracking, readings, say)


def make_model_on_cluster(
    experiment: Experiment,
    images: SharedImages,
    winner: Trial,
    directory: ExperimentDir,
    tracking: Tracking,
    readings: int,
    cpus: float,
    gpus: float,
    say: Callable[[str], None],
) -> Made:
    """`tune.winner.make_model` in an actor with `cpus` and `gpus`; `say` hears each step of it.

    images: what `tune.images.share` gave.

    A lost process or node is replaced, and the retrain begins again, `search.max_retries` times at most. Raises the
    UserError that it raised, RetrainFailedError for anything else.
    """
    retrain: Any = ray.remote(_Retrain)
    retries = experiment.search.max_retries
    actor = retrain.options(
        num_cpus=cpus, num_gpus=gpus, max_concurrency=2, max_restarts=retries, max_task_retries=retries
    ).remote()
    made = actor.run.remote(experiment, images, winner, directory, tracking, readings, max(1, int(cpus)))
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
