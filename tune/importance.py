"""How much each parameter of a space mattered, conditional ones included."""

import math
import warnings
from collections.abc import Sequence

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection

from tune.history import History, completed, view_of

_ENOUGH = 10  # trials, below which any answer is chance
_GOOD = 0.25  # the share of trials that parameters are asked to have made good


def importances(study: Study, levels: Sequence[int]) -> dict[str, float]:
    """Shares of 1 by parameter of the study, the largest first; empty where fewer than 10 trials compare.

    From the values at the highest of `levels`, epochs at which trials are compared, that enough trials reached. How
    much a parameter tells whether a trial is in the best quarter, by PED-ANOVA (Watanabe et al., IJCAI 2023,
    arXiv:2304.10255), a parameter of an option within the trials that have it (arXiv:2601.20800). Of several
    objectives the first counts, in trials of full length.
    """
    trials, maximize = study.get_trials(deepcopy=False), study.directions[0] == StudyDirection.MAXIMIZE
    if len(study.directions) > 1:
        seen = completed(trials)
    else:
        seen = History(levels).comparable(trials, maximize, at_least=_ENOUGH)
    if len(seen) < _ENOUGH:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)  # an option that few trials had
        shares = get_param_importances(view_of(seen, study), evaluator=evaluator)
    return {name: share for name, share in shares.items() if math.isfinite(share)}
