"""The search: Ray Tune runs the trials that the conductor chooses, and tells it what becomes of them."""

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray import tune as ray_tune
from ray.exceptions import RayActorError
from ray.tune import PlacementGroupFactory, registry
from ray.tune.experiment import Trial as RayTrial

from cifar.errors import UserError
from tune.capacity import Capacity
from tune.cluster import Share
from tune.conductor import Conductor
from tune.errors import InterruptedSearchError, StorageError, is_out_of_memory
from tune.experiment import ExperimentDir, command_line
from tune.images import SharedImages
from tune.interrupts import graceful
from tune.metrics import Metrics
from tune.progress import Progress
from tune.scheduler import ConductedScheduler
from tune.searcher import ConductedSearcher
from tune.spec import Experiment
from tune.storage import probe
from tune.storage_trouble import is_storage_trouble
from tune.study import StudyRecord
from tune.tracker import Tracker
from tune.tracking import Tracking
from tune.trainable import TrialTask, train_trial
from tune.trials import Trial

_PUBLISHED_EVERY_S = 5.0
_UPLOADS = 0.02  # of the driver's time at most
_ENDLESS = 10**9  # the conductor says when it is enough


class Ending(ray_tune.Stopper):
    """Ends the search when the conductor says so."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor = conductor

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; ours goes on from the study."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop one trial: never; that is the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return bool(self.conductor.over)


class Recorder(ray_tune.Callback):
    """Tells the conductor what becomes of trials, and ends the processes of those that hang. metrics: are published."""

    def __init__(
        self, conductor: Conductor, directory: ExperimentDir, metrics: Metrics, slots: Capacity, *, shares_gpu: bool
    ) -> None:
        self.conductor, self.directory, self.shares_gpu = conductor, directory, shares_gpu
        self.metrics, self.slots = metrics, slots
        self._publish_at = time.monotonic() + _PUBLISHED_EVERY_S
        self._not_before = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; ours goes on from the study."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        """Every tenth of a second or so."""
        self.metrics.publish()
        self.slots.ask(self.conductor.wants)
        if time.monotonic() >= self._publish_at:
            self.publish()
        for number in self.conductor.overdue():
            for trial in trials:
                if trial.config.get("number") == number and trial.temporary_state.ray_actor:
                    ray.kill(trial.temporary_state.ray_actor)

    def publish(self) -> None:
        """Uploads the study, where the experiment directory is on an object store.

        Every few seconds, and when a trial has ended; a large one less often.
        """
        began = time.monotonic()
        try:
            self.directory.publish(self.directory.journal)
        except OSError as error:
            self.conductor.trouble = self.conductor.trouble or error
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _UPLOADS
        self._publish_at = max(ended + _PUBLISHED_EVERY_S, self._not_before)

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial got a slot."""
        self.conductor.started(trial.config["number"])

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has trained an epoch, which the conductor was told before."""
        self.metrics.reported(trial.config["number"], result)

    def on_checkpoint(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, checkpoint: Any, **info: Any
    ) -> None:
        """The checkpoint of a trial's last report is in the storage, whole."""
        path = Path(checkpoint.path)
        root = Path(self.directory.place.root) if self.directory.place.local is None else self.directory.path
        self.conductor.checkpointed(trial.config["number"], path.relative_to(root).as_posix())

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial ended, by itself or stopped."""
        self.conductor.ended(trial.config["number"])
        self._publish_at = min(self._publish_at, max(time.monotonic(), self._not_before))

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial raised, or its process is gone."""
        number, cause = trial.config["number"], _cause(trial)
        trace = Path(trial.error_file).read_text() if trial.error_file else ""
        first_line = (str(cause).strip().splitlines() or [""])[0]
        if lost := _lost(cause, trace):
            self.conductor.lost(number, lost, counts=not getattr(cause, "preempted", False))
        elif self.shares_gpu and is_out_of_memory(cause) and not self.conductor.in_slot(number).alone:
            self.conductor.crowded_out(number)
        elif cause and (is_storage_trouble(cause) or (isinstance(cause, OSError) and self.unwritable())):
            self.conductor.trouble = self.conductor.trouble or OSError(first_line)
        else:
            reason = f"{type(cause).__name__}: {first_line}" if cause else (trace.strip().splitlines() or [""])[-1]
            self.conductor.failed(number, reason, trace, users_mistake=isinstance(cause, UserError))

    def unwritable(self) -> bool:
        """Whether the storage is at fault, which Ray's own errors do not always say."""
        try:
            probe(self.directory.place)
        except StorageError:
            return True
        return False


def search(
    experiment: Experiment,
    images: SharedImages,
    directory: ExperimentDir,
    record: StudyRecord,
    share: Share,
    tracking: Tracking,
    progress: Progress,
    trainable: Callable[..., None] = train_trial,
) -> tuple[list[Trial], str]:
    """Runs every trial that is left. Returns what became of all, and the first failure's traceback.

    images: what `tune.images.share` gave. trainable: what trains a trial.

    Raises InterruptedSearchError after Ctrl-C or SIGTERM, StorageError if the directory could no longer be written;
    the search can be resumed after both.
    """

    def resized(slots: int) -> None:
        progress.standing.slots = slots
        try:
            record.resized(slots, conductor.limits.elapsed)
        except OSError as error:
            conductor.trouble = conductor.trouble or error

    slots = Capacity(experiment.resources, share, progress.say, resized)
    tracker = Tracker(experiment, directory.trials, tracking, progress.say)

    def told(trial: Trial) -> None:
        progress.update(trial)
        tracker.update(trial)

    alone = int(math.ceil(share.gpus) / share.gpus + 1e-9) if share.gpus else 1
    audited = progress.standing.update
    conductor = Conductor(experiment, record, directory.place, slots, told, progress.say, audited, alone)
    progress.recall(conductor.trials.values(), conductor.limits)
    for trial in conductor.trials.values():
        tracker.update(trial, recalled=True)
    metrics = Metrics(progress.standing, slots)
    recorder = Recorder(conductor, directory, metrics, slots, shares_gpu=0 < share.gpus < 1)
    try:
        with graceful(conductor.interrupt, progress.say) as stopped:
            if not conductor.has_work:
                limit = f": {conductor.over}; to go on, raise that too" if conductor.over else ""
                progress.say(f"nothing is left to train{limit}")
            else:
                tuner = _tuner(experiment, images, directory, share, tracking, recorder, trainable)
                with _asked_once():
                    tuner.fit()
    except Exception as error:  # where the storage is full or gone Ray trips over its files; that is told below
        conductor.interrupt()  # so that nothing is taken for ended
        if conductor.trouble is None and not recorder.unwritable():
            raise
        conductor.trouble = conductor.trouble or error
    finally:
        conductor.close()
        slots.close()
        tracker.close()
        recorder.publish()
        metrics.publish(last=True)
    if conductor.trouble:
        reason = (str(conductor.trouble).strip().splitlines() or ["for no reason given"])[0]
        goes_on = f"when it can be, go on with `{command_line(resume=True)}`"
        raise StorageError(f"{directory.place.uri} can no longer be written: {reason}; {goes_on}")
    if stopped.signal:
        raise InterruptedSearchError(stopped.signal)
    return sorted(conductor.trials.values(), key=lambda trial: trial.number), conductor.first_traceback


def _skip_wandb() -> None:
    """Ray Tune counts its own W&B callbacks among ours, and would import wandb to do so, for most of a second."""
    if "ray.air.integrations.wandb" not in sys.modules and "wandb" not in sys.modules:
        sys.modules["wandb"] = None  # type: ignore[assignment]
        import ray.air.integrations.wandb  # noqa: F401

        del sys.modules["wandb"]


@contextmanager
def _asked_once() -> Iterator[None]:
    """Ray Tune asks the cluster three times a trial for what trains it, and waits; of one search it is the same."""
    known: Any = registry._global_registry
    known.contains, known.get = cache(known.contains), cache(known.get)
    try:
        yield
    finally:
        del known.contains, known.get


def _tuner(
    experiment: Experiment,
    images: SharedImages,
    directory: ExperimentDir,
    share: Share,
    tracking: Tracking,
    recorder: Recorder,
    trainable: Callable[..., None],
) -> ray_tune.Tuner:
    task = TrialTask(
        data=experiment.data,
        images=images,
        trainer=experiment.trainer,
        max_epochs=experiment.scheduler.max_epochs,
        seed=experiment.search.seed,
        objectives=tuple(each.metric for each in experiment.search.objectives or ()),
        cpus=share.cpus,
        place=directory.place,
        folder=directory.trials,
        tracking=tracking,
    )
    _skip_wandb()
    with_task = ray_tune.with_parameters(trainable, task=task)

    def resources(config: dict[str, Any]) -> PlacementGroupFactory:
        gpus = math.ceil(share.gpus) if config["alone"] else share.gpus
        return PlacementGroupFactory([{"CPU": share.cpus, "GPU": gpus}])

    conductor, place = recorder.conductor, directory.place
    return ray_tune.Tuner(
        ray_tune.with_resources(with_task, resources),
        tune_config=ray_tune.TuneConfig(
            search_alg=ConductedSearcher(conductor),
            scheduler=ConductedScheduler(conductor, lambda: recorder.slots.leaving),
            num_samples=_ENDLESS,
            reuse_actors=True,
            trial_name_creator=_folder,
            trial_dirname_creator=_folder,
        ),
        run_config=ray_tune.RunConfig(
            name=directory.trials.name,
            storage_path=str(directory.path) if place.local else place.root,
            storage_filesystem=None if place.local else place.filesystem,
            stop=Ending(conductor),
            callbacks=[recorder],
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=0),  # the conductor repeats what is worth repeating
            checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=None),  # and deletes what is not needed
        ),
    )


def _cause(trial: RayTrial) -> Exception | None:
    """What a trial raised; None where Ray tells it in words only.

    Ray's own accessor reads the file's later copy in the storage, which is not there yet.
    """
    if not trial.pickled_error_file or not Path(trial.pickled_error_file).exists():
        return None
    try:
        error: Any = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception as broken:  # a class of the user's that only the trial could import
        return RuntimeError(f"an error that cannot be read here ({broken})")
    cause: Exception = getattr(error, "cause", None) or error
    return cause


def _lost(cause: Exception | None, words: str) -> str:
    """How a trial's process was lost, in short; empty if it raised an error, or would be lost so again."""
    if cause is not None and not isinstance(cause, RayActorError):
        return ""
    if re.search("OutOfMemory|low on memory|creation task", words):
        return ""
    if re.search("NodeDied|node (has )?died|node failure|node was (dead|lost|terminated)", words):
        return "its node was lost"
    return "its process was killed" if "ray.kill" in words else "its process died"


def _folder(trial: RayTrial) -> str:
    return str(trial.config["folder"])
