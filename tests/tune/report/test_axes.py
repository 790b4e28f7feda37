"""Axes show what matters of a metric, and every domain in its own way."""

import pytest

from tune.report.axes import axis, coordinate, place, searched, steps, ticks, value_range
from tune.space import Choice, Numeric, Space

RATE = Numeric("learning_rate", "learning_rate", 1e-4, 1.0, log=True, step=None)
SHIFT = Numeric("translate", "translate", 0, 4, log=False, step=1)
OPTIMIZER = Choice("optimizer", "optimizer", ("sgd", "<b>", "adamw"), (Space(),) * 3)


@pytest.mark.parametrize(("maximize", "sign"), [(True, 1), (False, -1)])
def test_the_worst_values_do_not_squeeze_the_others(maximize, sign):
    values = [sign * (1 - 0.01 * number) for number in range(19)]
    whole = value_range(values, maximize)
    low, high = value_range([*values, sign * -1000.0, float("nan")], maximize)
    assert high - low < 1
    assert abs(low - whole[0]) + abs(high - whole[1]) < 0.1


def test_a_range_is_never_empty():
    assert value_range([float("nan")], True) is None
    low, high = value_range([0.5, 0.5], True)
    assert low < 0.5 < high


def test_places_are_shares_of_the_axis():
    assert [place(RATE, value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    assert [place(SHIFT, value) for value in (0, 1, 4)] == [0, 0.25, 1]
    assert [place(OPTIMIZER, value) for value in OPTIMIZER.options] == [0, 0.5, 1]
    assert place(Choice("network", "network", ("cnn",), (Space(),)), "cnn") == 0.5


def test_axes_are_logarithmic_whole_or_named():
    assert axis(RATE)["type"] == "log"
    assert axis(SHIFT)["tickformat"] == "d"
    assert axis(OPTIMIZER)["ticktext"] == ["sgd", "<\u200bb>", "adamw"]
    assert [coordinate(OPTIMIZER, "adamw"), coordinate(RATE, 0.1)] == [2.0, 0.1]
    assert ticks(RATE) == [(0.0, "0.0001"), (pytest.approx(0.5), "0.01"), (1.0, "1")]
    assert [text for _, text in ticks(SHIFT)] == ["0", "4"]


def test_few_values_are_known_one_by_one():
    assert steps(SHIFT) == [0, 1, 2, 3, 4]
    assert steps(OPTIMIZER) == ["sgd", "<b>", "adamw"]
    assert steps(RATE) == []


def test_the_most_important_come_first():
    space = Space((RATE, SHIFT, OPTIMIZER))
    assert [domain.key for domain in searched(space, {"translate": 0.9})] == ["translate", "learning_rate", "optimizer"]
