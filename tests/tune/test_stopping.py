import math
from collections import Counter
from statistics import fmean, median

import pytest

from tune.rungs import Rungs
from tune.sections import SchedulerConfig, SearchConfig
from tune.stopping import Brackets, Median, make_rule


def made(**scheduler: object):
    return make_rule(SchedulerConfig.model_validate(scheduler), SearchConfig())


@pytest.mark.parametrize(
    ("scheduler", "rule"),
    [
        (
            {"type": "asha", "grace_period": 2, "reduction_factor": 3, "max_epochs": 20, "min_peers": 7},
            Rungs((2, 6, 18), 3, True, 7),
        ),
        (
            {"type": "hyperband", "grace_period": 2, "reduction_factor": 3, "max_epochs": 20},
            Brackets((2, 6, 18), 3, True),
        ),
        ({"type": "median", "grace_period": 4}, Median(4, True, 3)),
        ({"type": "median", "grace_period": 4, "min_peers": 1}, Median(4, True, 1)),
        ({"type": "none"}, Rungs((), 4, True)),
        ({"type": "pbt"}, Rungs((), 4, True)),
    ],
)
def test_each_scheduler_has_its_rule(scheduler, rule):
    assert made(**scheduler) == rule


@pytest.mark.parametrize("scheduler", ["none", "pbt"])
def test_some_schedulers_stop_nothing(scheduler):
    rule = made(type=scheduler)
    assert [rule.judge(number, epoch, -number) for number in range(9) for epoch in range(1, 9)] == [None] * 72


# Brackets


def test_a_brackets_share_of_trials_is_inverse_to_its_cost():
    """Hyperband's number of configurations: n_s = ceil((s_max + 1) / (s + 1) * eta**s) for s further rungs."""
    brackets = Brackets((1, 3, 9), 3, maximize=True)
    counts = Counter(brackets.bracket(number) for number in range(500))
    weights = {skipped: 3 ** (3 - skipped) / (3 - skipped + 1) for skipped in range(4)}
    total = sum(weights.values())
    for skipped, weight in weights.items():
        assert abs(counts[skipped] - 500 * weight / total) <= 2


def test_a_trials_bracket_follows_from_its_number_whatever_was_asked_before():
    one, other = Brackets((1, 3, 9), 3, maximize=True), Brackets((1, 3, 9), 3, maximize=True)
    backwards = {number: other.bracket(number) for number in reversed(range(40))}
    assert {number: one.bracket(number) for number in range(40)} == backwards


def test_the_first_trials_are_of_the_bracket_with_the_most_rungs():
    brackets = Brackets((1, 3), 3, maximize=True)
    assert brackets.bracket(0) == 0
    assert set(map(brackets.bracket, range(12))) == {0, 1, 2}


def test_trials_are_compared_within_their_bracket_from_its_first_rung_on():
    brackets = Brackets((1, 3), 3, maximize=True)
    members: dict[int, list[int]] = {}
    for number in range(40):
        members.setdefault(brackets.bracket(number), []).append(number)
    for number in members[0][:2]:
        verdict = brackets.judge(number, 1, 0.9)
        assert verdict is not None
        assert verdict.passes
    late = members[1][0]
    assert brackets.judge(late, 1, 0.1) is None, "its bracket begins later"
    assert brackets.judge(late, 3, 0.1).peers == 1, "of other brackets none counts"
    assert [brackets.judge(members[2][0], epoch, 0.1) for epoch in (1, 3)] == [None, None], "trained to the end"
    third = brackets.judge(members[0][2], 1, 0.1)
    assert str(third) == "stopped at rung 1: 0.1 ranks 3 of 3, 1 pass (cutoff 0.9)"


def test_recorded_values_stand_in_their_bracket():
    told, recorded = Brackets((1, 3), 3, maximize=True), Brackets((1, 3), 3, maximize=True)
    for number in range(20):
        told.judge(number, 1, 0.9 - number / 100)
        recorded.record(number, 1, 0.9 - number / 100)
    assert told.judge(20, 1, 0.85) == recorded.judge(20, 1, 0.85)


# Median


def test_a_trial_below_the_median_of_the_others_means_is_stopped():
    rule = Median(grace_period=1, maximize=True, min_peers=2)
    curves = {0: [0.1, 0.5], 1: [0.3, 0.7]}
    for number, curve in curves.items():
        for epoch, value in enumerate(curve, start=1):
            assert rule.judge(number, epoch, value) is None, "too few others"
    assert rule.judge(2, 1, 0.25).passes
    stopped = rule.judge(2, 2, 0.35)
    assert str(stopped) == "stopped at epoch 2: best 0.35, median of 2 running means 0.4"
    assert not stopped.passes
    assert str(rule.judge(3, 1, 0.9)) == "passes epoch 1: best 0.9, median of 3 running means 0.25"


def test_nothing_is_stopped_before_the_grace_period():
    rule = Median(grace_period=3, maximize=True, min_peers=1)
    for epoch in (1, 2, 3):
        rule.record(0, epoch, 0.9)
    assert [rule.judge(1, epoch, 0.1) for epoch in (1, 2)] == [None, None]
    assert not rule.judge(1, 3, 0.1).passes


def test_the_best_so_far_saves_a_trial_that_dips():
    rule = Median(grace_period=1, maximize=True, min_peers=1)
    for epoch in (1, 2):
        rule.record(0, epoch, 0.5)
    rule.record(1, 1, 0.6)
    assert rule.judge(1, 2, 0.1).passes


@pytest.mark.parametrize("maximize", [True, False])
def test_decisions_are_those_of_the_definition(maximize):
    rule = Median(grace_period=2, maximize=maximize, min_peers=3)
    curves = [[math.sin(number * 7 + epoch * 3) for epoch in range(1, 7)] for number in range(12)]
    decided = 0
    for number, curve in enumerate(curves):
        for epoch, value in enumerate(curve, start=1):
            decision = rule.judge(number, epoch, value)
            means = [fmean(other[:epoch]) for other in curves[:number]]
            if epoch < 2 or len(means) < 3:
                assert decision is None
                continue
            best = max(curve[:epoch]) if maximize else min(curve[:epoch])
            assert decision.median == median(means)
            assert decision.passes == (best >= median(means) if maximize else best <= median(means))
            decided += 1
    assert decided == 9 * 5
