"""The best value over time: what it cost in epochs and in seconds."""

import pytest

from tune.report.best import Step, best_section, improvements, steps_range, unit
from tune.trials import Trial


def trial(number, values, saved, state="completed", **more):
    return Trial(number, {}, state, values, saved_at=saved, ended_at=max(saved.values(), default=9.0), **more)


def test_epochs_of_all_trials_count_in_the_order_in_which_they_were_saved():
    trials = [trial(0, {1: 0.5, 2: 0.7}, {1: 1.0, 2: 4.0}), trial(1, {1: 0.6, 2: 0.65}, {1: 2.0, 2: 3.0})]
    assert improvements(trials, maximize=True) == [
        Step(1, 1.0, 0.5, 0),
        Step(2, 2.0, 0.6, 1),
        Step(3, 3.0, 0.65, 1),
        Step(4, 4.0, 0.7, 0),
    ]
    assert improvements(trials, maximize=False) == [Step(1, 1.0, 0.5, 0)]


def test_what_went_wrong_costs_epochs_and_wins_nothing():
    trials = [trial(0, {1: 0.9}, {1: 1.0}, state="diverged"), trial(1, {1: 0.6, 2: float("nan")}, {1: 2.0, 2: 3.0})]
    assert improvements(trials, maximize=True) == [Step(2, 2.0, 0.6, 1)]


def test_an_epoch_without_a_checkpoint_counts_when_the_next_is_saved_and_a_parents_are_not_counted():
    trials = [trial(0, {1: 0.5, 2: 0.7}, {2: 4.0}), trial(1, {1: 0.9, 2: 0.8}, {2: 3.0}, parent=(0, 1))]
    assert improvements(trials, maximize=True) == [Step(1, 3.0, 0.8, 1)]


def test_an_audit_costs_epochs_and_improves_nothing():
    stopped = trial(0, {1: 0.5}, {1: 1.0}, "stopped")
    stopped.audit = trial(0, {1: 0.5, 2: 0.9, 3: 0.9}, {2: 2.0, 3: 4.0})
    later = trial(1, {1: 0.6}, {1: 3.0})
    assert improvements([stopped, later], maximize=True) == [Step(1, 1.0, 0.5, 0), Step(3, 3.0, 0.6, 1)]


def test_the_first_values_of_many_are_out_of_sight():
    steps = [Step(1, 0, 0.1, 0), Step(10, 0, 0.5, 0), Step(1000, 0, 0.6, 0)]
    low, high = steps_range([steps])
    assert 0.4 < low < 0.5
    assert high > 0.6
    assert steps_range([[]]) is None


@pytest.mark.parametrize(("seconds", "name"), [(30, "seconds"), (600, "minutes"), (50_000, "hours")])
def test_the_unit_fits(seconds, name):
    assert unit(seconds)[0] == name


def test_the_section_says_both_in_words(searched):
    known = searched()
    html = best_section(known).html
    best = max(value for trial in known.trials for value in trial.values.values())
    assert f"to {best:.4f}" in html
    assert f"of the {sum(trial.trained for trial in known.trials)} epochs that all trials trained." in html
