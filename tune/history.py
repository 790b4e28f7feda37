"""What a study says at each length of training: early stopping leaves trials of many lengths."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState


class History:
    """What was seen at each level. A trial is looked at once until it changes: there may be thousands."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = sorted(set(levels))
        self._nothing = (math.nan,) * len(self.levels)
        self._seen: dict[int, tuple[FrozenTrial, tuple[float, ...] | None]] = {}

    def comparable(self, trials: Iterable[FrozenTrial], maximize: bool, at_least: int = 0) -> list[FrozenTrial]:
        """The trials to learn from, COMPLETE with their values at the chosen level; none if too few.

        The level is the highest that d + 2 trials reached, d being the number of parameters of the largest trial, and
        `at_least` so many.
        Those that were stopped, pause or train below it are left out: as bad examples they would outnumber all
        others, though many were good. Diverged ones count as the worst seen.
        """
        trials = list(trials)
        known = [(trial, values) for trial in trials if (values := self.values(trial)) is not None]
        enough = max(at_least, 2 + max((len(trial.distributions) for trial in trials), default=0))
        for level in reversed(range(len(self.levels))):
            seen = [values[level] for _, values in known if not math.isnan(values[level])]
            if len(seen) >= enough:
                break
        else:
            return []
        worst = min(seen) if maximize else max(seen)
        view = []
        for trial, values in known:
            if not math.isnan(values[level]):
                view.append(_completed(trial, values[level]))
            elif values is self._nothing:
                view.append(_completed(trial, worst))
        return view

    def values(self, trial: FrozenTrial) -> tuple[float, ...] | None:
        """A trial's value at each level, the last one there or before, and NaN where it did not get.

        NaN at all of them for one that diverged; None for one that showed nothing.
        """
        remembered = self._seen.get(trial.number)
        if remembered is not None and remembered[0] is trial:  # a storage gives another object where a trial changed
            return remembered[1]
        values = self._look(trial)
        self._seen[trial.number] = trial, values
        return values

    def _look(self, trial: FrozenTrial) -> tuple[float, ...] | None:
        if trial.state is TrialState.FAIL:
            return self._nothing if _is_diverged(trial) else None
        values = list(self._nothing)
        steps = sorted(trial.intermediate_values)
        reached = math.inf if trial.state is TrialState.COMPLETE else max(steps, default=-1)
        for place, level in enumerate(self.levels):
            before = [step for step in steps if step <= level]
            if level <= reached and before and math.isfinite(value := trial.intermediate_values[before[-1]]):
                values[place] = value
        return None if all(map(math.isnan, values)) else tuple(values)


def view_of(trials: list[FrozenTrial], study: Study) -> Study:
    """`study` as if it held these trials alone."""
    return Study("view", _View(trials, study.direction), sampler=study.sampler, pruner=study.pruner)


def _is_diverged(trial: FrozenTrial) -> bool:
    """Whether a trial ended because a value of it was no number."""
    return trial.state is TrialState.FAIL and trial.user_attrs.get("state") == "diverged" and bool(trial.distributions)


def _completed(trial: FrozenTrial, value: float) -> FrozenTrial:
    return FrozenTrial(
        number=trial.number,
        trial_id=trial._trial_id,
        state=TrialState.COMPLETE,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_start,
    )


class _View(optuna.storages.InMemoryStorage):
    """A storage of one study with these trials, made without copying them. Nothing is written to it."""

    def __init__(self, trials: list[FrozenTrial], direction: StudyDirection) -> None:
        super().__init__()
        self._trials, self._direction = trials, direction

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Samplers note what they propose for other processes; here one process asks, and all of it is drawn."""
