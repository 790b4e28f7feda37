"""The result in words, whatever the experiment has."""

import json
from dataclasses import replace

import pytest

from tune.experiment import ExperimentDir
from tune.recorded import read_experiment
from tune.report.confusion import confusion_section
from tune.report.environment import environment_section
from tune.report.leader import leader
from tune.report.mistakes import mistakes_section
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
    assert (state(known), known.state) == ("", "finished")
    assert leader(known).number == known.winner.trial.number


def test_without_a_model_the_best_so_far_is_told(searched):
    known = searched()
    best = leader(known)
    value = max(best.values.values())
    assert headline(known) == f"Best so far: val_accuracy {value:.4g} (trial {best.number})"
    assert f"trial {best.number}, val_accuracy {value:.4f} at epoch" in result_section(known).html


def test_a_model_of_an_earlier_winner_is_not_that_of_this_one(finished):
    known = finished()
    file = known.directory.model / "metrics.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "made_from": {**told["made_from"], "trial": 99}}))
    known = replace(known)  # read anew
    assert headline(known).startswith("Winner, without a model yet: val_accuracy 0.")
    assert state(known) == "The search is over. There is no model yet; --resume makes it."
    assert "test accuracy" not in result_section(known).html
    assert confusion_section(known) is None
    assert mistakes_section(known) is None


def test_a_population_that_bred_more_than_was_planned_is_not_in_its_last_mile(begun, storage):
    fields = ("scheduler.type=pbt", "scheduler.grace_period=1", "scheduler.max_epochs=30", "search.sampler=random")
    one = begun("one", *fields, "search.trials=4", slots=4)
    while sum(trial.ended_at is not None for trial in one.trials.values()) < 4:
        one.fill()
        for number in list(one.epoch):
            one.train(number)
    assert any(trial.ended_at is None for trial in one.trials.values()), "else it is over"
    with ExperimentDir(storage / "one").locked():
        known = read_experiment(str(storage), "one", "report")
        assert f"is running: {known.standing.ended} of {len(one.trials)} trials have ended." in state(known)


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


def test_a_folder_may_have_a_question_mark(searched, storage):
    known = searched("what?")
    assert f"python -m tune replay &#39;what?&#39; --storage {storage}<" in environment_section(known).html
