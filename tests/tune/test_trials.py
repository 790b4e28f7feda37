import math

import pytest

from tune.trials import Trial, best_trial


def trial(number: int, values: list[float]) -> Trial:
    return Trial(number, {}, "completed", dict(enumerate(values, start=1)))


def test_a_new_trial_is_running_and_has_no_epochs():
    fresh = Trial(0, {"width": 0.5})
    assert (fresh.state, fresh.epochs, fresh.best(True)) == ("running", 0, None)


def test_an_audit_costs_epochs_and_seconds_and_takes_a_slot():
    one = Trial(0, {}, "stopped", {1: 0.1}, seconds=2.0)
    assert (one.trained, one.audited, one.spent, one.in_slot) == (1, 0, 2.0, False)
    one.audit = Trial(0, {}, "running", {1: 0.1, 2: 0.2, 3: 0.3}, seconds=6.5)
    assert (one.trained, one.audited, one.spent, one.in_slot) == (3, 2, 6.5, True)


def test_epochs_are_those_trained_even_if_some_gave_no_value():
    assert Trial(0, {}, values={1: 0.1, 4: math.nan}).epochs == 4


@pytest.mark.parametrize(
    ("values", "maximize", "best"),
    [
        ([0.1, 0.9, 0.5], True, (2, 0.9)),
        ([0.1, 0.9, 0.5], False, (1, 0.1)),
        ([0.9, 0.9, 0.9], True, (3, 0.9)),
        ([0.2, 0.1, 0.1], False, (3, 0.1)),
        ([math.nan, 0.3, math.inf], True, (2, 0.3)),
        ([-math.inf, 0.3], False, (2, 0.3)),
        ([math.nan, math.inf], True, None),
        ([], True, None),
    ],
)
def test_the_best_value_is_finite_and_the_latest_of_equals(values, maximize, best):
    assert trial(0, values).best(maximize) == best


def test_the_best_trial_is_the_one_with_the_best_value_at_any_epoch():
    trials = [trial(0, [0.5, 0.6]), trial(1, [0.8, 0.1]), trial(2, [0.7, 0.7])]
    assert best_trial(trials, maximize=True) is trials[1]
    assert best_trial(trials, maximize=False) is trials[1]


def test_of_equal_trials_the_one_with_fewer_epochs_wins_then_the_earlier_one():
    slow, quick, later = trial(0, [0.1, 0.9]), trial(1, [0.9]), trial(2, [0.9])
    assert best_trial([slow, later, quick], maximize=True) is quick
    assert best_trial([later, slow], maximize=True) is later


@pytest.mark.parametrize("trials", [[], [trial(0, [])], [trial(0, [math.nan]), trial(1, [math.inf])]])
def test_no_value_no_best_trial(trials):
    assert best_trial(trials, maximize=True) is None


def test_neither_failed_nor_diverged_trials_are_the_best():
    sound = Trial(2, {}, "stopped", {1: 0.1})
    trials = [Trial(0, {}, "failed", {1: 0.9}), Trial(1, {}, "diverged", {1: 0.8}), sound]
    assert best_trial(trials, maximize=True) is sound
