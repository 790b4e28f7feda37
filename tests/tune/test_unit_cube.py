import numpy as np
import optuna
import pytest

from tune.space import Choice, Constant, Numeric, Space
from tune.unit_cube import UnitCube

MOMENTUM = Numeric("momentum", "momentum", 0.0, 0.99, False, None)
NESTEROV = Choice("nesterov", "nesterov", (True, False), (Space((MOMENTUM,)), Space()))
SPACE = Space(
    (
        Numeric("rate", "rate", 1e-4, 1.0, True, None),
        Constant("cutout", 4),
        Choice("optimizer", "optimizer", ("sgd", "adam", "lamb"), (Space((NESTEROV,)), Space(), Space())),
        Numeric("depth", "depth", 2, 11, False, 3),
        Numeric("batch", "batch", 16, 512, True, 1),
    )
)
CUBE = UnitCube(SPACE)
SIDES = ["rate", "optimizer", "nesterov", "momentum", "depth", "batch"]


def drawn(count=200):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(count)]
    for trial in trials:
        SPACE.draw(trial)
    return [trial.params for trial in trials]


def test_every_point_of_a_space_has_a_place_that_gives_it_back():
    params = drawn()
    back = CUBE.params(CUBE.positions(params))
    assert [{**one, "rate": 0, "momentum": 0} for one in back] == [{**one, "rate": 0, "momentum": 0} for one in params]
    assert [list(one) for one in back] == [[side for side in SIDES if side in one] for one in params]
    for name in ("rate", "momentum"):
        np.testing.assert_allclose(
            [one.get(name, -1) for one in back], [one.get(name, -1) for one in params], rtol=1e-9, atol=1e-12
        )


def test_types_are_those_of_the_study():
    (point,) = CUBE.params(CUBE.positions([{"optimizer": "sgd", "nesterov": True}]))
    assert {name: type(value) for name, value in point.items()} == {
        "rate": float, "optimizer": str, "nesterov": bool, "momentum": float, "depth": int, "batch": int
    }  # fmt: skip


@pytest.mark.parametrize(("at", "rate", "depth", "batch", "optimizer"), [
    (0.0, 1e-4, 2, 16, "sgd"), (np.nextafter(1.0, 0.0), 1.0, 11, 512, "lamb")
])  # fmt: skip
def test_corners_are_the_bounds(at, rate, depth, batch, optimizer):
    (point,) = CUBE.params(np.full((1, len(CUBE)), at))
    assert point["rate"] == pytest.approx(rate, rel=1e-9)
    assert 1e-4 <= point["rate"] <= 1.0
    assert (point["depth"], point["batch"], point["optimizer"]) == (depth, batch, optimizer)


def test_whole_numbers_and_options_are_equally_likely():
    points = np.random.default_rng(0).random((4000, len(CUBE)))
    found = CUBE.params(points)
    for name, values in (("depth", [2, 5, 8, 11]), ("optimizer", ["sgd", "adam", "lamb"])):
        counts = [sum(point[name] == value for point in found) for value in values]
        assert sum(counts) == 4000
        assert max(counts) - min(counts) < 200


def test_points_of_equal_params_are_alike_to_a_model():
    points = np.random.default_rng(0).random((300, len(CUBE)))
    middles = CUBE.positions(CUBE.params(points))
    np.testing.assert_allclose(CUBE.features(points), CUBE.features(middles), atol=1e-9)


def test_features_of_what_is_not_in_effect_are_those_of_nothing():
    adam, sgd, plain = CUBE.features(
        CUBE.positions(
            [
                {"optimizer": "adam", "rate": 1e-2, "depth": 2},
                {"optimizer": "sgd", "rate": 1.0, "nesterov": True, "momentum": 0.99, "depth": 11},
                {"optimizer": "sgd", "nesterov": False},
            ]
        )
    )
    names = ["rate", "sgd", "adam", "lamb", "nesterov", "plain", "momentum", "depth", "batch"]
    assert dict(zip(names, adam.round(9), strict=True)) | {"batch": 0.5} == {
        "rate": 0.5, "sgd": 0, "adam": 1, "lamb": 0, "nesterov": 0, "plain": 0, "momentum": 0.5, "depth": 0.125,
        "batch": 0.5
    }  # fmt: skip
    assert dict(zip(names, sgd.round(9), strict=True)) | {"batch": 0.5} == {
        "rate": 1, "sgd": 1, "adam": 0, "lamb": 0, "nesterov": 1, "plain": 0, "momentum": 1, "depth": 0.875,
        "batch": 0.5
    }  # fmt: skip
    assert dict(zip(names, plain, strict=True))["momentum"] == 0.5


def test_a_neighbour_keeps_about_half_of_its_sides():
    points = np.random.default_rng(0).random((500, len(CUBE)))
    near = CUBE.near(points, np.random.default_rng(1))
    assert near.min() >= 0
    assert near.max() < 1
    assert np.mean(near == points) == pytest.approx(0.5, abs=0.05)
    moved = np.abs(near - points)[:, SIDES.index("rate")]
    assert 0.02 < np.median(moved[moved > 0]) < 0.2


def test_a_space_of_single_values():
    cube = UnitCube(Space((Numeric("one", "one", 3.0, 3.0, False, None), Choice("flip", "flip", (True,), (Space(),)))))
    assert cube.params(np.array([[0.9, 0.9]])) == [{"one": 3.0, "flip": True}]
    assert cube.features(np.array([[0.1, 0.2], [0.9, 0.9]])).tolist() == [[0.5, 1], [0.5, 1]]
