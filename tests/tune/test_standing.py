"""The figures of a search, which every view shows."""

import pytest

from tune.limits import Limits
from tune.recorded import read_experiment
from tune.rungs import expected_epochs
from tune.standing import Goal, Standing, duration
from tune.trials import Trial


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def standing(experiment):
    def make(*fields: str, slots: int = 2, elapsed: float = 0.0) -> Standing:
        one = experiment(*fields)
        return Standing(one, slots, Limits(one.search, elapsed), elapsed)

    return make


def trial(number: int, state: str, *values: float, each: float = 0.0) -> Trial:
    curve = dict(enumerate(values, start=1))
    return Trial(number, {}, state, curve, attempts=1, seconds=each * len(values))


def test_a_trial_that_changes_is_counted_once(standing):
    one, told = trial(0, "running", 0.5, each=2.0), standing()
    told.update(one)
    one.values[2], one.seconds = 0.7, 4.0
    told.update(one)
    told.update(trial(1, "running", 0.6, each=2.0))
    assert (told.states, told.epochs, told.epoch_seconds, told.busy) == ({"running": 2}, 3, 2.0, 2)
    assert (told.best.number, told.best_value) == (0, (2, 0.7))
    one.state = "completed"
    told.update(one)
    told.update(one)
    assert (told.states, told.ended, told.ends) == ({"completed": 1, "running": 1}, 1, [one])


def test_the_best_is_taken_back_when_it_fails(standing):
    told = standing()
    first, second = trial(0, "running", 0.9), trial(1, "running", 0.6)
    for one in (first, second):
        told.update(one)
    assert told.best is first
    first.state = "diverged"
    told.update(first)
    assert told.best is second


def test_figures_recalled_are_those_of_a_search_that_was_followed(begun, standing):
    one = begun("one", "search.trials=6", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", slots=2)
    told = standing("search.trials=6")
    one.conductor.told = told.update
    one.run()
    again = standing("search.trials=6")
    again.recall(one.record.trials())
    assert (again.states, again.epochs, again.ended) == (told.states, told.epochs, told.ended)
    assert again.best.number == told.best.number
    assert [each.number for each in again.ends] == [each.number for each in told.ends]


def test_audits_are_the_same_live_and_from_the_directory(begun, standing, storage):
    fields = ("scheduler.mode=stop", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "scheduler.audit=1")
    fields = (*fields, "search.trials=4", "search.sampler=random")
    values = [[0.9] * 4, *[[0.5 - number / 10] * 4 for number in range(3)]]
    one = begun("one", *fields, value=values, slots=2)
    live = standing(*fields)
    one.conductor.told = one.conductor.audits._told = live.update
    one.record.slots = 2
    while len(one.conductor.audits.live) < 2:
        one.fill()
        one.train(min(set(one.epoch) - set(one.conductor.audits.live)))
        one.fill()
    one.train(min(one.epoch))
    directory = read_experiment(str(storage), "one", "status").directory
    with directory.locked():
        read = standing(*fields)
        read.recall(read_experiment(str(storage), "one", "status").trials)
    assert (live.audits["running"], live.audits["paused"]) == (2, 1)
    figures = [(s.busy, s.epochs, s.epochs_left(), +s.audits, s.states, s.ended) for s in (live, read)]
    assert figures[0] == figures[1]


def test_every_limit_that_is_set_is_a_goal(standing):
    limits = ("search.time_budget_s=60", "search.epoch_budget=50", "search.target=0.9", "search.patience=3")
    told = standing("search.trials=4", *limits, elapsed=12.0)
    assert told.goals()[3] == Goal("search.target", None, 0.9)
    told.update(trial(0, "completed", 0.5, 0.8))
    assert told.goals() == [
        Goal("search.trials", 1, 4),
        Goal("search.epoch_budget", 2, 50),
        Goal("search.time_budget_s", 12.0, 60),
        Goal("search.target", 0.8, 0.9),
        Goal("search.patience", 0, 3),
    ]
    assert [goal.field for goal in standing().goals()] == ["search.trials"]


ASHA = ("search.trials=27", "scheduler.max_epochs=9", "scheduler.reduction_factor=3")


def test_before_anything_is_trained_what_is_left_is_what_a_search_is_expected_to_cost(standing):
    told = standing(*ASHA)
    assert told.epochs_left() == expected_epochs(27, (1, 3), 3, 9)
    assert told.seconds_left() is None


def test_what_is_left_by_rungs_counts_what_was_trained(standing):
    told = standing(*ASHA)
    for number in range(18):
        told.update(trial(number, "paused", 0.5, each=3.0))
    expected = expected_epochs(27, (1, 3), 3, 9) - 18
    assert told.epochs_left() == expected
    assert told.seconds_left() == pytest.approx(expected * 3.0 / 2)


def test_rungs_that_let_more_through_than_they_should_are_taken_as_they_are(standing):
    told = standing(*ASHA, "scheduler.mode=stop")
    for number in range(9):
        told.update(trial(number, "running" if number < 6 else "stopped", 0.5, *([0.6] if number < 6 else [])))
    # of 27 trials 18 to rung 3, of which a third goes to the end
    assert told.epochs_left() == (27 - 9) + (18 * 2 - 6) + 6 * 6


def test_the_dead_cost_no_more(standing):
    told = standing(*ASHA)
    for number in range(24):
        told.update(trial(number, "failed"))
    assert told.epochs_left() == expected_epochs(3, (1, 3), 3, 9)


def test_without_rungs_trials_become_as_long_as_those_that_ended(standing):
    told = standing("search.trials=10", "scheduler.type=median", "scheduler.max_epochs=20")
    assert told.epochs_left() == 200
    for number in range(4):
        told.update(trial(number, "stopped", *[0.5] * 5))
    told.update(trial(4, "running", 0.5, 0.5))
    assert told.epochs_left() == 3 + 5 * 5


def test_a_population_trains_each_line_to_the_end(standing):
    told = standing("search.trials=4", "scheduler.type=pbt", "scheduler.max_epochs=10", "scheduler.grace_period=2")
    for number in range(4):
        told.update(trial(number, "running", 0.5, 0.6))
    assert told.epochs_left() == 4 * 10 - 8


def audited(number: int, state: str, *values: float, each: float = 0.0) -> Trial:
    one = trial(number, "stopped", values[0], each=each)
    one.audit = trial(number, state, *values, each=each)
    return one


def test_audits_are_busy_and_left_and_their_epochs_and_seconds_count(standing):
    told = standing("search.trials=3", "scheduler.max_epochs=9", elapsed=10.0)
    told.update(trial(0, "completed", *[0.5] * 9, each=2.0))
    for number in (1, 2):
        told.update(audited(number, "paused", 0.4, each=2.0))
    assert (told.busy, told.epochs, told.epochs_left(), told.audits_left) == (0, 11, 16, 2)
    told.update(audited(1, "running", 0.4, 0.5, 0.9, each=2.0))
    assert (told.busy, told.epochs, told.epochs_left(), told.epoch_seconds) == (1, 13, 14, 2.0)
    assert told.seconds_left() == pytest.approx(14 * 2.0 / 2)
    assert (told.states, told.ended, told.best.number) == ({"completed": 1, "stopped": 2}, 3, 0)
    told.update(audited(1, "completed", *[0.4] * 9, each=2.0))
    told.update(audited(2, "failed", 0.4, each=2.0))
    assert (told.busy, told.epochs_left(), told.audits_left) == (0, 0, 0)


def test_only_a_budget_ends_audits_that_alone_are_left(standing):
    told = standing("search.trials=1", "scheduler.max_epochs=9", "search.epoch_budget=5")
    told.update(audited(0, "paused", 0.4))
    assert told.epochs_left() == 4
    told.limits.reason = "a target was reached"
    assert told.epochs_left() == 4
    told.limits.audited(5)
    assert told.epochs_left() == 0


def test_budgets_bound_what_is_left(standing):
    told = standing(*ASHA, "search.epoch_budget=20", "search.time_budget_s=30", elapsed=25.0)
    for number in range(5):
        told.update(trial(number, "paused", 0.5, each=4.0))
    assert (told.epochs_left(), told.seconds_left()) == (15, 5.0)


def test_the_last_trials_do_not_fill_all_slots(standing):
    told = standing("search.trials=2", "scheduler.type=none", "scheduler.max_epochs=10", slots=8)
    told.update(trial(0, "running", *[0.5] * 6, each=1.0))
    told.update(trial(1, "completed", *[0.5] * 10, each=1.0))
    assert told.seconds_left() == pytest.approx(4.0)


def test_nothing_is_left_of_what_is_over(standing):
    told = standing("search.trials=1", "scheduler.max_epochs=9")
    told.update(trial(0, "completed", 0.5))
    assert (told.epochs_left(), standing(*ASHA).epochs_left() > 0) == (0, True)
    over = standing(*ASHA)
    over.limits.reason = "a limit"
    assert over.epochs_left() == 0


def test_a_trial_that_was_proposed_and_not_begun_is_not_counted(standing):
    told = standing()
    told.recall([Trial(0, {}, "paused"), trial(1, "completed", 0.5)])
    assert told.states == {"completed": 1}
