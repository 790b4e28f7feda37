"""The search: Ray Tune runs the trials, the study records them, and a summary of each comes back."""

import time
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.experiment import Trial as RayTrial

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
    """Ends a search whose time is up, or whose first trials all fail. `reason` says which, once it has."""

    def __init__(self, time_budget_s: float | None) -> None:
        self.deadline = time.monotonic() + time_budget_s if time_budget_s else None
        self.budget = time_budget_s
        self.failures = 0
        self.ended_well = False
        self.reason = ""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop one trial: never; that is the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        if not self.reason:
            if self.deadline is not None and time.monotonic() > self.deadline:
                self.reason = f"the search's {self.budget:g} s were up (search.time_budget_s)"
            elif self.failures >= MAX_FAILURES_IN_A_ROW and not self.ended_well:
                self.reason = f"the first {self.failures} trials failed"
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
        """Ray Tune pickles its parts to restore them; ours are rebuilt from the study instead."""
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
        self.limits.ended_well = True
        self._ended(mine)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """A trial raised."""
        mine = self._mine(trial)
        traceback = Path(trial.error_file).read_text() if trial.error_file else ""
        self.first_traceback = self.first_traceback or traceback
        lines = [line for line in traceback.strip().splitlines() if line.strip()]
        mine.state, mine.reason = "failed", lines[-1] if lines else "the actor died"
        self.limits.failures += 1
        self._ended(mine)

    def close(self) -> None:
        """Ends what the end of the search cut off: Tune stops such trials without a word."""
        for number, hparams in self.log.unfinished():
            mine = self.trials.setdefault(number, Trial(number, hparams))
            mine.state, mine.reason = "stopped", self.limits.reason
            self._ended(mine)

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
    results = tuner.fit()
    recorder.close()
    for index in range(len(results)):
        result = results[index]
        if result.config and result.best_checkpoints:
            choose = max if mode == "max" else min
            best, _ = choose(result.best_checkpoints, key=lambda pair: pair[1][experiment.search.metric])
            recorder.trials[result.config["number"]].checkpoint = best.path
    return sorted(recorder.trials.values(), key=lambda trial: trial.number), recorder.first_traceback


def _ray_trial_name(trial: RayTrial) -> str:
    return trial_name(trial.config["number"])
