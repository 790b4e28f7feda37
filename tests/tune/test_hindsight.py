"""What an audit says, on searches whose truth is known."""

import random

import pytest

from tune.hindsight import hindsight, rank_correlations
from tune.sections import SchedulerConfig, SearchConfig
from tune.trials import Trial, beyond

SEARCH = SearchConfig(metric="val_accuracy")
PLAN = SchedulerConfig(type="asha", mode="stop", max_epochs=4, reduction_factor=4, audit=0.3)


def searched(curves: list[list[float]], audited, keep: int, minimize: bool = False) -> list[Trial]:
    """The best `keep` after epoch 1 got to the end, the others were stopped there. audited: numbers."""
    order = sorted(range(len(curves)), key=lambda number: curves[number][0], reverse=not minimize)
    trials = []
    for number, values in enumerate(curves):
        curve = dict(enumerate(values, start=1))
        trial = Trial(number, {}, "completed", curve, attempts=1)
        if number in order[keep:]:
            trial = Trial(number, {}, "stopped", {1: values[0]}, "stopped at rung 1: …", attempts=1)
            if number in audited:
                trial.audit = beyond(trial)
                trial.audit.values |= curve
                trial.audit.state = "completed"
        trials.append(trial)
    return trials


def crossing(chance: random.Random, trials: int = 80) -> list[list[float]]:
    """Curves whose first value says little of the last one."""
    curves = []
    for _ in range(trials):
        first = chance.uniform(0.1, 0.5)
        last = 0.4 + 0.2 * first + 0.1 * chance.gauss(0, 1)
        curves.append([first, (first + last) / 2, last - 0.01, max(first, last)])
    return curves


def test_the_share_that_would_have_won_and_what_stopping_cost_are_those_of_the_truth():
    seeds, share_held, cost_held, estimates, truths = 60, 0, 0, 0.0, 0.0
    for seed in range(seeds):
        chance = random.Random(seed)
        curves = crossing(chance)
        audited = [number for number in range(len(curves)) if chance.random() < 0.3]
        told = hindsight(SEARCH, PLAN, searched(curves, audited, keep=20))
        found = told.found
        ends = [max(curves[trial.number]) for trial in told.stopped]
        share = sum(end > found for end in ends) / len(ends)
        cost = max(0.0, max(ends) - found)
        assert told.regret.low <= told.regret.value <= told.regret.high
        share_held += told.share[1] <= share <= told.share[2]
        cost_held += told.regret.low - 1e-9 <= cost <= told.regret.high + 1e-9
        estimates, truths = estimates + told.regret.value, truths + cost
    assert share_held >= 0.9 * seeds
    assert cost_held >= 0.85 * seeds
    assert estimates == pytest.approx(truths, rel=0.35)


def test_where_all_were_audited_the_cost_is_exact():
    curves = [[0.9, 0.9, 0.9, 0.9], [0.5, 0.6, 0.8, 0.97], [0.4, 0.5, 0.6, 0.7], [0.3, 0.3, 0.3, 0.3]]
    told = hindsight(SEARCH, PLAN, searched(curves, [1, 2, 3], keep=1))
    assert (told.found, [trial.number for trial in told.winners]) == (0.9, [1])
    assert (told.regret.value, told.regret.low, told.regret.high) == (pytest.approx(0.07),) * 3
    assert told.share[0] == pytest.approx(1 / 3)
    few = hindsight(SEARCH, PLAN, searched(curves, [1], keep=1))
    assert few.regret is None, "one curve is no line"
    assert hindsight(SEARCH, PLAN, searched(curves, [], keep=1)) is None


def test_a_lower_metric_is_better_where_it_is():
    curves = [[0.1, 0.1, 0.1, 0.1], [0.5, 0.4, 0.2, 0.04], [0.6, 0.5, 0.4, 0.3]]
    search = SearchConfig(metric="val_loss")
    told = hindsight(search, PLAN, searched(curves, [1, 2], keep=1, minimize=True))
    assert ([trial.number for trial in told.winners], told.regret.value) == ([1], pytest.approx(0.06))


def test_the_grace_period_that_would_have_been_enough():
    flat = [[0.5 + number / 100] * 4 for number in range(7)]
    late = [0.1, 0.2, 0.9, 0.95]  # the eighth of eight until the third epoch
    told = hindsight(SEARCH, PLAN, searched([*flat, late], range(8), keep=2))
    assert [trial.number for trial in told.winners] == [7]
    assert told.enough_grace == 3
    nobody = hindsight(SEARCH, PLAN, searched([*flat, [0.1] * 4], range(8), keep=2))
    assert (nobody.winners, nobody.enough_grace) == ([], 1)
    last = hindsight(SEARCH, PLAN, searched([*flat, [0.1, 0.1, 0.1, 0.95]], range(8), keep=2))
    assert last.enough_grace is None


def test_an_audited_trial_stands_for_those_that_were_stopped_with_it():
    """Of 40, 30 were stopped; with a tenth of these audited, three in ten of the pool stand for three in four."""
    curves = (
        [[0.6, 0.3, 0.3, 0.3] for _ in range(10)] + [[0.5, 0.4, 0.4, 0.4] for _ in range(29)] + [[0.1, 0.9, 0.9, 0.95]]
    )
    told = hindsight(SEARCH, PLAN, searched(curves, [10, 11, 39], keep=10))
    assert told.enough_grace == 2, "the one passes with ten like it, of forty"


def test_accidents_and_what_waits_are_told_apart():
    trials = searched([[0.9] * 4, [0.5] * 4, [0.4] * 4, [0.3] * 4], [1, 2, 3], keep=1)
    trials[1].audit.state = "diverged"
    trials[2].audit.state = "failed"
    trials[3].audit.state = "paused"
    told = hindsight(SEARCH, PLAN, trials)
    assert ([trial.number for trial in told.audited], told.failed, told.waiting) == ([1], 1, 1)
    assert told.winners == []
    trials[1].audit.values[4] = 0.99
    assert hindsight(SEARCH, PLAN, trials).winners == [], "what diverged never wins"


def test_rank_correlations_over_whole_curves():
    curves = [[(9 - n) / 100, n / 20, 0.5, 0.5 + n / 100] for n in range(10)]
    trials = searched(curves, range(10), keep=4)
    told = rank_correlations(trials, maximize=True)
    assert set(told) == {1, 2, 4}, "after epoch 3 all are equal"
    assert (told[1], told[2], told[4]) == (pytest.approx(-1), pytest.approx(1), pytest.approx(1))
    assert rank_correlations(searched(curves, [], keep=4), maximize=True) == {}


def test_an_epoch_that_a_trial_of_a_population_began_after_is_left_out():
    whole = [Trial(n, {}, "completed", {1: 0.1 * n, 2: 0.1 * n, 3: 0.2 * n}) for n in range(6)]
    born = Trial(6, {}, "completed", {3: 0.5}, parent=(5, 2))
    assert set(rank_correlations([*whole, born], maximize=True)) == {3}
