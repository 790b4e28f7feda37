"""What a study says at each length of training: early stopping leaves trials of many lengths."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState


class History:
    """What a study's trials show at each level. A trial is looked at once until it changes: there may be thousands.

    levels: ascending. values: (trials, levels), NaN where a trial did not get, and throughout for one that diverged.
    shows: (trials,) of bool, whether a trial has a value or diverged. Rows are in the order of the study's trials.
    tried: the parameters of each, as a set of pairs.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = sorted(set(levels))
        self.params: list[dict[str, Any]] = []  # of each trial
        self.tried: set[frozenset[tuple[str, Any]]] = set()
        self._trials: list[FrozenTrial] = []
        self._open: set[int] = set()  # rows of trials that had not ended
        self._values, self._shows = np.empty((0, len(self.levels))), np.empty(0, bool)

    @property
    def values(self) -> np.ndarray:
        return self._values[: len(self._trials)]

    @property
    def shows(self) -> np.ndarray:
        return self._shows[: len(self._trials)]

    def look(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes in what has changed of `trials`, which are those of the last time and may be more."""
        before = len(self._trials)
        if len(trials) > len(self._values):  # room for as many again
            room = 2 * len(trials) - len(self._values)
            self._values = np.vstack([self._values, np.full((room, len(self.levels)), math.nan)])
            self._shows = np.concatenate([self._shows, np.zeros(room, bool)])
        # a storage gives another object where a trial changed
        changed = [row for row in self._open if trials[row] is not self._trials[row]]
        self._trials = list(trials)
        self.params += [{}] * (len(trials) - before)
        for row in (*changed, *range(before, len(trials))):
            trial = trials[row]
            self.params[row], self._values[row] = trial.params, self._seen(trial)
            self.tried.add(frozenset(trial.params.items()))
            self._shows[row] = _is_diverged(trial) or not np.isnan(self._values[row]).all()
            (self._open.discard if trial.state.is_finished() else self._open.add)(row)

    def pending(self) -> list[FrozenTrial]:
        """Those that are being trained and show nothing yet."""
        running = (row for row in sorted(self._open) if self._trials[row].state is TrialState.RUNNING)
        return [self._trials[row] for row in running if not self._shows[row]]

    def comparable(self, trials: Sequence[FrozenTrial], maximize: bool, at_least: int = 0) -> list[FrozenTrial]:
        """Of `trials` those to learn from, COMPLETE with their values at the chosen level; none if too few.

        The level is the highest that d + 2 trials reached, d being the number of parameters of the largest trial, and
        `at_least` so many.
        Those that were stopped, pause or train below it are left out: as bad examples they would outnumber all
        others, though many were good. Diverged ones count as the worst seen.
        """
        self.look(trials)
        enough = max(at_least, 2 + max((len(trial.distributions) for trial in trials), default=0))
        often = np.flatnonzero((~np.isnan(self.values)).sum(0) >= enough)
        if not len(often):
            return []
        values = self.values[self.shows]
        at_level = values[:, often[-1]]
        worst = np.nanmin(at_level) if maximize else np.nanmax(at_level)
        there = np.where(np.isnan(values).all(1), worst, at_level)
        known = zip(np.flatnonzero(self.shows).tolist(), there.tolist(), strict=True)
        return [_completed(trials[row], value) for row, value in known if not math.isnan(value)]

    def _seen(self, trial: FrozenTrial) -> list[float]:
        """A trial's value at each level: the last one there or before."""
        values = [math.nan] * len(self.levels)
        if trial.state is TrialState.FAIL:
            return values
        steps = sorted(trial.intermediate_values)
        reached = math.inf if trial.state is TrialState.COMPLETE else max(steps, default=-1)
        for place, level in enumerate(self.levels):
            before = [step for step in steps if step <= level]
            if level <= reached and before and math.isfinite(value := trial.intermediate_values[before[-1]]):
                values[place] = value
        return values


def view_of(trials: list[FrozenTrial], study: Study) -> Study:
    """`study` as if it held these trials alone; of several objectives, the first."""
    return Study("view", _View(trials, study.directions[0]), sampler=study.sampler, pruner=study.pruner)


def completed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Of `trials` those that have values, with the first."""
    return [_completed(trial, trial.values[0]) for trial in trials if trial.state is TrialState.COMPLETE]


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
