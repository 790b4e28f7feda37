"""The search: Ray Tune runs the trials, the study records them, and a summary of each comes back."""

import time
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray import tune as ray_tune
from ray.tune.experiment import Trial as RayTrial

from cifar.errors import UserError
from tune.cluster import Share
from tune.experiment import ExperimentDir
from tune.progress import Progress
from tune.scheduler import RungScheduler
from tune.searcher import StudyLog, StudySearcher
from tune.spec import Experiment
from tune.tracking import Tracking
from tune.trial import TrialTask, train_trial, trial_name
from tune.trials import Trial

MAX_FAILURES_IN_A_ROW = 3


class Limits(ray_tune.Stopper):
    """Ends a search whose time is up, or that someone else gave a `reason` to end."""

    def __init__(self, time_budget_s: float | None) -> None:
        self.deadline = time.monotonic() + time_budget_s if time_budget_s else None
        self.budget = time_budget_s
        self.reason = ""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop one trial: never; that is the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        if not self.reason and self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = f"the search's {self.budget:g} s were up (search.time_budget_s)"
        return bool(self.reason)


class Recorder(ray_tune.Callback):
    """Hears everything that happens to trials, and tells the study, the display and `trials`."""

    def __init__(
        self,
        experiment: Experiment,
        log: StudyLog,
        scheduler: RungScheduler,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self.metric = experiment.search.metric
        self.log, self.scheduler, self.limits, self.progress = log, scheduler, limits, progress
        self.trials: dict[int, Trial] = {}
        self.first_traceback = ""

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; this one is not restored."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial got a slot."""
        self.progress.update(self._mine(trial))

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial finished an epoch. Called for the last one before a stop too, unlike the searcher's own hook."""
        mine = self._mine(trial)
        epoch, value = result["training_iteration"], result[self.metric]
        mine.values[epoch] = value
        mine.seconds = result["time_total_s"]
        self.log.report(mine.number, epoch, value)
        self.progress.update(mine)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial ended, by itself or stopped."""
        mine = self._mine(trial)
        if verdict := self.scheduler.verdicts.get(trial.trial_id):
            diverged, mine.reason = verdict
            mine.state = "diverged" if diverged else "stopped"
        else:
            mine.state = "completed"
        self._ended(mine)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial raised."""
        mine = self._mine(trial)
        cause = _cause(trial)
        first_line = (str(cause).strip().splitlines() or [""])[0]
        mine.state, mine.reason = "failed", f"{type(cause).__name__}: {first_line}"
        mine.users_mistake = isinstance(cause, UserError)
        if trial.error_file and not self.first_traceback:
            self.first_traceback = Path(trial.error_file).read_text()
        if self._hopeless():
            self.limits.reason = f"the first {MAX_FAILURES_IN_A_ROW} trials failed"
        self._ended(mine)

    def _hopeless(self) -> bool:
        """Whether the first trials all failed, and none that runs has got further than they did."""
        failed = [trial for trial in self.trials.values() if trial.state == "failed"]
        furthest = max(trial.epochs for trial in failed)
        others = [trial for trial in self.trials.values() if trial.state != "failed"]
        hopeful = [trial for trial in others if trial.state != "running" or trial.epochs > furthest]
        return len(failed) >= MAX_FAILURES_IN_A_ROW and not hopeful

    def close(self) -> None:
        """Ends what the end of the search cut off: Tune stops such trials without a word."""
        for number in self.log.unfinished():
            if mine := self.trials.get(number):
                mine.state, mine.reason = "stopped", self.limits.reason or "the search was interrupted"
                self._ended(mine)
            else:
                self.log.withdraw(number)

    def _mine(self, trial: RayTrial) -> Trial:
        number = trial.config["number"]
        return self.trials.setdefault(number, Trial(number, trial.config["hparams"]))

    def _ended(self, mine: Trial) -> None:
        self.log.end(mine)
        self.progress.update(mine)


def search(
    experiment: Experiment, directory: ExperimentDir, share: Share, tracking: Tracking, progress: Progress
) -> tuple[list[Trial], str]:
    """Runs every trial. Returns what became of each, and the traceback of the first that failed, if any did."""
    log = StudyLog(directory.journal, experiment.name, experiment.search)
    scheduler = RungScheduler(experiment.scheduler, experiment.search)
    limits = Limits(experiment.search.time_budget_s)
    recorder = Recorder(experiment, log, scheduler, limits, progress)
    task = TrialTask(
        data=experiment.data,
        trainer=experiment.trainer,
        max_epochs=experiment.scheduler.max_epochs,
        seed=experiment.search.seed,
        cpus=share.cpus,
        directory=str(directory.trials),
        tracking=tracking,
    )
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(train_trial, task=task), {"cpu": share.cpus, "gpu": share.gpus}
    )
    mode = "max" if experiment.search.maximize else "min"
    tuner = ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            search_alg=StudySearcher(log, experiment.space, experiment.search.trials),
            scheduler=scheduler,
            num_samples=experiment.search.trials,
            max_concurrent_trials=experiment.resources.max_concurrent,
            reuse_actors=True,
            trial_name_creator=_ray_trial_name,
            trial_dirname_creator=_ray_trial_name,
        ),
        run_config=ray_tune.RunConfig(
            name=directory.trials.name,
            storage_path=str(directory.path),
            stop=limits,
            callbacks=[recorder],
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=0),
            checkpoint_config=ray_tune.CheckpointConfig(
                num_to_keep=1,
                checkpoint_score_attribute=experiment.search.metric,
                checkpoint_score_order=mode,
            ),
        ),
    )
    try:
        results = tuner.fit()
    finally:
        recorder.close()
    for index in range(len(results)):
        result = results[index]
        if result.config and result.best_checkpoints:
            choose = max if mode == "max" else min
            best, _ = choose(result.best_checkpoints, key=lambda pair: pair[1][experiment.search.metric])
            recorder.trials[result.config["number"]].checkpoint = best.path
    return sorted(recorder.trials.values(), key=lambda trial: trial.number), recorder.first_traceback


def _cause(trial: RayTrial) -> Exception:
    """What a trial raised. Ray's own accessor reads the file's later copy in the storage, which is not there yet."""
    if not trial.pickled_error_file or not Path(trial.pickled_error_file).exists():
        return RuntimeError("the trial's process died")
    try:
        error: Any = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception as broken:  # a class of the user's that only the trial could import
        return RuntimeError(f"an error that cannot be read here ({broken})")
    cause: Exception = getattr(error, "cause", None) or error
    return cause


def _ray_trial_name(trial: RayTrial) -> str:
    return trial_name(trial.config["number"])
