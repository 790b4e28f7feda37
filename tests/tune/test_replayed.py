"""`python -m tune what-if`."""

import json

import pytest
from click.testing import CliRunner

from tune.__main__ import main

FIELDS = ("search.trials=12", "scheduler.max_epochs=9", "scheduler.reduction_factor=3", "search.sampler=random")


@pytest.fixture
def asked(storage):
    def ask(name: str, *options: str):
        return CliRunner().invoke(main, ["what-if", name, "--storage", str(storage), *options])

    return ask


def test_a_table_shows_it_beside_what_was(begun, asked):
    one = begun("one", *FIELDS).run()
    told = asked("one", "--grace-period", "2", "--reduction-factor", "4")
    assert told.exit_code == 0, told.output
    epochs = sum(trial.epochs for trial in one.trials.values())
    assert f"epochs {epochs} " in " ".join(told.output.split())
    assert "asha promote" in told.output
    assert "2, 8" in told.output
    assert "unknown behind" in told.output
    assert "Curves that were cut short are unknown beyond that" in told.output
    same = asked("one", "--json")
    figures = json.loads(same.output)
    assert figures["was"]["epochs"] == epochs
    assert set(figures) == {"scheduler", "winner", "was", "behind", "ahead"}
    assert figures["scheduler"]["reduction_factor"] == 3, "what is not given is as it was"


def test_whole_curves_need_one_column_and_another_length_a_remark(begun, asked):
    begun("one", *FIELDS, "scheduler.type=none", "scheduler.max_epochs=5").run()
    told = asked("one", "--max-epochs", "4", "--mode", "stop")
    assert "replayed" in told.output
    assert "unknown" not in told.output.replace("on unknown values", "")
    assert "of trainings of 5 epochs: with a learning rate that follows the length" in told.output


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--grace-period", "30"), "--grace-period 30: scheduler.grace_period: got 30, must be at most max_epochs, 9"),
        (("--max-epochs", "200000"), "--max-epochs 200000: scheduler.max_epochs: got 200000, must be at most 100000"),
    ],
)
def test_a_wrong_setting_is_told_with_its_rule(begun, asked, options, line):
    begun("one", *FIELDS).run(steps=3)
    told = asked("one", *options)
    assert (told.exit_code, told.output) == (2, f"error: {line}\n")


def test_what_cannot_be_replayed_says_why(begun, asked):
    begun("bred", *FIELDS, "scheduler.type=pbt", "search.trials=4").run(steps=2)
    begun("new", *FIELDS)
    begun("two", "search.objectives=[{metric: val_accuracy}, {metric: parameters}]", "search.trials=2").run(steps=1)
    assert "error: what-if: bred changed HParams in mid-training (scheduler.type pbt)" in asked("bred").output
    assert "error: what-if: no trial of new has a value yet" in asked("new").output
    assert "error: what-if: two has several objectives" in asked("two").output
    missing = asked("on")
    assert (missing.exit_code, "what-if: there is no experiment on in" in missing.output) == (2, True)
