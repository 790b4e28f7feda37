"""What the last mile trains, and how far it is: of a study alone what the search's own process knows."""

import pytest

from tune.mile import Stage, model_epochs, seconds_left, stages
from tune.trials import Trial

PLAN = ("retrain.finalists=2", "retrain.seeds=2", "retrain.epochs=5", "scheduler.max_epochs=4")
TRIALS = [
    Trial(number, {"learning_rate": 0.1 + number}, "completed", {1: 0.5}, checkpoints={1: "there"})
    for number in range(3)
]
ENDED = {"curve": [0.5, 0.6], "seconds": 8.0, "ended": {"val_accuracy": 0.6, "val_loss": 1.0}}


@pytest.fixture
def plan(experiment):
    def make(*fields: str, trials=TRIALS, results=(), made: bool = False) -> list[Stage]:
        return stages(experiment(*PLAN, *fields), trials, dict(results), made=made)

    return make


def finalist_results(count: int) -> dict[str, dict]:
    keys = [f"finalist {number} seed {seed}" for number in (0, 1) for seed in (1, 2)]
    return dict.fromkeys(keys[:count], ENDED)


def test_all_ways_are_compared_by_default(plan):
    # afresh and from the checkpoint, constant and cosine, over two seeds
    assert plan() == [Stage("finalists", 0, 4, 4), Stage("averages", 0, 8, 5), Stage("model", 0, 1, 9)]


def test_trainings_that_ended_are_counted(plan):
    assert plan(results=finalist_results(3))[0].done == 3
    tail = "tail of 0 from there/checkpoint.ckpt, constant, 5 epochs, learning_rate 0.01, seed 1"
    other = "tail of 2 from there/checkpoint.ckpt, constant, 5 epochs, learning_rate 0.01, seed 1"
    known = {**finalist_results(4), tail: {"raw": {}}, other: {"raw": {}}}
    assert [(stage.done, stage.of) for stage in plan(results=known)] == [(4, 4), (1, 8), (0, 1)]


def test_a_seed_that_diverged_has_no_weights_to_average(plan):
    known = {**finalist_results(3), "finalist 1 seed 2": {"diverged": "loss", "seconds": 1.0}}
    assert plan(results=known)[1] == Stage("averages", 0, 8, 5)
    first_broke = {**finalist_results(4), "finalist 0 seed 1": {"diverged": "loss", "seconds": 1.0}}
    broken_too = {**first_broke, "finalist 1 seed 1": {"diverged": "loss", "seconds": 1.0}}
    assert plan(results=broken_too)[1] == Stage("averages", 0, 6, 5)


def test_a_plan_that_leaves_one_way_open_compares_nothing(plan):
    names = [stage.name for stage in plan("retrain.lr_schedule=none")]
    assert names == ["finalists", "model"]
    fixed = ("retrain.start=scratch", "retrain.lr_schedule=cosine", "retrain.average=swa")
    assert [stage.name for stage in plan(*fixed)] == ["finalists", "model"]


def test_without_seeds_there_is_the_model_only(plan):
    assert plan("retrain.seeds=0", made=True) == [Stage("model", 1, 1, 5)]


def test_where_no_trial_can_win_there_is_no_last_mile(plan):
    assert plan(trials=[Trial(0, {}, "failed")]) == []
    bounds = "search.choose={max: val_accuracy, subject_to: {parameters: {upper: 1}}}"
    objectives = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"
    trial = Trial(0, {}, "completed", {1: 0.5}, checkpoints={1: "x"})
    trial.figures = {1: {"val_accuracy": 0.5, "parameters": 2.0}}
    assert plan(objectives, bounds, "scheduler.type=none", trials=[trial]) == []


@pytest.mark.parametrize(
    ("fields", "epochs"),
    [((), 9), (("retrain.start=checkpoint",), 5), (("retrain.lr_schedule=none",), 4), (("retrain.seeds=0",), 5)],
)
def test_how_long_the_model_is_trained_at_most(experiment, fields, epochs):
    assert model_epochs(experiment(*PLAN, *fields)) == epochs


def test_what_is_left_takes_as_long_as_what_was_trained():
    plan = [Stage("finalists", 1, 4, 4), Stage("averages", 0, 8, 5), Stage("model", 0, 1, 9)]
    epochs = 2 * 4 + 4 * 5 + 9
    assert seconds_left(plan, {}, 2, None) is None
    assert seconds_left(plan, {}, 2, 1.0) == epochs
    assert seconds_left(plan, {"finalist": ENDED, "tail": {"raw": {}}}, 2, 1.0) == 4.0 * epochs
    assert seconds_left([Stage("model", 1, 1, 9)], {}, None, 1.0) == 0.0
