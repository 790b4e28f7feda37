import math
import random

import pytest

from tune.rungs import Rungs, Verdict, expected_epochs, expected_trials, rung_epochs


def passes(rungs: Rungs, values: list[float], epoch: int = 1) -> list[bool]:
    verdicts = [rungs.judge(number, epoch, value) for number, value in enumerate(values)]
    return [verdict.passes for verdict in verdicts if verdict is not None]


@pytest.mark.parametrize(
    ("grace_period", "factor", "max_epochs", "epochs"),
    [
        (1, 3, 9, (1, 3)),
        (1, 3, 10, (1, 3, 9)),
        (2, 4, 30, (2, 8)),
        (2, 2, 16, (2, 4, 8)),
        (5, 4, 6, (5,)),
        (5, 4, 5, ()),  # the last epoch is the end, not a rung
        (1, 2, 1, ()),
        (7, 2, 3, ()),
    ],
)
def test_rungs_lie_a_factor_apart_below_the_end(grace_period, factor, max_epochs, epochs):
    assert rung_epochs(grace_period, factor, max_epochs) == epochs


@pytest.mark.parametrize(
    ("trials", "epochs", "factor", "reached"),
    [(27, (1, 3, 9), 3, (27, 9, 3, 1)), (16, (1, 3), 3, (16, 5, 1)), (2, (1, 4), 4, (2, 1, 1)), (5, (), 4, (5,))],
)
def test_expected_trials_thin_out_but_one_always_gets_to_the_end(trials, epochs, factor, reached):
    assert expected_trials(trials, epochs, factor) == reached


@pytest.mark.parametrize(
    ("trials", "epochs", "factor", "max_epochs", "cost"),
    [
        (16, (1, 3), 3, 9, 16 * 1 + 5 * 2 + 1 * 6),
        (27, (1, 3, 9), 3, 27, 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18),
        (5, (), 4, 30, 150),
        (1, (2, 8), 4, 30, 30),
    ],
)
def test_expected_epochs_add_up_from_rung_to_rung(trials, epochs, factor, max_epochs, cost):
    assert expected_epochs(trials, epochs, factor, max_epochs) == cost


def test_an_epoch_that_is_no_rung_gets_no_verdict_and_leaves_no_trace():
    rungs = Rungs((1, 3), 3, maximize=True)
    assert rungs.judge(0, 2, 0.5) is None
    assert rungs.judge(1, 2, math.nan) is None
    assert rungs.values == {}


def test_one_in_factor_passes():
    rungs = Rungs((1,), 3, maximize=True)
    assert passes(rungs, [0.1, 0.2, 0.3, 0.25, 0.35, 0.31]) == [True, True, True, False, True, True]


def test_nothing_is_stopped_before_factor_values_stand_at_a_rung():
    assert passes(Rungs((1,), 4, maximize=True), [0.9, 0.8, 0.7, 0.6]) == [True, True, True, False]


@pytest.mark.parametrize(("min_peers", "first_stop"), [(1, 1), (2, 1), (5, 4), (10, 9)])
def test_min_peers_says_when_stopping_begins(min_peers, first_stop):
    worsening = [1.0 - 0.01 * step for step in range(12)]
    assert passes(Rungs((1,), 2, maximize=True, min_peers=min_peers), worsening).index(False) == first_stop


def test_the_lowest_pass_when_minimizing():
    rungs = Rungs((1,), 2, maximize=False)
    assert passes(rungs, [0.5, 0.6, 0.4, 0.45, 0.7]) == [True, False, True, True, False]


@pytest.mark.parametrize("maximize", [True, False])
def test_of_equal_values_the_earlier_is_better(maximize):
    rungs = Rungs((1,), 2, maximize)
    assert passes(rungs, [0.5] * 8) == [True] + [False] * 7


def test_rungs_are_judged_apart():
    rungs = Rungs((1, 2), 2, maximize=True)
    passes(rungs, [0.9, 0.8, 0.7], epoch=1)
    verdict = rungs.judge(0, 2, 0.1)
    assert verdict is not None
    assert verdict.passes
    assert (verdict.rung, verdict.peers) == (2, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_not_kept(value):
    rungs = Rungs((1,), 2, maximize=True)
    with pytest.raises(ValueError, match=rf"^got {value}, a rung takes finite values$"):
        rungs.judge(0, 1, value)
    assert rungs.values == {}


def test_the_verdict_gives_its_reason():
    rungs = Rungs((3,), 2, maximize=True)
    for number, value in enumerate((0.9, 0.8)):
        rungs.judge(number, 3, value)
    stopped, passed = rungs.judge(2, 3, 0.7), rungs.judge(3, 3, 0.95)
    assert stopped == Verdict(passes=False, rung=3, value=0.7, rank=3, peers=3, keep=1, cutoff=0.9)
    assert str(stopped) == "stopped at rung 3: 0.7 ranks 3 of 3, 1 pass (cutoff 0.9)"
    assert str(passed) == "passes rung 3: 0.95 ranks 1 of 4, 2 pass (cutoff 0.9)"


@pytest.mark.parametrize("seed", range(20))
def test_verdicts_are_those_of_sorting_all_values_again(seed):
    """Against brute force: sort everything seen, best first and earlier first of equals, and look the value up."""
    draw = random.Random(seed)
    factor, maximize, min_peers = draw.randint(2, 5), draw.random() < 0.5, draw.randint(0, 8)
    rungs = Rungs((1, 4), factor, maximize, min_peers)
    seen: dict[int, list[float]] = {1: [], 4: []}
    for number in range(60):
        epoch, value = draw.choice([1, 4]), draw.randint(-5, 5) / 4  # few values, so many ties
        peers = seen[epoch]
        peers.append(value)
        order = sorted(range(len(peers)), key=lambda i: (-peers[i] if maximize else peers[i], i))
        rank = order.index(len(peers) - 1) + 1
        keep = max(1, len(peers) // factor)
        verdict = rungs.judge(number, epoch, value)
        assert verdict is not None
        assert verdict.rank == rank
        assert verdict.keep == keep
        assert verdict.cutoff == peers[order[keep - 1]]
        assert verdict.passes == (rank <= keep or len(peers) < (min_peers or factor))
    kept = {epoch: list(values.values()) for epoch, values in rungs.values.items()}
    assert kept == {epoch: values for epoch, values in seen.items() if values}


def test_a_value_that_is_told_twice_counts_once():
    rungs = Rungs((1,), 2, maximize=True)
    passes(rungs, [0.9, 0.8, 0.7])
    again = rungs.judge(1, 1, 0.8)
    assert again is not None
    assert (again.rank, again.peers, again.passes) == (2, 3, False)


def test_recorded_values_are_peers_as_judged_ones_are():
    told, recorded = Rungs((1, 3), 2, maximize=True), Rungs((1, 3), 2, maximize=True)
    for number, value in enumerate((0.9, 0.8, 0.7)):
        told.judge(number, 1, value)
        recorded.record(number, 1, value)
        recorded.record(number, 2, value)  # no rung
    assert told == recorded
    assert told.judge(3, 1, 0.85) == recorded.judge(3, 1, 0.85)


def at_rung(values: list[float], min_peers: int = 0) -> Rungs:
    rungs = Rungs((1, 3), 2, maximize=True, min_peers=min_peers)
    for number, value in enumerate(values):
        rungs.record(number, 1, value)
    return rungs


def promoted(rungs: Rungs, *paused: int, rung: int = 1, finishing: bool = False) -> int | None:
    found = rungs.promotable(dict.fromkeys(paused, rung), finishing=finishing)
    return found and found[0]


def test_the_best_paused_trial_is_promoted_while_it_is_in_the_best_share():
    rungs = at_rung([0.5, 0.9, 0.7, 0.6])
    found = rungs.promotable({0: 1, 1: 1, 2: 1, 3: 1})
    assert found is not None
    assert (found[0], str(found[1])) == (1, "passes rung 1: 0.9 ranks 1 of 4, 2 pass (cutoff 0.7)")
    assert promoted(rungs, 0, 2, 3) == 2
    assert promoted(rungs, 0, 3) is None
    assert promoted(rungs) is None


def test_the_highest_rung_is_promoted_from_first():
    rungs = at_rung([0.5, 0.9, 0.7, 0.6, 0.55, 0.4])
    rungs.record(1, 3, 0.95)
    rungs.record(2, 3, 0.96)
    found = rungs.promotable({0: 1, 1: 3, 2: 3, 3: 1})
    assert found is not None
    assert (found[0], found[1].rung) == (2, 3)
    found = rungs.promotable({0: 1, 1: 3, 3: 1})
    assert found is not None
    assert (found[0], found[1].rung) == (3, 1), "1 is not in the best half of rung 3"


def test_too_few_at_a_rung_wait_until_the_search_is_finishing():
    assert promoted(at_rung([0.5]), 0) is None
    assert promoted(at_rung([0.5]), 0, finishing=True) == 0
    rungs = at_rung([0.5, 0.9], min_peers=3)
    assert promoted(rungs, 0, 1) is None
    assert promoted(rungs, 0, 1, finishing=True) == 1
    assert promoted(rungs, 0, finishing=True) is None, "the best is through"


def test_of_equal_paused_values_the_earlier_trial_goes_on():
    rungs = at_rung([0.5, 0.5, 0.5, 0.5])
    assert promoted(rungs, 3, 1, 2, 0) == 0
    assert [rungs.standing(number, 1).rank for number in range(4)] == [1, 2, 3, 4]
    assert str(rungs.standing(3, 1)) == "stopped at rung 1: 0.5 ranks 4 of 4, 2 pass (cutoff 0.5)"


@pytest.mark.parametrize("seed", range(20))
def test_what_is_hopeless_is_never_promoted_and_the_rest_may_be(seed):
    chance = random.Random(seed)
    factor, trials = chance.choice([2, 3]), chance.randint(2, 30)
    rungs = Rungs((1, 3, 9), factor, maximize=chance.random() < 0.5)
    paused: dict[int, int] = {}
    hopeless: set[int] = set()
    coming = iter(range(trials))
    while True:
        found = rungs.promotable(paused)
        number = found[0] if found else next(coming, None)
        if number is None and (last := rungs.promotable(paused, finishing=True)):
            number = last[0]
        if number is None:
            break
        assert number not in hopeless
        epoch = {1: 3, 3: 9, 9: 27}[paused.pop(number)] if number in paused else 1
        if epoch < 27:
            rungs.record(number, epoch, chance.choice([0.1, 0.2, chance.random()]))
            paused[number] = epoch
        hopeless |= {one for one, _ in rungs.hopeless(paused, trials)}
    first = sorted(rungs.values[1].values(), reverse=rungs.maximize)
    spared = [number for number, epoch in paused.items() if epoch == 1 and number not in hopeless]
    most = max(1, trials // factor) + factor
    assert all(first.index(rungs.values[1][number]) < most for number in spared)
    assert hopeless <= set(paused)


def test_the_dead_give_up_their_places():
    rungs = at_rung([0.5, 0.9, 0.7, 0.6])
    assert promoted(rungs, 0, 3) is None
    rungs.forget(1)
    rungs.forget(2)
    assert rungs.values == {1: {0: 0.5, 3: 0.6}}
    assert promoted(rungs, 0, 3) == 3
