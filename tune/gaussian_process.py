"""Gaussian process regression with a scale for each feature, and a known noise for each observation.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, chapters 2, 4.2.1 and 5.4.1.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.blas import strmm
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize

_ROOT_5 = math.sqrt(5)
_AT_ONCE = 256  # points: what is reckoned of them stays in a processor's cache
_JITTER = 1e-4  # added to every variance, so that equal points do no harm


@dataclass(frozen=True)
class Kernel:
    """Matern 5/2. lengths: (features,), the distance along each over which values are alike.

    variance: of the values; noise: what the variances of the observations are multiplied by.
    """

    lengths: np.ndarray
    variance: float
    noise: float

    def between(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of the values at points (n, features) and (m, features)."""
        a, b = one / self.lengths.astype(one.dtype), other / self.lengths.astype(other.dtype)
        far = (a**2).sum(1, keepdims=True), (b**2).sum(1, keepdims=True)
        squares = np.hstack([a, far[0], np.ones_like(far[0])]) @ np.hstack([-2 * b, np.ones_like(far[1]), far[1]]).T
        # beyond a distance of 20 all is 0; and where numbers get too small for their type, processors are slow
        np.clip(squares, 0.0, 400.0, out=squares)
        # as _matern, in two arrays: of many points this is most of a proposal, and most of it was new memory
        squares *= 5
        distances: np.ndarray = np.sqrt(squares)
        squares /= 3
        squares += distances
        squares += 1
        np.negative(distances, out=distances)
        np.exp(distances, out=distances)
        distances *= squares
        distances *= self.variance
        return distances

    @classmethod
    def from_logs(cls, logs: np.ndarray) -> "Kernel":
        """From the logarithms of lengths, variance and noise."""
        return cls(np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1]))


def fit(points: np.ndarray, values: np.ndarray, noise: np.ndarray, iterations: int = 20) -> np.ndarray:
    """The most probable kernel, as the logarithms of its lengths, variance and noise: (features + 2,).

    points: (n, features) in [0, 1]; values: (n,), such as normal scores, whose variance is about 1; noise: (n,), the
    variances of their errors. The prior of a length is log-normal around 0.7, those of variance and noise around 1.
    """
    features = points.shape[1]
    squares = (points[:, None] - points) ** 2
    mean = np.array([math.log(0.7)] * features + [0.0, 0.0])
    deviation = np.array([0.9] * features + [0.7, 0.7])

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        """The negative logarithm of the posterior, and its gradient."""
        kernel = Kernel.from_logs(logs)
        alike, slope = _matern(squares @ kernel.lengths**-2)
        lower = cholesky(kernel.variance * alike + np.diag(kernel.noise * noise + _JITTER), lower=True)
        inverse = cho_solve((lower, True), np.eye(len(values)))
        weights = inverse @ values
        pull = np.outer(weights, weights) - inverse  # the gradient of twice the likelihood by the covariances
        by_length = np.einsum("ij,ijk->k", pull * slope, squares) * (5 / 3) * kernel.variance / kernel.lengths**2
        by_scale = (pull * alike).sum() * kernel.variance, (np.diag(pull) * noise).sum() * kernel.noise
        off = (logs - mean) / deviation
        value = 0.5 * values @ weights + np.log(np.diag(lower)).sum() + 0.5 * (off**2).sum()
        return float(value), off / deviation - 0.5 * np.array([*by_length, *by_scale])

    bounds = [(math.log(0.05), math.log(10))] * features + [(-3.0, 2.0)] * 2
    found = minimize(loss, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    return np.asarray(found.x)


class Posterior:
    """What is known of the values after observations. Arrays as in `fit`.

    pending: (m, features), points that are being observed: nothing is learned from them but that they will be known,
    so that others are tried meanwhile (Desautels et al., JMLR 2014). expected: (n,), the values at the points.
    """

    def __init__(
        self, kernel: Kernel, points: np.ndarray, values: np.ndarray, noise: np.ndarray, pending: np.ndarray
    ) -> None:
        self._kernel, self._count = kernel, len(points)
        self._known = np.vstack([points, pending])
        covariances = kernel.between(self._known, self._known)
        variances = np.concatenate([kernel.noise * noise, np.full(len(pending), 0.05)]) + _JITTER
        lower = cholesky(covariances + np.diag(variances), lower=True)
        weights = cho_solve((lower[: self._count, : self._count], True), values)
        self.expected = covariances[: self._count, : self._count] @ weights
        whiten, _ = dtrtri(lower, lower=True)
        # what is asked about many points need not be exact to more than seven digits
        self._known, self._weights = self._known.astype(np.float32), weights.astype(np.float32)
        self._whiten = np.asfortranarray(whiten, np.float32)

    def mean_and_deviation(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected values and their standard deviations, (n,) each."""
        blocks = (points[start : start + _AT_ONCE] for start in range(0, len(points), _AT_ONCE))
        means, deviations = zip(*map(self._mean_and_deviation, blocks), strict=True)
        return np.concatenate(means), np.concatenate(deviations)

    def _mean_and_deviation(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariances = self._kernel.between(points.astype(np.float32), self._known)
        means = covariances[:, : self._count] @ self._weights
        explained = strmm(1.0, self._whiten, covariances.T, lower=True, overwrite_b=True)
        variances = np.maximum(self._kernel.variance - np.einsum("ij,ij->j", explained, explained), 0.0)
        return means, np.sqrt(variances)


def _matern(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The correlation at squared distances, and on the way to it, -6/5 of its derivative by the squared distance."""
    distances = _ROOT_5 * np.sqrt(squares)
    decay = np.exp(-distances)
    slope = (1 + distances) * decay
    return slope + 5 / 3 * squares * decay, slope
