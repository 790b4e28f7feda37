import math

import pytest

from tune.points import MUTABLE
from tune.population import exchange, perturbed, standing_at
from tune.spec import load
from tune.trials import State, Trial


def member(number: int, value: float | None, epoch: int = 2, state: State = "paused", **more: object) -> Trial:
    values = {} if value is None else dict.fromkeys(range(1, epoch + 1), value)
    kept = {} if value is None else {epoch: f"trials/{number:05d}"}
    return Trial(number, {}, state, values, checkpoints=kept, **more)


def test_the_worst_copy_the_best_and_the_others_go_on():
    values = [0.5, 0.9, 0.1, 0.7, 0.8, 0.2, 0.6, 0.4]
    members = [member(number, value) for number, value in enumerate(values)]
    plan = exchange(members, 2, 0.25, 0, maximize=True)
    assert set(plan.copies) == {2, 5}
    assert set(plan.copies.values()) <= {1, 4}
    assert plan.words[1] == "passes epoch 2: ranks 1 of 8"
    assert plan.words[2] == f"stopped at epoch 2: ranks 8 of 8, its line goes on as a copy of trial {plan.copies[2]}"
    assert sorted(plan.words) == list(range(8))
    assert exchange(members[::-1], 2, 0.25, 0, maximize=True) == plan
    assert set(exchange(members, 2, 0.25, 0, maximize=False).copies) == {1, 4}


def test_donors_are_drawn_by_seed_loser_and_epoch():
    def drawn(seed: int, epoch: int) -> dict[int, int]:
        members = [member(number, number / 10, epoch) for number in range(20)]
        return exchange(members, epoch, 0.5, seed, maximize=True).copies

    assert drawn(0, 2) == drawn(0, 2)
    assert drawn(0, 2) != drawn(1, 2)
    assert drawn(0, 2) != drawn(0, 4)
    assert len(set(drawn(0, 2).values())) > 3


@pytest.mark.parametrize(("quantile", "size", "count"), [(0.25, 8, 2), (0.25, 4, 1), (0.1, 4, 1), (0.5, 5, 2)])
def test_the_quantile_is_of_the_population_but_one_at_least_is_replaced(quantile, size, count):
    members = [member(number, number / 10) for number in range(size)]
    assert sorted(exchange(members, 2, quantile, 0, maximize=True).copies) == list(range(count))


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_dead_lines_go_on_as_copies_besides(state):
    members = [*(member(number, number / 10) for number in range(7)), member(7, None, state=state)]
    plan = exchange(members, 2, 0.25, 0, maximize=True)
    assert sorted(plan.copies) == [0, 1, 7]
    assert 7 not in plan.words


def test_a_population_with_one_survivor_is_its_copies():
    members = [member(0, 0.5), *(member(number, None, state="failed") for number in range(1, 4))]
    plan = exchange(members, 2, 0.25, 0, maximize=True)
    assert plan.copies == {1: 0, 2: 0, 3: 0}
    assert plan.words == {0: "passes epoch 2: ranks 1 of 1"}


def test_where_none_lives_none_is_copied():
    members = [member(number, None, state="failed") for number in range(4)]
    plan = exchange(members, 2, 0.25, 0, maximize=True)
    assert (plan.copies, plan.words) == ({}, {})


def test_only_a_trial_with_a_checkpoint_is_copied():
    members = [member(number, number / 10) for number in range(8)]
    members[7].checkpoints = {}
    assert set(exchange(members, 2, 0.25, 0, maximize=True).copies.values()) == {6}
    members[6].checkpoints = {}
    plan = exchange(members, 2, 0.25, 0, maximize=True)
    assert plan.copies == {}
    assert plan.words[0] == "passes epoch 2: ranks 8 of 8"


def test_a_lines_standing_trial_is_the_latest_that_began_before_the_epoch():
    trials = [
        member(0, 0.1, 2, "stopped"),
        member(1, 0.9, 4),
        Trial(2, {}, parent=(1, 2), instead_of=0, state="stopped"),
        Trial(3, {}, parent=(1, 4), instead_of=2),
        Trial(4, {}, replaces=0),  # repeats a failed trial: no line
    ]
    assert [trial.number for trial in standing_at(trials, 2)] == [0, 1]
    assert [trial.number for trial in standing_at(trials, 4)] == [2, 1]
    assert [trial.number for trial in standing_at(trials, 6)] == [3, 1]


SPACE = """\
data: {source: digits}
space:
  network: resnet9
  width: {type: float, lower: 0.25, upper: 1}
  learning_rate: {type: float, lower: 1e-3, upper: 1e-1, log: true}
  translate: {type: int, lower: 0, upper: 8, step: 2}
  flip: {type: categorical, options: [true, false]}
  optimizer:
    type: categorical
    options:
      sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}}
      adamw: {weight_decay: {type: float, lower: 0, upper: 0.1}}
"""


@pytest.fixture
def space(experiment_file):
    return load(experiment_file(SPACE)).space


def point(**values: object) -> dict[str, object]:
    first = {"width": 0.5, "learning_rate": 0.01, "translate": 4, "flip": True, "optimizer": "sgd", "momentum": 0.9}
    return {"network": "resnet9", **first, **values}


def test_only_what_may_change_in_mid_training_is_moved(space):
    assert not {"width", "optimizer"} & set(MUTABLE)
    assert {"learning_rate", "translate", "flip", "momentum"} <= set(MUTABLE)
    seen: dict[str, set[object]] = {}
    for seed in range(200):
        params = perturbed(space, point(), str(seed))
        assert set(params) == {"width", "learning_rate", "translate", "flip", "optimizer", "momentum"}
        for name, value in params.items():
            seen.setdefault(name, set()).add(value)
    assert seen["width"] == {0.5}
    assert seen["optimizer"] == {"sgd"}
    assert sorted(seen["learning_rate"]) == pytest.approx([0.008, 0.012])
    assert seen["translate"] == {2, 6}, "a step at least"
    assert seen["flip"] == {True, False}
    assert sorted(seen["momentum"]) == pytest.approx([0.72, 0.99]), "within its domain"


def test_a_parameter_of_the_chosen_option_is_moved(space):
    params = [perturbed(space, point(optimizer="adamw", weight_decay=0.05), str(seed)) for seed in range(20)]
    assert all("momentum" not in each for each in params)
    assert sorted({each["weight_decay"] for each in params}) == pytest.approx([0.04, 0.06])


@pytest.mark.parametrize(("value", "moved"), [(0, {0, 2}), (8, {8, 6})])
def test_a_whole_number_at_a_bound_stays_or_moves_inwards(space, value, moved):
    assert {perturbed(space, point(translate=value), str(seed))["translate"] for seed in range(50)} == moved


@pytest.mark.parametrize("value", [1e-3, 1e-1])
def test_a_real_number_never_leaves_its_domain(space, value):
    for seed in range(50):
        rate = perturbed(space, point(learning_rate=value), str(seed))["learning_rate"]
        assert 1e-3 <= rate <= 1e-1
        assert isinstance(rate, float)
        assert math.isfinite(rate)


def test_the_same_seed_moves_the_same_way(space):
    assert perturbed(space, point(), "0 3 2") == perturbed(space, point(), "0 3 2")
