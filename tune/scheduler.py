"""The scheduler: stops trials at rungs, and at the first value that is no number."""

import math
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cifar.config import METRICS
from tune.rungs import Rungs, rung_epochs
from tune.spec import SchedulerConfig, SearchConfig


class RungScheduler(FIFOScheduler):
    """Ray Tune's side of `tune.rungs`. `verdicts` says of each trial it stopped: (diverged, reason)."""

    def __init__(self, scheduler: SchedulerConfig, search: SearchConfig) -> None:
        super().__init__()
        self.search = search
        epochs: tuple[int, ...] = ()
        if scheduler.type == "asha":
            epochs = rung_epochs(scheduler.grace_period, scheduler.reduction_factor, scheduler.max_epochs)
        self.rungs = Rungs(epochs, scheduler.reduction_factor, search.maximize, scheduler.min_peers or 0)
        self.verdicts: dict[str, tuple[bool, str]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accepts whatever Tune is told: the metric is known from the spec."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Tune's question after each epoch."""
        if trial.trial_id in self.verdicts or result.get("done"):
            return TrialScheduler.CONTINUE
        epoch, value = result["training_iteration"], result[self.search.metric]
        for name in METRICS:  # accuracy stays a number when the loss no longer is
            if not math.isfinite(result.get(name, 0.0)):
                self.verdicts[trial.trial_id] = (True, f"{name} was {result[name]} at epoch {epoch}")
                return TrialScheduler.STOP
        verdict = self.rungs.judge(epoch, value)
        if verdict is None or verdict.passes:
            return TrialScheduler.CONTINUE
        self.verdicts[trial.trial_id] = (False, str(verdict))
        return TrialScheduler.STOP
