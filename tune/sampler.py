"""What proposes HParams: Optuna's samplers by name, made repeatable, and those that learn from comparable numbers.

Early stopping leaves trials of many lengths. Optuna's samplers take a trial's last value, so that 2 epochs of one trial
are held against 50 of another; the default one, multivariate TPE with a constant liar, stalls on them. Here `gp` learns
from all lengths, each for what it is worth (tune/multi_fidelity.py), and `tpe` as BOHB does (Falkner, Klein and Hutter,
ICML 2018, arXiv:1807.01774) from the longest length at which enough trials were seen, by their values at that length.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from tune.history import History, view_of
from tune.multi_fidelity import Model, TooFewTrialsError
from tune.sections import SearchConfig
from tune.space import Choice, Numeric, Space
from tune.unit_cube import UnitCube

# A sampler with this seed. A new one for each proposal: what Optuna's samplers remember from one to the next (the
# state of their random numbers, search spaces, fitted kernels) is lost with a killed driver.
Maker = Callable[[int], BaseSampler]

_KERNEL = "gp"  # the attribute of the trial for whose proposal a kernel was fitted
_FIT_AGAIN = 1.15  # as soon as so many times the trials are known


def make_sampler(search: SearchConfig, space: Space, levels: Sequence[int]) -> BaseSampler:
    """The sampler that the search names. levels: the epochs at which trials are compared, rungs and full length.

    What it proposes is a function of the seed, the trial's number and what the study holds, and of nothing else, so
    that a search that was killed and goes on proposes what it would have proposed.
    """
    startup = startup_trials(search.trials)
    samplers: dict[str, Callable[[], BaseSampler]] = {
        "gp": lambda: GaussianProcess(space, levels, startup, search.seed),
        "tpe": lambda: RungSampler(_tpe, levels, startup, search.seed),
        "nsga2": lambda: Reseeded(partial(_nsga2, population_of(search.trials)), search.seed),
        "plain_gp": lambda: Reseeded(_plain_gp, search.seed),
        "plain_tpe": lambda: Reseeded(_plain_tpe, search.seed),
        "cmaes": lambda: Reseeded(_cmaes, search.seed),
        "qmc": lambda: QuasiRandom(search.seed),
        "random": lambda: Reseeded(_random, search.seed),
        "grid": lambda: Reseeded(_random, search.seed),  # its points are enqueued; after them, any
    }
    if search.objectives and search.sampler == "tpe":  # all trials have one length
        return Reseeded(partial(_tpe, startup=startup), search.seed)
    return samplers[search.sampler]()


def population_of(trials: int) -> int:
    """How many trials a generation of NSGA-II has: a fifth of all, from 8 to 50, of which Optuna has 50 by default."""
    return max(8, min(50, trials // 5))


def startup_trials(trials: int) -> int:
    """How many of `trials` are drawn at random before the first is learned from."""
    return max(5, min(30, trials // 4))


def derived_seed(seed: int, number: int, name: str = "") -> int:
    """The seed of one trial's proposal, or of one of its parameters."""
    return int(np.random.SeedSequence([seed, number, *name.encode()]).generate_state(1)[0])


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _plain_tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def _tpe(seed: int, startup: int = 0) -> BaseSampler:
    """Of several objectives, MOTPE (Ozaki et al., GECCO 2020, doi:10.1145/3377930.3389817)."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


def _nsga2(population: int, seed: int) -> BaseSampler:
    """Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002, doi:10.1109/4235.996017."""
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)


def _plain_gp(seed: int) -> BaseSampler:
    # parameters that only some trials have are proposed by TPE
    return optuna.samplers.GPSampler(seed=seed, independent_sampler=_plain_tpe(seed), warn_independent_sampling=False)


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
        trials = study.get_trials(deepcopy=False)  # this one too, which shows nothing yet
        seen = self._history.comparable(trials, study.direction == StudyDirection.MAXIMIZE)
        return view_of(seen, study) if seen else None


class GaussianProcess(Reseeded):
    """A Gaussian process over all lengths of training. The first `startup` trials are random."""

    def __init__(self, space: Space, levels: Sequence[int], startup: int, seed: int) -> None:
        super().__init__(_random, seed)
        self._cube, self._history, self._startup = UnitCube(space), History(levels), startup
        self._distributions = {domain.key: _distribution(domain) for domain in space.searched()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        # a search that is extended has more starts, but has learned already
        learns = trial.number >= self._startup or any(_KERNEL in one.system_attrs for one in study.get_trials(False))
        return self._distributions if learns else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        trials = study.get_trials(deepcopy=False)
        history = self._history
        history.look(trials)
        params = [history.params[row] for row in np.flatnonzero(history.shows).tolist()]
        pending = [other.params for other in history.pending() if other.number != trial.number]
        maximize = study.direction == StudyDirection.MAXIMIZE
        try:
            model = Model(self._cube, params, history.values[history.shows], maximize=maximize)
        except TooFewTrialsError:
            return {}
        chance = np.random.default_rng(derived_seed(self._seed, trial.number))
        with _blas().limit(limits=1):
            kernel = self._remembered(trials, trial.number, len(params))
            if kernel is None:
                kernel = model.fit(chance)
                told: dict[str, Any] = {"trials": len(params), "logs": kernel}
                study._storage.set_trial_system_attr(trial._trial_id, _KERNEL, told)
            given = trial.system_attrs.get("fixed_params", {})
            return model.propose(kernel, pending, given, chance, history.tried)

    def _remembered(self, trials: Sequence[FrozenTrial], number: int, count: int) -> list[float] | None:
        """The last kernel fitted, if little more is known since; in the study, so that a killed driver's is found."""
        fits = (trial.system_attrs[_KERNEL] for trial in reversed(trials[:number]) if _KERNEL in trial.system_attrs)
        last = next(fits, None)
        fresh = last is not None and count < _FIT_AGAIN * last["trials"]
        return list(last["logs"]) if last is not None and fresh else None


@cache
def _blas() -> ThreadpoolController:
    """Of matrices this small more threads only wait for each other, most of all beside trials that use every core."""
    return ThreadpoolController()


def _distribution(domain: Numeric | Choice) -> BaseDistribution:
    """What a trial's suggestion from `domain` is drawn from, which Optuna compares."""
    match domain:
        case Choice():
            return CategoricalDistribution(domain.options)
        case Numeric(step=None):
            return FloatDistribution(domain.lower, domain.upper, log=domain.log)
        case Numeric():
            return IntDistribution(int(domain.lower), int(domain.upper), step=domain.step or 1, log=domain.log)
