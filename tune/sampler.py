"""What proposes HParams: Optuna's samplers by name, made repeatable, and the one that learns from comparable numbers.

Early stopping leaves trials of many lengths. Optuna's samplers take a trial's last value, so that 2 epochs of one trial
are held against 50 of another; the default one, multivariate TPE with a constant liar, stalls on them. BOHB's answer
(Falkner, Klein and Hutter, ICML 2018, arXiv:1807.01774) is used here: learn only from the longest length at which
enough trials were seen, and from their values at that length.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tune.sections import SearchConfig

# A sampler with this seed. A new one for each proposal: what Optuna's samplers remember from one to the next (the
# state of their random numbers, search spaces, fitted kernels) is lost with a killed driver.
Maker = Callable[[int], BaseSampler]


def make_sampler(search: SearchConfig, levels: Sequence[int], *, trials: int) -> BaseSampler:
    """The sampler that the search names. levels: the epochs at which trials are compared, rungs and full length.

    What it proposes is a function of the seed, the trial's number and what the study holds, and of nothing else, so
    that a search that was killed and goes on proposes what it would have proposed.
    """
    startup = startup_trials(trials)
    samplers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: RungSampler(_tpe, levels, startup, search.seed),
        "gp": lambda: RungSampler(_gp, levels, startup, search.seed),
        "plain_tpe": lambda: Reseeded(_plain_tpe, search.seed),
        "cmaes": lambda: Reseeded(_cmaes, search.seed),
        "qmc": lambda: QuasiRandom(search.seed),
        "random": lambda: Reseeded(_random, search.seed),
        "grid": lambda: Reseeded(_random, search.seed),  # its points are enqueued; after them, any
    }
    return samplers[search.sampler]()


def startup_trials(trials: int) -> int:
    """How many of `trials` are drawn at random before the first is learned from."""
    return max(5, min(50, trials // 4))


def derived_seed(seed: int, number: int, name: str = "") -> int:
    """The seed of one trial's proposal, or of one of its parameters."""
    return int(np.random.SeedSequence([seed, number, *name.encode()]).generate_state(1)[0])


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _plain_tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def _tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)


def _gp(seed: int) -> BaseSampler:
    # parameters that only some trials have are proposed by TPE
    return optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=0, independent_sampler=_tpe(seed), warn_independent_sampling=False
    )


def _cmaes(seed: int) -> BaseSampler:
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


class Reseeded(BaseSampler):
    """One of Optuna's samplers, made anew for each proposal with a seed of its own."""

    def __init__(self, make: Maker, seed: int) -> None:
        self._make, self._seed = make, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._make(0).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        sampler = self._make(derived_seed(self._seed, trial.number))
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._make(derived_seed(self._seed, trial.number, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class QuasiRandom(Reseeded):
    """Optuna's scrambled Sobol points, by the trial's number: its own count runs on where a trial is asked twice.

    A parameter that only some trials have is drawn at random.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(_random, seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return _NumberedSobol(self._seed, trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return _NumberedSobol(self._seed, trial.number).sample_relative(study, trial, search_space)


class _NumberedSobol(optuna.samplers.QMCSampler):
    def __init__(self, seed: int, number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(scramble=True, seed=seed, warn_independent_sampling=False)
        self._number = number

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class RungSampler(BaseSampler):
    """Asks one of Optuna's samplers, which sees a view of the study that holds only comparable values.

    The first `startup` trials are random, and so is every later one until a level has been seen often enough.
    """

    def __init__(self, make: Maker, levels: Sequence[int], startup: int, seed: int) -> None:
        self._make, self._startup, self._seed = make, startup, seed
        self._history = History(levels)
        self._view: Study | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._view = self._look(study, trial)
        return self._make(0).infer_relative_search_space(self._view, trial) if self._view else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        view, self._view = self._view, None  # of the call just before, which Optuna makes for each of these
        if not search_space or view is None:
            return {}
        return self._make(derived_seed(self._seed, trial.number)).sample_relative(view, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        view = self._look(study, trial)
        seed = derived_seed(self._seed, trial.number, param_name)
        sampler = _random(seed) if view is None else self._make(seed)
        return sampler.sample_independent(view or study, trial, param_name, param_distribution)

    def _look(self, study: Study, trial: FrozenTrial) -> Study | None:
        if trial.number < self._startup:
            return None
        others = (other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        seen = self._history.comparable(others, study.direction == StudyDirection.MAXIMIZE)
        return view_of(seen, study) if seen else None


class History:
    """What was seen at each level. Finished trials are looked at once: there may be thousands."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = sorted(set(levels))
        self._finished: dict[int, tuple[FrozenTrial, dict[int, float]]] = {}

    def comparable(self, trials: Iterable[FrozenTrial], maximize: bool, at_least: int = 0) -> list[FrozenTrial]:
        """The trials to learn from, COMPLETE with their values at the chosen level; none if too few.

        The level is the highest that d + 2 trials reached, d being the number of parameters of the largest trial, and
        `at_least` so many.
        Those that were stopped, pause or train below it are left out: as bad examples they would outnumber all
        others, though many were good. Diverged ones count as the worst seen.
        """
        known = [(trial, self._values(trial)) for trial in trials]
        enough = max(at_least, 2 + max((len(trial.distributions) for trial, _ in known), default=0))
        counts = {level: sum(level in values for _, values in known) for level in self.levels}
        level = max((level for level in self.levels if counts[level] >= enough), default=None)
        if level is None:
            return []
        seen = [values[level] for _, values in known if level in values]
        worst = min(seen) if maximize else max(seen)
        view = []
        for trial, values in known:
            if level in values:
                view.append(_completed(trial, values[level]))
            elif _diverged(trial):
                view.append(_completed(trial, worst))
        return view

    def _values(self, trial: FrozenTrial) -> dict[int, float]:
        """Its value at each level that it reached: the last one there or before."""
        remembered = self._finished.get(trial.number)
        if remembered is not None and remembered[0] is trial:
            return remembered[1]
        values: dict[int, float] = {}
        if trial.state is not TrialState.FAIL:
            steps = sorted(trial.intermediate_values)
            reached = math.inf if trial.state is TrialState.COMPLETE else max(steps, default=-1)
            for level in self.levels:
                before = [step for step in steps if step <= level]
                if level <= reached and before:
                    values[level] = trial.intermediate_values[before[-1]]
            values = {level: value for level, value in values.items() if math.isfinite(value)}
        if trial.state.is_finished():
            self._finished[trial.number] = trial, values
        return values


def view_of(trials: list[FrozenTrial], study: Study) -> Study:
    """`study` as if it held these trials alone."""
    return Study("view", _View(trials, study.direction), sampler=study.sampler, pruner=study.pruner)


def _diverged(trial: FrozenTrial) -> bool:
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
