"""The result in words, whatever the experiment has."""

import pytest

from tune.report.environment import environment_section
from tune.report.leader import is_over, leader
from tune.report.result import headline, result_section, state


def test_of_a_model_everything_that_is_known_is_told(finished):
    known = finished(
        test={
            "with_views": {"value": 0.96, "low": 0.91, "high": 0.99},
            "calibration_error": 0.0215,
            "reading": 3,
        }
    )
    html = result_section(known).html.replace("&#39;", "'")
    for name, text in {
        "test, with augmentation": "96.00% (95 % interval 91.00% to 99.00%): flips and shifts as in training, averaged",
        "test, calibration error": "2.15 points between the probability given and the share that is right",
        "test, readings": "3 of the test set: what was chosen since the first is not blind to it",
        "over seeds": "0.8950 (95 % interval 0.8315 to 0.9585), 2 fresh seeds",
    }.items():
        assert f'<th scope="row">{name}</th><td>{text}' in html
    assert "trained afresh, cosine tail, SWA: val_accuracy 0.9200, 0.0150 more" in html
    assert "the last 20 epochs of it a tail whose weights are averaged." in html
    assert (state(known), is_over(known)) == ("", True)
    assert leader(known).number == known.winner.trial.number


def test_without_a_model_the_best_so_far_is_told(searched):
    known = searched()
    best = leader(known)
    value = max(best.values.values())
    assert headline(known) == f"Best so far: val_accuracy {value:.4g} (trial {best.number})"
    assert f"trial {best.number}, val_accuracy {value:.4f} at epoch" in result_section(known).html


def test_why_it_ended_early_and_what_was_left_out_are_told(finished):
    known = finished("one", "search.epoch_budget=12", skipped=("train/<x>.png (broken)",))
    html = result_section(known).html
    assert '<th scope="row">ended early</th><td>' in html
    assert "1 (train/&lt;x&gt;.png (broken))" in html


@pytest.mark.parametrize(
    "words", ["python -m tune.run --space ", " --name one-again", "python -m tune replay one --storage "]
)
def test_the_commands_that_repeat_it_are_there(words, searched):
    assert words in environment_section(searched()).html
