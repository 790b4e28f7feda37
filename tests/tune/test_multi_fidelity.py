import math

import numpy as np
import pytest

from tune.multi_fidelity import Model, TooFewTrialsError
from tune.space import Choice, Numeric, Space
from tune.unit_cube import UnitCube

CUBE = UnitCube(Space(tuple(Numeric(name, name, 0.0, 1.0, False, None) for name in "ab")))


def points(count=40, seed=0):
    return [{"a": float(a), "b": float(b)} for a, b in np.random.default_rng(seed).random((count, 2))]


def model_of(seen, cube=CUBE, *, maximize=True):
    """Of (parameters, {level: value}) of each trial."""
    levels = sorted({level for _, values in seen for level in values})
    table = [[values.get(level, math.nan) for level in levels] for _, values in seen]
    return Model(cube, [params for params, _ in seen], np.reshape(table, (len(seen), len(levels))), maximize=maximize)


def tried(seen):
    return {frozenset(params.items()) for params, _ in seen}


def proposals(seen, *, maximize=True, pending=(), fixed=None, count=12):
    model = model_of(seen, maximize=maximize)
    kernel = model.fit(np.random.default_rng(0))
    known = tried(seen)
    return [model.propose(kernel, pending, fixed or {}, np.random.default_rng(seed), known) for seed in range(count)]


def bowl(point):
    return -((point["a"] - 0.7) ** 2) - (point["b"] - 0.2) ** 2


def distance(point):
    return math.hypot(point["a"] - 0.7, point["b"] - 0.2)


@pytest.mark.parametrize("seen", [[], [({"a": 0.5, "b": 0.5}, {1: 0.1})] * 2, [({"a": 0.5, "b": 0.5}, {})] * 9])
def test_nothing_is_learned_from_two_trials(seen):
    with pytest.raises(TooFewTrialsError, match="no level was reached by 3 trials"):
        model_of(seen)


@pytest.mark.parametrize("maximize", [True, False])
def test_proposals_go_to_the_best(maximize):
    sign = 1 if maximize else -1
    seen = [(point, {1: sign * bowl(point)}) for point in points()]
    found = sorted(distance(point) for point in proposals(seen, maximize=maximize))
    assert found[5] < 0.1
    assert found[-1] < 0.5


def test_only_ranks_matter_at_one_level():
    seen = [(point, {1: bowl(point)}) for point in points()]
    warped = [(point, {1: math.exp(20 * bowl(point))}) for point in points()]
    outlier = [(point, {1: bowl(point) if rank else -1e9}) for rank, point in enumerate(sorted(points(), key=bowl))]
    assert proposals(seen) == proposals(warped)
    assert proposals(outlier) == proposals([(point, {1: bowl(point)}) for point, _ in outlier])


def test_a_higher_level_is_believed_where_the_levels_disagree():
    """At level 1 the far corner is best; 12 trials went on, from everywhere, and show where it is."""
    seen = []
    for number, point in enumerate(points(48)):
        misleading = {1: -bowl({"a": point["a"], "b": point["b"]})}
        seen.append((point, misleading | ({4: bowl(point)} if number % 4 == 0 else {})))
    believed = np.median([distance(point) for point in proposals(seen)])
    misled = np.median([distance(point) for point in proposals([(point, {1: own[1]}) for point, own in seen])])
    assert believed < misled - 0.3


def test_a_lower_level_tells_where_the_higher_one_was_not_seen():
    """Six survivors, all of one corner; what the many said at level 1 keeps the rest in view."""
    seen = [(point, {1: bowl(point)} | ({4: bowl(point) + 1} if point["a"] > 0.8 else {})) for point in points(60)]
    assert sum(4 in values for _, values in seen) >= 6
    assert np.median([distance(point) for point in proposals(seen)]) < 0.15


def test_trials_that_diverged_are_the_worst():
    seen = [(point, {1: 0.0} if point["a"] < 0.5 else {}) for point in points()]
    assert np.mean([point["a"] < 0.5 for point in proposals(seen)]) > 0.9


def test_what_is_being_trained_is_not_tried_again():
    seen = [(point, {1: bowl(point)}) for point in points()]
    best = {"a": 0.7, "b": 0.2}
    alone = [distance(point) for point in proposals(seen, count=20)]
    beside = [distance(point) for point in proposals(seen, pending=[best] * 5, count=20)]
    assert np.mean(alone) < np.mean(beside)


@pytest.mark.parametrize("common", [0, 1, 9])
def test_levels_that_few_trials_share(common):
    """Such as those of a population, whose later members began where others had got to."""
    seen = [
        (point, {1: bowl(point)} | ({4: bowl(point)} if number < common else {}))
        if number % 2
        else (point, {4: -bowl(point)})
        for number, point in enumerate(points(60))
    ]
    assert np.median([distance(point) for point in proposals(seen)]) > 0.3  # level 4 is believed


def test_a_level_that_two_trials_reached_alone_says_nothing_of_them():
    seen = [(point, {1: bowl(point)}) for point in points()]
    rare = [({"a": 0.72, "b": 0.22}, {9: 5.0}), ({"a": 0.68, "b": 0.18}, {9: 5.0})]
    assert proposals([*seen, *rare]) == proposals(seen)


def test_what_is_given_is_kept_and_the_rest_chosen_for_it():
    seen = [(point, {1: -abs(point["a"] - point["b"])}) for point in points(60)]
    for given in (0.1, 0.9):
        found = proposals(seen, fixed={"a": given})
        assert {point["a"] for point in found} == {given}
        assert np.median([abs(point["b"] - given) for point in found]) < 0.15


@pytest.mark.parametrize("corner", [{"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.4}])
def test_an_optimum_on_a_bound_is_not_tried_again_and_again(corner):
    seen = [(point, {1: -math.dist(point.values(), corner.values())}) for point in points(30)]
    for number in range(20):
        model = model_of(seen)
        point = model.propose(model.fit(np.random.default_rng(0)), [], {}, np.random.default_rng(number), tried(seen))
        seen.append((point, {1: -math.dist(point.values(), corner.values())}))
    found = [point for point, _ in seen[30:]]
    assert len({repr(point) for point in found}) == 20
    assert np.median([math.dist(point.values(), corner.values()) for point in found]) < 0.15


def test_no_point_is_tried_twice_while_there_are_others():
    numbers = tuple(Numeric(name, name, 1, 3, log, 1) for name, log in (("a", False), ("b", True)))
    cube = UnitCube(Space((*numbers, Choice("c", "c", ("x", "y"), (Space(), Space())))))
    first = [(1, 1, "x"), (1, 2, "x"), (2, 1, "y"), (3, 1, "x")]
    seen = [({"a": a, "b": b, "c": c}, {1: 3.0 - a} if a < 3 else {}) for a, b, c in first]
    for number in range(18 - len(seen)):
        model = model_of(seen, cube)
        kernel = model.fit(np.random.default_rng(number))
        point = model.propose(kernel, [], {}, np.random.default_rng(number), tried(seen))
        seen.append((point, {1: -float(number)}))
    assert len({repr(point) for point, _ in seen}) == 18


def test_of_thousands_of_trials_the_best_are_learned_from():
    """A narrow optimum that 3 of 5,000 found is not lost."""
    seen = [(point, {1: 0.1 * bowl(point)}) for point in points(5000)]
    for number, (point, _) in enumerate(seen[4000:4003], 4000):
        point |= {"a": 0.05, "b": 0.9 + (number - 4000) / 100}
        seen[number] = (point, {1: 1.0, 4: 2.0})
    found = proposals(seen)
    assert min(math.hypot(point["a"] - 0.05, point["b"] - 0.9) for point in found) < 0.15
