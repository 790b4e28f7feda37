import time

import pytest

from tune.limits import Limits
from tune.sections import SearchConfig
from tune.trials import State, Trial


def limits(elapsed: float = 0.0, **search: object) -> Limits:
    return Limits(SearchConfig.model_validate(search), elapsed)


def trial(number: int, *values: float, state: State = "completed") -> Trial:
    return Trial(number, {}, state, dict(enumerate(values, start=1)))


def test_without_limits_nothing_ends_a_search():
    unlimited = limits(1e9)
    for number in range(100):
        unlimited.trained(trial(number, 0.5), 10_000)
        unlimited.ended(trial(number, 0.5))
    assert unlimited.reason == ""


def test_time_of_earlier_sessions_counts():
    assert limits(elapsed=59, time_budget_s=60).reason == ""
    assert limits(elapsed=61, time_budget_s=60).reason == "the search's 60 s were up (search.time_budget_s)"


def test_time_goes_on():
    short = limits(elapsed=10, time_budget_s=10.02)
    assert short.reason == ""
    time.sleep(0.03)
    assert short.reason == "the search's 10.02 s were up (search.time_budget_s)"
    assert short.elapsed >= 10.03


def test_epochs_of_all_trials_add_up():
    budget = limits(epoch_budget=5)
    budget.trained(trial(0, 0.1, 0.2, 0.3), 3)
    budget.trained(trial(1, 0.1), 1)
    budget.trained(trial(1, 0.1), 0)  # trained again
    assert budget.reason == ""
    budget.trained(trial(1, 0.1, 0.2), 1)
    assert budget.reason == "the search's 5 epochs were trained (search.epoch_budget)"


@pytest.mark.parametrize(
    ("metric", "below", "at", "words"),
    [
        ("val_accuracy", 0.89, 0.9, "trial 1 reached val_accuracy 0.9 (search.target 0.9)"),
        ("val_loss", 0.91, 0.9, "trial 1 reached val_loss 0.9 (search.target 0.9)"),
    ],
)
def test_the_target_ends_the_search_in_the_metrics_direction(metric, below, at, words):
    target = limits(metric=metric, target=0.9)
    target.trained(trial(0, below), 1)
    assert target.reason == ""
    target.trained(trial(1, below, at), 1)
    assert target.reason == words


@pytest.mark.parametrize("sign", [1, -1])
def test_patience_counts_ended_trials_since_the_last_improvement(sign):
    patient = limits(metric="val_loss", mode="max" if sign > 0 else "min", patience=3)
    reasons = []
    for number, value in enumerate([0.5, 0.4, 0.5, 0.6, 0.6, 0.1, 0.59]):
        patient.ended(trial(number, sign * value))
        reasons.append(bool(patient.reason))
    assert reasons == [False] * 6 + [True]
    assert patient.reason == "3 trials did not improve val_loss (search.patience)"


@pytest.mark.parametrize("sign", [1, -1])
def test_an_improvement_must_be_larger_than_the_smallest_that_counts(sign):
    mode = "max" if sign > 0 else "min"
    patient = limits(metric="val_loss", mode=mode, patience=2, min_improvement=0.125)
    for number, value in enumerate([0.5, 0.625, 0.75, 0.8, 0.875]):
        patient.ended(trial(number, sign * value))
        assert bool(patient.reason) == (number == 4)
    assert patient.reason == "2 trials did not improve val_loss by more than 0.125 (search.patience)"


def test_trials_without_a_value_try_the_patience_too():
    patient = limits(patience=2)
    patient.ended(trial(0, state="failed"))
    assert patient.reason == ""
    patient.ended(trial(1, state="diverged"))
    assert patient.reason == "2 trials did not improve val_accuracy (search.patience)"


def test_the_first_reason_stays():
    both = limits(elapsed=100, time_budget_s=60, epoch_budget=1)
    both.trained(trial(0, 0.1), 1)
    both.reason = "something else"
    assert both.reason == "the search's 1 epochs were trained (search.epoch_budget)"
