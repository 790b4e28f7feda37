import math

import pytest

from tune.averaging import PLAIN, UNCOMPARED, Evidence, Way, best_way, compared, uncompared, ways
from tune.sections import RetrainConfig

SWA, EMA = Way("scratch", "constant", "swa"), Way("scratch", "constant", "ema")
RAW = Way("scratch", "constant", "raw")
CHECKPOINT = Way("checkpoint", "constant", "swa")


def evidence(way, *values, losses=None, open=True):  # noqa: A002
    return Evidence(way, values, losses or values, open)


def test_all_ways_are_open_unless_the_plan_fixes_one():
    open_ = ways(RetrainConfig())
    assert len(open_) == 13
    assert open_[0] == PLAIN
    assert Way("checkpoint", "none", "raw") not in open_, "it would have seen no validation image"


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"start": "scratch", "lr_schedule": "constant"}, [RAW, SWA, EMA]),
        ({"lr_schedule": "none"}, [PLAIN]),
        ({"start": "checkpoint", "lr_schedule": "constant", "average": "swa"}, [CHECKPOINT]),
        ({"average": "raw", "start": "scratch"}, [PLAIN, RAW, Way("scratch", "cosine", "raw")]),
    ],
)
def test_what_a_plan_leaves_open(plan, expected):
    assert ways(RetrainConfig(**plan)) == expected


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, UNCOMPARED),
        ({"start": "scratch"}, SWA),
        ({"lr_schedule": "cosine"}, Way("checkpoint", "cosine", "swa")),
        ({"average": "ema"}, Way("checkpoint", "constant", "ema")),
        ({"lr_schedule": "none"}, PLAIN),
    ],
)
def test_without_evidence_it_is_swa_from_the_checkpoint_as_far_as_the_plan_lets_it(plan, expected):
    assert uncompared(RetrainConfig(**plan)) == expected


def test_the_table_pairs_what_shares_a_seed():
    results = {
        PLAIN: [(0.90, 0.3), (0.80, 0.4)],
        RAW: [(0.88, 0.3), (0.84, 0.3)],
        SWA: [(0.93, 0.2), (0.85, 0.3)],
        CHECKPOINT: [(0.9, 0.3), (0.9, 0.3)],
    }
    plain, raw, swa, checkpoint = compared(RetrainConfig(average="swa"), results)
    assert [row.open for row in (plain, raw, swa, checkpoint)] == [False, False, True, True]
    assert swa.against_raw == pytest.approx((0.05, 0.01))
    assert swa.against_plain == pytest.approx((0.03, 0.05))
    assert raw.against_plain == pytest.approx((-0.02, 0.04))
    assert raw.against_raw == plain.against_plain == ()
    assert checkpoint.against_plain == checkpoint.against_raw == (), "neither its training is there"
    assert (swa.mean, swa.loss) == (pytest.approx(0.89), pytest.approx(0.25))


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_mean_is_taken(maximize):
    rows = [evidence(PLAIN, 0.5, 0.5), evidence(RAW, 0.6, 0.6), evidence(SWA, 0.4, 0.4)]
    assert best_way(rows, maximize) == (RAW if maximize else SWA)


def test_averaging_that_hurts_is_not_used():
    rows = [evidence(PLAIN, 0.9, 0.8), evidence(RAW, 0.7, 0.7), evidence(SWA, 0.84, 0.84), evidence(EMA, 0.8, 0.8)]
    assert best_way(rows, maximize=True) == PLAIN


def test_what_the_plan_forbids_is_not_taken_however_good():
    rows = [evidence(PLAIN, 0.9, open=False), evidence(SWA, 0.5)]
    assert best_way(rows, maximize=True) == SWA


def test_of_equal_ways_the_lower_loss_then_the_simpler():
    rows = [evidence(PLAIN, 0.9, losses=(0.3,)), evidence(SWA, 0.9, losses=(0.2,))]
    assert best_way(rows, maximize=True) == SWA
    rows = [evidence(PLAIN, 0.9, losses=(0.3,)), evidence(SWA, 0.9, losses=(0.3,))]
    assert best_way(rows, maximize=True) == PLAIN


@pytest.mark.parametrize(
    ("afresh", "checkpoint", "expected"),
    [
        ((0.90, 0.92, 0.91), (0.94, 0.94, 0.94), SWA),  # better, by what three seeds may differ by
        ((0.90, 0.92, 0.91), (0.96, 0.96, 0.96), CHECKPOINT),
        ((0.95, 0.96, 0.95), (0.90, 0.91, 0.90), SWA),
        ((0.90, 0.91), (0.95, 0.95), SWA),  # of two seeds little is known of the noise, of one nothing
        ((0.90,), (0.99,), SWA),
    ],
)
def test_a_checkpoint_must_be_clearly_better(afresh, checkpoint, expected):
    assert best_way([evidence(SWA, *afresh), evidence(CHECKPOINT, *checkpoint)], maximize=True) == expected


def test_the_noise_is_that_of_all_that_was_trained_afresh():
    """One way may by chance give the same number for every seed, as shares of few images do."""
    rows = [evidence(PLAIN, 0.85, 0.9, 0.88), evidence(SWA, 0.9, 0.9, 0.9), evidence(CHECKPOINT, 0.91, 0.91, 0.91)]
    assert best_way(rows, maximize=True) == SWA
    assert best_way(rows[1:], maximize=True) == CHECKPOINT


def test_a_checkpoint_that_is_alone_needs_no_better():
    assert best_way([evidence(CHECKPOINT, 0.1)], maximize=True) == CHECKPOINT


def test_what_diverged_is_not_taken():
    assert best_way([evidence(PLAIN, 0.5, 0.5), evidence(SWA, 0.9, math.nan)], maximize=True) == PLAIN
    assert best_way([evidence(SWA, math.nan)], maximize=True) is None
    lost = evidence(SWA, 0.9, 0.9, losses=(0.1, math.inf))
    assert best_way([evidence(PLAIN, 0.5, 0.5), lost], maximize=True) == PLAIN, "accuracy may outlive the loss"


def test_ways_are_told_in_words():
    assert str(PLAIN) == "trained afresh"
    assert str(Way("checkpoint", "cosine", "ema")) == "from the checkpoint, cosine tail, EMA"
    assert str(RAW) == "trained afresh, constant tail, its last weights"


def test_a_model_is_known_by_what_it_was_made_of():
    plan = RetrainConfig(finalists=9, epochs=5)
    assert PLAIN.resolved(plan) == PLAIN.resolved(plan.model_copy(update={"epochs": 6, "finalists": 1}))
    assert SWA.resolved(plan) != SWA.resolved(plan.model_copy(update={"epochs": 6}))
    assert SWA.resolved(plan) != EMA.resolved(plan)
    assert PLAIN.resolved(plan) != PLAIN.resolved(plan.model_copy(update={"on": "train"}))
