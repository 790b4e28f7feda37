"""Ray Tune's scheduler: tells the conductor each value, and stops the trials it says."""

import math
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cifar.config import not_finite
from tune.conductor import Conductor
from tune.naming import show_titles
from tune.trials import BUSY, DIVERGED, EPOCH


class ConductedScheduler(FIFOScheduler):
    """Asked after each epoch, the last one before a stop too, unlike the searcher's own hook."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.conductor = conductor
        self._cache: Any = None  # Ray's, of actors
        self._usual: Any = None  # the resources of most trials
        self._kept = 0  # actors with them, beyond those that Ray keeps by itself
        self._named = False

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; ours goes on from the study."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accepts whatever Tune is told: the metric is known from the spec."""
        return True

    def choose_trial_to_run(self, tune_controller: Any) -> RayTrial | None:
        """None: what is pending Ray starts anyway, in order; looking for it among all trials takes ever longer.

        Asked at each step. Once the search is interrupted, what is pending has no business to begin.
        """
        if self.conductor.interrupted and (pending := self.conductor.pending):
            for trial in list(tune_controller.get_live_trials()):
                if trial.config["number"] in pending and trial.status == RayTrial.PENDING:
                    self.conductor.withdrawn(trial.config["number"])
                    # without a folder Ray trips over it when all is over, and without a result it prints a line
                    trial.init_local_path()
                    trial.run_metadata.last_result = {EPOCH: 0}
                    tune_controller.stop_trial(trial)
        return None

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        """A trial is about to ask for a slot; one that needs a whole GPU would wait for ever for actors that idle."""
        if not self._named:
            self._named = True
            show_titles(tune_controller, self.conductor.experiment.name)
        if trial.config["alone"] and self._kept:
            self._cache.decrease_max(self._usual, by=self._kept)
            self._kept = 0

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        """A trial leaves its slot, whose actor is kept for the next one.

        Of actors that come free together Ray keeps one only, and ends the others: a new one costs seconds of imports.
        """
        if trial.config["alone"] or self.conductor.makes_room:
            return
        self._cache, self._usual = tune_controller._actor_cache, trial.placement_group_factory
        more = max(0, self.conductor.slots() - self._kept)
        self._cache.increase_max(self._usual, by=more)
        self._kept += more

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Tune's question after each epoch."""
        if EPOCH not in result or result.get("done"):
            return TrialScheduler.CONTINUE
        search = self.conductor.experiment.search
        stop = self.conductor.result(
            trial.config["number"],
            int(result[EPOCH]),
            result.get(search.metric, math.nan),
            result["time_total_s"],
            result.get(BUSY, 0.0),
            broken=result.get(DIVERGED) or not_finite(result, int(result[EPOCH])),
            figures={each.metric: result[each.metric] for each in search.objectives or () if each.metric in result},
        )
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
