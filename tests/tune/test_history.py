import copy

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from tune.history import History

LEVELS = (2, 8, 32)


def seen(trials: list[FrozenTrial], maximize: bool = True) -> dict[int, tuple[str, float | None]]:
    """What a sampler is shown: by number, state and value."""
    trials = [copy.copy(trial) for trial in trials]
    for number, trial in enumerate(trials):
        trial.number = number
    view = History(LEVELS).comparable(trials, maximize)
    return {trial.number: (trial.state.name, trial.value) for trial in view}


def test_the_highest_level_is_learned_from_that_two_more_trials_than_parameters_reached(past, flat) -> None:
    long, short = [past(flat(8, 0.8), a=0.1, b=0.2)] * 4, [past(flat(2, 0.2), a=0.1, b=0.2)] * 9
    few = [past(flat(32, 0.9), TrialState.COMPLETE, a=0.3, b=0.3)] * 3
    assert set(seen([*short, *long]).values()) == {("COMPLETE", 0.8)}
    assert len(seen([*short, *long])) == 4
    assert len(seen([*short, *long[1:]])) == 12  # one fewer, and it is the level below, which all reached
    assert sorted(seen([*short, *long, *few]).values()) == [("COMPLETE", 0.8)] * 4 + [("COMPLETE", 0.9)] * 3
    assert seen(short[:3]) == {}


def test_values_are_those_at_the_level_whatever_came_later(past) -> None:
    rising = [past({1: 0.0, 2: 0.1, 5: 0.6}, a=0.5) for _ in range(3)]
    assert seen(rising) == dict.fromkeys(range(3), ("COMPLETE", 0.1))


def test_a_trial_that_ended_early_by_itself_counts_with_its_last_value(past, flat) -> None:
    early = past({1: 0.3, 2: 0.4, 3: 0.7}, TrialState.COMPLETE, a=0.5)
    others = [past(flat(8), a=0.5) for _ in range(2)]
    assert seen([early, *others])[0] == ("COMPLETE", 0.7)


def test_running_and_paused_trials_count_at_the_levels_they_passed_and_stopped_ones_do_not_below(past, flat) -> None:
    others = [past(flat(8), a=0.5) for _ in range(3)]
    beyond = past(flat(9, 0.7), TrialState.RUNNING, a=0.5)
    paused_there, paused_below = (past(flat(rung, 0.6), TrialState.RUNNING, a=0.5) for rung in (8, 2))
    on_its_way, fresh = (past(flat(epochs), TrialState.RUNNING, a=0.5) for epochs in (3, 0))
    stopped = past(flat(2, 0.9), a=0.5)
    view = seen([beyond, paused_there, paused_below, on_its_way, fresh, stopped, *others])
    assert {number: view.get(number) for number in range(6)} == {
        0: ("COMPLETE", 0.7),
        1: ("COMPLETE", 0.6),
        2: None,
        3: None,
        4: None,
        5: None,
    }


@pytest.mark.parametrize(("maximize", "worst"), [(True, 0.2), (False, 0.6)])
def test_a_diverged_trial_counts_as_the_worst_and_a_failed_one_not_at_all(
    maximize: bool, worst: float, past, flat
) -> None:
    others = [past(flat(8, value), a=0.5) for value in (0.2, 0.6, 0.4)]
    diverged = past(flat(1, 0.99), TrialState.FAIL, why="diverged", a=0.5)
    failed = past(flat(8, 0.99), TrialState.FAIL, why="failed", a=0.5)
    view = seen([diverged, failed, *others], maximize)
    assert view[0] == ("COMPLETE", worst)
    assert 1 not in view


def test_a_trial_is_looked_at_again_until_it_ends(past, flat) -> None:
    history = History(LEVELS)
    going = past(flat(2, 0.1), TrialState.RUNNING, number=0, a=0.5)
    others = [past(flat(8), number=number, a=0.5) for number in range(1, 4)]
    assert 0 not in [trial.number for trial in history.comparable([going, *others], maximize=True)]
    ended = past(flat(8, 0.3), number=0, a=0.5)
    assert [trial.value for trial in history.comparable([ended, *others], maximize=True)] == [0.3, 0.5, 0.5, 0.5]


def test_rows_of_a_study_that_grows_and_changes_are_those_of_one_seen_at_once(past, flat) -> None:
    history, trials = History(LEVELS), []
    for number in range(40):
        trials.append(past({}, TrialState.RUNNING, number=number, a=number / 40))
        history.look(trials)
        assert history.pending() == [
            trial for trial in trials if trial.state is TrialState.RUNNING and not trial.intermediate_values
        ]
        if number > 2:  # one goes on, another one ends
            trials[number - 1] = past(flat(2, number), TrialState.RUNNING, number=number - 1, a=0.5)
            broken = {"state": TrialState.FAIL, "why": "diverged"} if number % 5 == 0 else {}
            trials[number - 2] = past(flat(8, number), number=number - 2, a=0.5, **broken)
    history.look(trials)
    at_once = History(LEVELS)
    at_once.look(trials)
    np.testing.assert_array_equal(history.values, at_once.values)
    np.testing.assert_array_equal(history.shows, at_once.shows)
    assert history.params == at_once.params == [trial.params for trial in trials]
