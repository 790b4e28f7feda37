"""Trainings as tasks of Ray, as many at once as the search had trials."""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cifar.errors import UserError, first_line
from cifar.sources import TrainingData
from tune.capacity import Capacity
from tune.cluster import Share
from tune.errors import StorageError, is_out_of_memory
from tune.experiment import ExperimentDir
from tune.images import SharedImages
from tune.naming import shortened
from tune.spec import Experiment
from tune.storage_trouble import is_storage_trouble
from tune.tracker import note_ended
from tune.tracking import Tracking
from tune.trainings import Job, Result

_POLL_S = 0.5


def run_jobs(
    jobs: Iterable[Job],
    experiment: Experiment,
    images: SharedImages,
    directory: ExperimentDir,
    tracking: Tracking,
    share: Share,
    done: Callable[[Job, Result], None],
) -> None:
    """Trains all; `done` hears of each as it ends: its result, or of one that raised {"failed": …, "traceback": …}.

    What loses its process or node begins again, `search.max_retries` times at most; what runs out of memory beside
    others has a GPU to itself. Raises the UserError that one raised, and StorageError if the storage is at fault; the
    others are given up then.
    """
    # a process that had a GPU ends with its training, so that nothing of it stays in the GPU's memory
    options = {"num_gpus": share.gpus, "max_calls": 1} if share.gpus else {"num_gpus": 0}
    task: Any = ray.remote(**options)(last_mile_training)
    slots = Capacity(experiment.resources, share)
    waiting = [(job, share.gpus) for job in jobs]
    running: dict[Any, tuple[Job, float]] = {}

    def room(gpus: float) -> bool:
        taken = sum(each / share.gpus if share.gpus else 1 for _, each in running.values())
        return not running or taken + (gpus / share.gpus if share.gpus else 1) <= slots() + 1e-9

    def start(job: Job, gpus: float) -> None:
        title, retries = shortened(experiment.name, f" {job.title}"), experiment.search.max_retries
        taken = task.options(name=title, num_cpus=share.cpus, num_gpus=gpus, max_retries=retries)
        began = taken.remote(job, experiment, images, directory, tracking, max(1, int(share.cpus)))
        running[began] = (job, gpus)

    try:
        while waiting or running:
            while waiting and room(waiting[0][1]):
                start(*waiting.pop(0))
            slots.ask(lambda: len(waiting))
            for ready in ray.wait(list(running), timeout=_POLL_S)[0]:
                job, gpus = running.pop(ready)
                try:
                    result = ray.get(ready)
                except RayTaskError as error:
                    if is_out_of_memory(error.cause) and gpus < ceil(gpus):
                        waiting.insert(0, (job, ceil(gpus)))
                        continue
                    result = _failed(error, directory)
                except RayError as error:
                    result = {"failed": f"its process died ({first_line(error)})", "traceback": ""}
                note_ended(job, result, experiment, directory.trials, tracking)
                done(job, result)
    finally:
        slots.close()
        for left in running:
            ray.cancel(left, force=True)


def _failed(error: RayTaskError, directory: ExperimentDir) -> Result:
    """What is noted of a training that raised; or raises what ends the others too."""
    cause = error.cause
    if isinstance(cause, UserError):
        raise cause from None
    if is_storage_trouble(cause):
        raise StorageError(f"{directory.place.uri} can no longer be written: {first_line(cause)}") from None
    return {"failed": f"{type(cause).__name__}: {first_line(cause)}", "traceback": str(error)}


def last_mile_training(
    job: Job, experiment: Experiment, data: TrainingData, directory: ExperimentDir, tracking: Tracking, threads: int
) -> Result:
    """One of them, under the name by which Ray shows it."""
    import torch

    torch.set_num_threads(threads)
    return job.train(experiment, data, directory, tracking)
