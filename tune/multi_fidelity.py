"""A model of a search whose trials ended at different lengths: what they would be worth at the longest. Pure.

Each trial is one observation of a Gaussian process over the space: its value at the highest level that it reached. What
a lower level says less surely is a larger noise, measured on the trials that reached both. Values become normal scores
by their ranks, so that a few that are far off, or a metric's unit, do no harm (Salinas, Shen and Perrone, ICML 2020,
arXiv:1909.13595). The next point is the best of many by an upper confidence bound whose width is drawn for each, so
that trials started together differ (Srinivas et al., ICML 2010, arXiv:0912.3995; with points that are being trained,
Desautels et al., JMLR 2014).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from tune.gaussian_process import Kernel, Posterior, fit
from tune.space import Scalar
from tune.unit_cube import UnitCube

Values = Mapping[int, float]  # by level

_FEW = 3  # trials at a level, below which it says nothing
_FIRST_NOISE = 0.02  # of a value at the highest level, where scores have variance 1
_FIT_TO, _LEARN_FROM = 200, 400  # trials at most, so that the hundred thousandth proposal takes no longer
_ANYWHERE, _NEAR, _REFINED = 400, 600, 200  # points looked at
_WIDTH = 3.0  # mean of the bound's width, in standard deviations


class Model:
    """What trials showed: `seen` has the parameters of each, and its finite values by level; none if it diverged.

    Raises ValueError if no level was reached by 3 trials.
    """

    def __init__(self, cube: UnitCube, seen: Sequence[tuple[Mapping[str, Scalar], Values]], *, maximize: bool) -> None:
        counts = Counter(level for _, values in seen for level in values)
        levels = sorted(level for level, count in counts.items() if count >= _FEW)
        if not levels:
            raise ValueError(f"no level was reached by {_FEW} trials")
        self._cube = cube
        self._points = cube.positions([params for params, _ in seen])
        self._features = cube.features(self._points)
        sign = 1 if maximize else -1
        values = [{level: sign * own[level] for level in levels if level in own} for _, own in seen]
        self._reached, self._scores, self._noise = _scores(values, levels)

    def fit(self, chance: np.random.Generator) -> list[float]:
        """The kernel, as `propose` takes it."""
        some = self._some(_FIT_TO, chance)
        return [float(number) for number in fit(self._features[some], self._scores[some], self._noise[some])]

    def propose(
        self, kernel: Sequence[float], pending: Sequence[Mapping[str, Scalar]], chance: np.random.Generator
    ) -> dict[str, Scalar]:
        """The study's parameters of the next trial; a new point, if there is one among those looked at.

        pending: the parameters of trials that showed nothing yet.
        """
        some = self._some(_LEARN_FROM, chance)
        waiting = self._cube.features(self._cube.positions(pending)) if pending else self._features[:0]
        posterior = Posterior(
            Kernel.from_logs(np.array(kernel)), self._features[some], self._scores[some], self._noise[some], waiting
        )
        width = _WIDTH * chance.exponential()

        tried = {row.tobytes() for row in (*self._features, *waiting)}

        def best(points: np.ndarray, count: int) -> np.ndarray:
            features = self._cube.features(points)
            mean, deviation = posterior.mean_and_deviation(features)
            again = np.array([row.tobytes() in tried for row in features])
            return points[np.lexsort((-(mean + width * deviation), again))[:count]]

        good = np.argsort(-posterior.mean(self._features[some]), kind="stable")[:8]
        around = self._points[some][good][chance.integers(len(good), size=_NEAR)]
        points = np.vstack([chance.random((_ANYWHERE, len(self._cube))), self._cube.near(around, chance)])
        for _ in range(2):
            found = best(points, 5)
            points = np.vstack([found, self._cube.near(np.repeat(found, _REFINED // 5, axis=0), chance)])
        return self._cube.params(best(points, 1)[0])

    def _some(self, most: int, chance: np.random.Generator) -> np.ndarray:
        """Indices of `most` trials: half of them those that got farthest, the best first, the others at random."""
        order = np.lexsort((-self._scores, -self._reached))
        rest = chance.permutation(order[most // 2 :])[: most - most // 2]
        return np.sort(np.concatenate([order[: most // 2], rest])) if len(order) > most else order


def _scores(values: Sequence[Values], levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each trial the index of its highest level, its score, and the variance of that score's error.

    Higher values are better. A trial without values is the worst.
    """
    reached = np.array(
        [max((index for index, level in enumerate(levels) if level in own), default=0) for own in values]
    )
    lift, error = {levels[-1]: 0.0}, {levels[-1]: _FIRST_NOISE}
    both = {
        low: np.array([(own[low], own[high]) for own in values if low in own and high in own]).reshape(-1, 2)
        for low, high in pairwise(levels)
    }
    for low, high in reversed(list(pairwise(levels))):
        lift[low] = lift[high] + float(np.median(both[low][:, 1] - both[low][:, 0]))
    lifted = np.array(
        [own[levels[at]] + lift[levels[at]] if own else -np.inf for own, at in zip(values, reached, strict=True)]
    )
    ranked = np.sort(lifted)
    for low, high in reversed(list(pairwise(levels))):
        before, after = (_score(both[low][:, column] + lift[level], ranked) for column, level in ((0, low), (1, high)))
        error[low] = error[high] + float(np.mean((after - before) ** 2))
    return reached, _score(lifted, ranked), np.array([error[levels[at]] for at in reached])


def _score(values: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """The normal quantiles of values' ranks among `ranked`."""
    middle = (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / 2
    return np.asarray(ndtri(np.clip(middle, 0.5, len(ranked) - 0.5) / len(ranked)))
