"""Trainings as tasks of Ray, as many at once as the search had trials."""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cifar.errors import UserError
from cifar.sources import TrainingData
from tune.cluster import Share, slots_now
from tune.errors import RetrainFailedError
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.trainings import Repeat, Result, Tail

_POLL_S = 0.5
Job = Repeat | Tail


def run_jobs(
    jobs: Iterable[Job],
    experiment: Experiment,
    images: SharedImages,
    directory: ExperimentDir,
    tracking: Tracking,
    share: Share,
    done: Callable[[Job, Result], None],
) -> None:
    """Trains all; `done` hears of each as it ends.

    What loses its process or node begins again, `search.max_retries` times at most; what runs out of memory beside
    others has a GPU to itself. Raises the UserError that one raised, RetrainFailedError for anything else; the others
    are given up then.
    """
    task: Any = ray.remote(last_mile_training)
    slots = slots_now(experiment.resources, share)
    waiting, running = list(jobs), dict[Any, tuple[Job, float]]()

    def start(job: Job, gpus: float) -> None:
        options = {"num_cpus": share.cpus, "num_gpus": gpus, "max_retries": experiment.search.max_retries}
        began = task.options(**options).remote(job, experiment, images, directory, tracking, max(1, int(share.cpus)))
        running[began] = (job, gpus)

    try:
        while waiting or running:
            while waiting and len(running) < slots():
                start(waiting.pop(0), share.gpus)
            for ready in ray.wait(list(running), timeout=_POLL_S)[0]:
                job, gpus = running.pop(ready)
                try:
                    done(job, ray.get(ready))
                except RayTaskError as error:
                    if not (_no_memory(error) and gpus < ceil(gpus)):
                        raise _told(error) from None
                    start(job, ceil(gpus))
                except RayError as error:
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise RetrainFailedError(f"its process died ({reason})") from None
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _no_memory(error: RayTaskError) -> bool:
    return type(error.cause).__name__ == "OutOfMemoryError"


def _told(error: RayTaskError) -> Exception:
    if isinstance(error.cause, UserError):
        return error.cause
    return RetrainFailedError(f"{type(error.cause).__name__}: {error.cause}", str(error))


def last_mile_training(
    job: Job, experiment: Experiment, data: TrainingData, directory: ExperimentDir, tracking: Tracking, threads: int
) -> Result:
    """One of them, under the name by which Ray shows it."""
    import torch

    torch.set_num_threads(threads)
    return job.train(experiment, data, directory, tracking)
