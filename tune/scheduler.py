"""Ray Tune's scheduler: tells the conductor each value, stops the trials it says, and keeps their processes."""

import math
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cifar.config import not_finite
from tune.conductor import Conductor
from tune.kept_processes import KeptProcesses
from tune.naming import show_titles
from tune.trials import BUSY, DIVERGED, EPOCH, NODE, Report


class ConductedScheduler(FIFOScheduler):
    """Asked after each epoch, the last one before a stop too, unlike the searcher's own hook. leaving: nodes, by id."""

    def __init__(self, conductor: Conductor, leaving: Callable[[], frozenset[str]] = frozenset) -> None:
        super().__init__()
        self.conductor, self.leaving = conductor, leaving
        self._kept: KeptProcesses | None = None

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
        """A trial is about to ask for a slot; one that needs a whole GPU would wait for ever for idle processes."""
        if self._kept is None:
            show_titles(tune_controller, self.conductor.experiment.name)
            self._kept = KeptProcesses(self.leaving)
            tune_controller._tune_controller._actor_cache = self._kept  # what is given here only wraps it
        if trial.config["alone"]:
            self._kept.keep_none()

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        """A trial leaves its slot, whose process is kept for the next one, if there may be one.

        Of those that come free together Ray keeps one only, and ends the others: a new one costs seconds of imports.
        """
        if self._kept and not trial.config["alone"] and not self.conductor.makes_room:
            wanted = min(self.conductor.slots(), self.conductor.could_begin)
            self._kept.keep(trial.placement_group_factory, wanted)

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Tune's question after each epoch."""
        if EPOCH not in result or result.get("done"):
            return TrialScheduler.CONTINUE
        node = result.get(NODE, "")
        if self._kept:
            self._kept.seen(tune_controller._trial_to_actor.get(trial), node)
        search = self.conductor.experiment.search
        report = Report(
            int(result[EPOCH]),
            result.get(search.metric, math.nan),
            result["time_total_s"],
            result.get(BUSY, 0.0),
            broken=result.get(DIVERGED) or not_finite(result, int(result[EPOCH])),
            figures={each.metric: result[each.metric] for each in search.objectives or () if each.metric in result},
            leaving=node in self.leaving(),
        )
        stop = self.conductor.result(trial.config["number"], report)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
