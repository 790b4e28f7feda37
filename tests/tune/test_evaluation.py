import json
from dataclasses import asdict

import pytest

from tune.evaluation import ClassFigures, Evaluation, wilson_interval

CONFUSION = [[6, 0, 2, 0], [1, 0, 1, 0], [0, 0, 10, 0], [0, 0, 0, 0]]
EVALUATION = Evaluation(0.8, 0.6, 0.9, 20, 0.5, CONFUSION, [], calibration_error=0.05)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values_of_the_wilson_interval(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_is_mirrored_and_never_leaves_0_to_1():
    low, high = wilson_interval(29, 29)
    assert (1 - high, 1 - low) == pytest.approx(wilson_interval(0, 29), abs=1e-12)
    assert 0 < low < high <= 1


def test_more_images_make_the_interval_narrower_around_the_accuracy():
    widths = []
    for total in (100, 1000, 10_000):
        low, high = wilson_interval(total * 94 // 100, total)
        assert low < 0.94 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_figures_of_each_class_follow_from_the_confusion_matrix():
    figures = EVALUATION.per_class(("cat", "dog", "cow", "emu"))
    assert figures["cat"] == ClassFigures(pytest.approx(6 / 7), pytest.approx(6 / 8), pytest.approx(0.8), 8)
    assert figures["dog"] == ClassFigures(None, 0.0, 0.0, 2), "never named"
    assert figures["cow"] == ClassFigures(pytest.approx(10 / 13), 1.0, pytest.approx(20 / 23), 10)
    assert figures["emu"] == ClassFigures(None, None, None, 0), "every image of it is broken"
    assert json.loads(json.dumps(asdict(figures["dog"]), allow_nan=False))["precision"] is None


def test_a_reading_from_before_calibration_was_measured_still_loads():
    line = json.loads(json.dumps(asdict(EVALUATION)))
    assert Evaluation(**line) == EVALUATION
    del line["calibration_error"]
    assert Evaluation(**line).calibration_error is None
