"""A model of a search whose trials ended at different lengths: what they would be worth at the longest. Pure.

Each trial is one observation of a Gaussian process over the space: its value at the highest level that it reached. What
a lower level says less surely is a larger noise, measured on the trials that reached both. Values become normal scores
by their ranks, so that a few that are far off, or a metric's unit, do no harm (Salinas, Shen and Perrone, ICML 2020,
arXiv:1909.13595). The next point is the best of many by an upper confidence bound whose width is drawn for each, so
that trials started together differ (Srinivas et al., ICML 2010, arXiv:0912.3995; with points that are being trained,
Desautels et al., JMLR 2014).
"""

from collections.abc import Container, Mapping, Sequence
from itertools import chain

import numpy as np
from scipy.special import ndtri

from tune.gaussian_process import Kernel, Posterior, fit
from tune.space import Scalar
from tune.unit_cube import UnitCube

_FEW = 3  # trials at a level, or at two of them, below which they say nothing
_FIRST_NOISE = 0.02  # of a value at the highest level, where scores have variance 1
_LEARN_FROM = 200  # trials at most
_ANYWHERE, _NEAR, _REFINED = 400, 600, 200  # points looked at
_AT_ONCE = 16  # of them that become parameters, until one is new
_WIDTH = 3.0  # mean of the bound's width, in standard deviations


class TooFewTrialsError(ValueError):
    """No level was reached by 3 trials."""


class Model:
    """What trials showed.

    params: of each trial. values: (trials, levels), NaN where a trial did not get to a level, and throughout for one
    that diverged. Raises TooFewTrialsError.
    """

    def __init__(
        self, cube: UnitCube, params: Sequence[Mapping[str, Scalar]], values: np.ndarray, *, maximize: bool
    ) -> None:
        there = np.isfinite(values)
        often = there.sum(0) >= _FEW
        if not often.any():
            raise TooFewTrialsError(f"no level was reached by {_FEW} trials")
        self._cube, self._params = cube, params
        # those that are known at rare levels only are left out
        self._rows = np.flatnonzero(~there.any(1) | there[:, often].any(1))
        values = values[self._rows][:, often]
        self._reached, self._scores, self._noise = _scores(values * (1 if maximize else -1))

    def fit(self, chance: np.random.Generator) -> list[float]:
        """The kernel, as `propose` takes it."""
        some = self._some(chance)
        features = self._cube.features(self._points(some))
        return [float(number) for number in fit(features, self._scores[some], self._noise[some])]

    def propose(
        self,
        kernel: Sequence[float],
        pending: Sequence[Mapping[str, Scalar]],
        fixed: Mapping[str, Scalar],
        chance: np.random.Generator,
        tried: Container[frozenset[tuple[str, Scalar]]],
    ) -> dict[str, Scalar]:
        """The study's parameters of the next trial; a new point, if there is one among those looked at.

        pending: the parameters of trials that showed nothing yet; fixed: those that are given. tried: those of
        all trials, as sets of pairs.
        """
        some = self._some(chance)
        known = self._points(some)
        features = self._cube.features(known)
        waiting = self._cube.features(self._cube.positions(pending))
        posterior = Posterior(
            Kernel.from_logs(np.array(kernel)), features, self._scores[some], self._noise[some], waiting
        )
        width = _WIDTH * chance.exponential()
        given, values = self._cube.sides(fixed), self._cube.positions([fixed])

        def bounds(points: np.ndarray) -> np.ndarray:
            mean, deviation = posterior.mean_and_deviation(self._cube.features(points))
            return np.asarray(mean + width * deviation)

        good = np.argsort(-posterior.expected, kind="stable")[:8]
        around = known[good][chance.integers(len(good), size=_NEAR)]
        points = np.vstack([chance.random((_ANYWHERE, len(self._cube))), self._cube.near(around, chance)])
        points = np.where(given, values, points)
        heights = bounds(points)
        for _ in range(2):
            best = points[np.argsort(-heights, kind="stable")[:5]]
            more = np.where(given, values, self._cube.near(np.repeat(best, _REFINED // 5, axis=0), chance))
            points, heights = np.vstack([points, more]), np.concatenate([heights, bounds(more)])
        ranked = points[np.argsort(-heights, kind="stable")]
        few = (self._cube.params(ranked[start : start + _AT_ONCE]) for start in range(0, len(ranked), _AT_ONCE))
        found = chain.from_iterable(few)
        first = next(found)
        return next((params for params in chain([first], found) if frozenset(params.items()) not in tried), first)

    def _points(self, some: np.ndarray) -> np.ndarray:
        return self._cube.positions([self._params[row] for row in self._rows[some]])

    def _some(self, chance: np.random.Generator) -> np.ndarray:
        """Indices of the trials to learn from: half those that got farthest, best first, half any others."""
        if len(self._scores) <= _LEARN_FROM:
            return np.arange(len(self._scores))
        half = _LEARN_FROM // 2
        far = np.flatnonzero(self._reached >= np.partition(self._reached, -half)[-half])
        best = far[np.lexsort((-self._scores[far], -self._reached[far]))[:half]]
        others = np.delete(np.arange(len(self._scores)), best)
        return np.sort(np.concatenate([best, chance.choice(others, _LEARN_FROM - half, replace=False)]))


def _scores(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each trial the index of its highest level, its score, and the variance of that score's error.

    values: (trials, levels), NaN where a trial did not get to a level, and throughout for one that diverged: it is the
    worst, and that is as sure as a value at the highest level. Higher values are better.
    """
    there = np.isfinite(values)
    diverged = ~there.any(1)
    last = values.shape[1] - 1
    reached = np.where(diverged, 0, last - np.argmax(there[:, ::-1], axis=1))
    lift = np.zeros(last + 1)  # what a level's values lack of the highest one's
    both = [there[:, level] & there[:, level + 1] for level in range(last)]
    for level in reversed(range(last)):
        gains = (values[:, level + 1] - values[:, level])[both[level]]
        lift[level] = lift[level + 1] + (float(np.median(gains)) if len(gains) >= _FEW else 0.0)
    lifted = values + lift
    worth = np.where(diverged, -np.inf, lifted[np.arange(len(values)), reached])
    order = np.argsort(worth, kind="stable")
    ranked = worth[order]
    error = np.full(last + 1, _FIRST_NOISE)
    for level in reversed(range(last)):
        before, after = (_score(lifted[both[level], at], ranked) for at in (level, level + 1))
        error[level] = error[level + 1] + (float(np.mean((after - before) ** 2)) if len(before) >= _FEW else 1.0)
    scores = np.empty(len(worth))
    scores[order] = _score(ranked, ranked)  # in order, which is much the faster where there are thousands
    return reached, scores, np.where(diverged, _FIRST_NOISE, error[reached])


def _score(values: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """The normal quantiles of values' ranks among `ranked`."""
    middle = (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / 2
    return np.asarray(ndtri(np.clip(middle, 0.5, len(ranked) - 0.5) / len(ranked)))
