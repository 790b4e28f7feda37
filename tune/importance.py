"""How much each parameter of a space mattered, conditional ones included."""

import math
import random
import warnings
from collections.abc import Sequence

from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from tune.history import History, completed, view_of

_ENOUGH = 10  # trials, below which any answer is chance
_FOREST = 1000  # trials, of which a random forest takes seconds
_GOOD = 0.25  # the share of trials that parameters are asked to have made good


def importances(study: Study, levels: Sequence[int]) -> dict[str, float]:
    """Shares of 1 by parameter of the study, the largest first; empty where fewer than 10 trials compare.

    From the values at the highest of `levels`, epochs at which trials are compared, that enough trials reached. How
    much a parameter tells whether a trial is in the best quarter, by PED-ANOVA (Watanabe et al., IJCAI 2023,
    arXiv:2304.10255), a parameter of an option within the trials that have it (arXiv:2601.20800). Of several
    objectives the first counts, in trials of full length.
    """
    return _shares(study, comparable(study, levels), PedAnovaImportanceEvaluator(target_quantile=_GOOD))


def fanova(study: Study, levels: Sequence[int]) -> dict[str, float]:
    """The same by fANOVA (Hutter et al., ICML 2014): shares of the variance of values that a random forest explains.

    Of the parameters that all trials have; of thousands of trials, 1,000 drawn at random.
    """
    seen = comparable(study, levels)
    if len(seen) > _FOREST:
        seen = random.Random(0).sample(seen, _FOREST)
    return _shares(study, seen, FanovaImportanceEvaluator(seed=0))


def comparable(study: Study, levels: Sequence[int]) -> list[FrozenTrial]:
    """The trials that importances are reckoned from, each with its value there; none where fewer than 10 compare."""
    trials, maximize = study.get_trials(deepcopy=False), study.directions[0] == StudyDirection.MAXIMIZE
    if len(study.directions) > 1:
        seen = completed(trials)
    else:
        seen = History(levels).comparable(trials, maximize, at_least=_ENOUGH)
    differ = len({trial.values[0] for trial in seen if trial.values}) > 1  # else nothing made a difference
    return seen if len(seen) >= _ENOUGH and differ else []


def _shares(study: Study, seen: list[FrozenTrial], evaluator: BaseImportanceEvaluator) -> dict[str, float]:
    if not seen:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)  # an option that few trials had
        warnings.filterwarnings("ignore", ".*select the same set of trials", UserWarning)  # few values, many ties
        shares = get_param_importances(view_of(seen, study), evaluator=evaluator)
    return {name: float(share) for name, share in shares.items() if math.isfinite(share)}
