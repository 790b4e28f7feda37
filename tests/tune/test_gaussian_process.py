"""Against scikit-learn's Gaussian processes."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from tune.gaussian_process import Kernel, Posterior, fit

JITTER = 1e-4


def some(count=40, features=3, seed=0):
    """Points, values that depend on the first feature alone, and their variances."""
    chance = np.random.default_rng(seed)
    points = chance.random((count, features))
    noise = chance.choice([0.02, 0.2], count)
    values = np.sin(6 * points[:, 0]) + np.sqrt(noise) * chance.normal(size=count)
    return points, (values - values.mean()) / values.std(), noise


def reference(kernel, points, values, variances):
    shape = ConstantKernel(kernel.variance) * Matern(kernel.lengths, nu=2.5)
    return GaussianProcessRegressor(shape, alpha=variances, optimizer=None).fit(points, values)


@pytest.fixture
def kernel():
    return Kernel(np.array([0.3, 0.8, 2.0]), variance=1.4, noise=0.6)


def test_the_posterior_is_that_of_the_known_observations(kernel):
    points, values, noise = some()
    asked = np.random.default_rng(1).random((600, 3))  # more than are reckoned at once
    mean, deviation = Posterior(kernel, points, values, noise, points[:0]).mean_and_deviation(asked)
    expected = reference(kernel, points, values, 0.6 * noise + JITTER).predict(asked, return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-3, atol=1e-4)  # float32 of values around 1
    np.testing.assert_allclose(deviation, expected[1], rtol=1e-3, atol=1e-4)


def test_what_is_being_observed_changes_what_is_unsure_and_not_what_is_expected(kernel):
    points, values, noise = some()
    asked, pending = np.random.default_rng(1).random((50, 3)), np.random.default_rng(2).random((8, 3))
    without = Posterior(kernel, points, values, noise, pending[:0])
    posterior = Posterior(kernel, points, values, noise, pending)
    mean, deviation = posterior.mean_and_deviation(asked)
    np.testing.assert_allclose(mean, without.mean_and_deviation(asked)[0], rtol=1e-3, atol=1e-4)
    at_points, _ = posterior.mean_and_deviation(points)
    np.testing.assert_allclose(posterior.expected, at_points, rtol=1e-3, atol=1e-4)
    known = np.concatenate([0.6 * noise, [0.05] * 8]) + JITTER
    anything = np.concatenate([values, [5.0] * 8])
    expected = reference(kernel, np.vstack([points, pending]), anything, known).predict(asked, return_std=True)[1]
    np.testing.assert_allclose(deviation, expected, rtol=1e-3, atol=1e-4)


def test_the_fitted_kernel_is_the_most_probable_one():
    points, values, noise = some()
    found = fit(points, values, noise, iterations=200)
    mean, spread = np.log([0.7] * 3 + [1, 1]), np.array([0.9] * 3 + [0.7] * 2)

    def probability(logs):
        kernel = Kernel.from_logs(logs)
        told = reference(kernel, points, values, kernel.noise * noise + JITTER)
        return told.log_marginal_likelihood() - 0.5 * (((logs - mean) / spread) ** 2).sum()

    best = probability(found)
    assert best > probability(mean)
    for index in range(5):
        for step in (-0.05, 0.05):
            other = found.copy()
            other[index] += step
            assert probability(other) < best


def test_values_are_found_to_depend_on_what_they_depend_on():
    kernel = Kernel.from_logs(fit(*some(80)))
    assert 2 * kernel.lengths[0] < kernel.lengths[1:].min()


def test_equal_points_do_no_harm(kernel):
    points = np.full((30, 3), 0.5)
    values = np.linspace(-1, 1, 30)
    posterior = Posterior(Kernel.from_logs(fit(points, values, np.zeros(30))), points, values, np.zeros(30), points)
    mean, deviation = posterior.mean_and_deviation(points[:1])
    assert mean == pytest.approx(0.0, abs=1e-6)
    assert 0 <= deviation < 0.1
