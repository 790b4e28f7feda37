"""The model's card, from a finished experiment's facts, and that the closing table says the same."""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tune import spec
from tune.averaging import PLAIN, UNCOMPARED, Way, compared
from tune.finalists import finalists
from tune.last_mile import Winner
from tune.report.card import write_card
from tune.summary import print_closing

QUICKSTART = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["gap: +5.00 points from the winner's val_accuracy"]),
        (
            {"with_views": {"value": 0.96, "low": 0.91, "high": 0.99}},
            ["with augmentation: 96.00% (95 % interval 91.00% to 99.00%): flips and shifts as in training, averaged"],
        ),
        (
            {"calibration_error": 0.0215},
            ["calibration error: 2.15 points between the probability given and the share that is right (ECE, 15 bins)"],
        ),
        ({"reading": 3}, ["readings: 3 of the test set: what was chosen since the first is not blind to it"]),
    ],
)
def test_what_belongs_to_the_test_accuracy_is_told_wherever_it_is(changes, words, summary, capsys):
    told = summary("name", ("cat", "dog"))
    told = replace(told, test=replace(told.test, **changes))
    write_card(told)
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    card = (told.directory.model / "README.md").read_text()
    for line in words:
        name, _, text = line.partition(": ")
        assert re.search(rf"{name} +│ {re.escape(text)}", out)
        assert f"| test, {name} | {text} |" in card


def test_the_card_says_how_good_the_model_is_and_how_to_make_it_again(summary):
    told = summary("name", ("cat", "dog"))
    write_card(told)
    card = (told.directory.model / "README.md").read_text()
    assert "| test accuracy | 95.00% (95 % interval 90.00% to 98.00%, 100 images) |" in card
    assert "for 2 classes: cat, dog." in card
    assert "input `images` (n, 1, 8, 8) uint8" in card
    (again,) = [line.strip() for line in card.splitlines() if "python -m tune.run" in line]
    parts = shlex.split(again)
    assert parts[-2:] == ["--name", "name-again"]
    assert spec.load(Path(parts[parts.index("--space") + 1])).search == told.experiment.search


def test_the_classes_come_with_the_worst_first(summary):
    told = summary("name", ("cat", "dog | wolf", "emu"))
    told = replace(told, test=replace(told.test, confusion=[[48, 2, 0], [7, 43, 0], [0, 0, 0]]))
    write_card(told)
    rows = re.findall(r"^\| (.*%.*|emu.*) \| (\d+) \|$", (told.directory.model / "README.md").read_text(), re.MULTILINE)
    assert rows == [
        ("dog \\| wolf | 86.0% | 95.6% | 90.5%", "50"),
        ("cat | 96.0% | 87.3% | 91.4%", "50"),
        ("emu | none | none | none", "0"),
    ]


@pytest.mark.parametrize(("count", "shown"), [(20, 20), (21, 10)])
def test_a_card_shows_the_worst_of_many_classes(count, shown, summary):
    told = summary("name", tuple(f"class{number:02}" for number in range(count)))
    confusion = [[5 if row == column else int(column == 0) * row for column in range(count)] for row in range(count)]
    told = replace(told, test=replace(told.test, confusion=confusion))
    write_card(told)
    card = (told.directory.model / "README.md").read_text()
    worst = [f"class{number:02}" for number in reversed(range(count))][:shown]
    assert re.findall(r"^\| (class\d\d) \| \d", card, re.MULTILINE) == worst
    assert ("in the test, the 10 of the lowest recall; the worst come first:" in card) == (shown < count)


def test_the_card_says_what_the_model_is_for_and_of(summary):
    told = summary("name", ("cat", "dog"))
    write_card(replace(told, shape=(1, 48, 64)))
    card = (told.directory.model / "README.md").read_text()
    for words in (
        "Grey images of 48x64 pixels (height x width)",
        "| images | 80 for training, 20 for validation, 100 for the test |",
        f"| fingerprint of the training images | `{'f' * 32}` |",
        "| the model was trained on | train+validation |",
        "- learning_rate: 0.01235 (searched)",
        "| sampler, scheduler, seed | gp, asha, 0 |",
        "## Limits",
        "## Environment\n\nPython 3.",
    ):
        assert words in card
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings[:4] == ["Input", "Results", "Data", "Recipe"]
    assert "\n\n\n" not in card


def test_why_a_search_ended_early_is_said_in_card_and_table(summary, capsys):
    why = "3 trials did not improve val_accuracy (search.patience)"
    told = summary("name", ("cat", "dog"), ended=why)
    write_card(told)
    print_closing(told, Console(width=160, highlight=False))
    assert f"| ended early | {why} |" in (told.directory.model / "README.md").read_text()
    assert re.search(rf"ended early +│ {re.escape(why)}", capsys.readouterr().out)
    whole = summary("name", ("cat", "dog"), "whole")
    write_card(whole)
    print_closing(whole, Console(width=160, highlight=False))
    assert "ended early" not in capsys.readouterr().out + (whole.directory.model / "README.md").read_text()


def test_what_is_missing_is_said_in_card_and_table(summary, capsys):
    told = summary("name", ("cat", "dog"), onnx_error="no operator for this network")
    write_card(told)
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert "(without ONNX: no operator for this network)" in out
    assert "1 left out: train/x.png (broken)" in out
    card = (told.directory.model / "README.md").read_text()
    assert "- No `model.onnx`: no operator for this network" in card
    assert "| broken image files left out | 1 |" in card


def test_the_front_is_told_and_counted(summary, capsys):
    told = summary("name", ("cat", "dog"))
    fields = [
        "search={objectives: [{metric: val_accuracy}, {metric: parameters}]}",
        "search.choose.subject_to.parameters.upper=15000",
        "scheduler.type=none",
    ]
    trials = [
        replace(trial, state="completed", values={1: right}, checkpoints={1: "there"})
        for trial, right in zip(told.trials, (0.8, 0.9, 0.95, 0.7), strict=True)
    ]
    for trial, count in zip(trials, (10_000, 12_000, 20_000, 11_000), strict=True):
        trial.figures = {1: {"val_accuracy": trial.values[1], "parameters": count}}
    told = replace(
        told, experiment=spec.load(QUICKSTART, fields), trials=trials, winner=Winner(trials[1], UNCOMPARED, 12)
    )
    write_card(told)
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert re.search(r"parameters +│ 12,000 ", out)
    assert re.search(r"front +│ 3 of 4 trials ", out)
    assert "| parameters of the winning trial | 12,000 |" in (told.directory.model / "README.md").read_text()


def test_without_objectives_there_is_no_front(summary, capsys):
    told = summary("name", ("cat", "dog"))
    write_card(told)
    print_closing(told, Console(width=160, highlight=False))
    assert "front" not in capsys.readouterr().out


RESULTS = {
    PLAIN: [(0.90, 0.30), (0.88, 0.32)],
    Way("scratch", "cosine", "raw"): [(0.91, 0.30), (0.90, 0.30)],
    Way("scratch", "cosine", "swa"): [(0.93, 0.25), (0.91, 0.26)],
    Way("scratch", "cosine", "ema"): [(0.92, 0.25), (0.91, math.nan)],
}


def told_with(summary, way, results=RESULTS):
    told = summary("name", ("cat", "dog"))
    told = replace(told, experiment=spec.load(QUICKSTART, ["retrain.start=auto"]))
    ranked = finalists([told.trial], {1: [[0.8, 0.8, 0.82, 0.89], [0.8, 0.9, 0.7, 0.87]]}, maximize=True)
    return replace(told, winner=Winner(told.trial, way, 12, ranked, compared(told.experiment.retrain, results)))


def test_what_the_search_flattered_and_what_an_average_brings_is_told_in_card_and_table(summary, capsys):
    told = told_with(summary, Way("scratch", "cosine", "swa"))
    write_card(told)
    print_closing(told, Console(width=200, highlight=False))
    out = capsys.readouterr().out
    card = (told.directory.model / "README.md").read_text()
    over = "0.8950 (95 % interval 0.8315 to 0.9585), 2 fresh seeds"
    drop = "the search's score was 0.0400 better than with fresh seeds, over 3 epochs as the trial had"
    made = (
        "trained afresh, cosine tail, SWA: val_accuracy 0.9200, 0.0150 more "
        "(95 % interval -0.0485 to +0.0785, 2 pairs) than the last weights"
    )
    assert re.search(rf"over seeds +│ {re.escape(over)}", out)
    assert re.search(rf"made +│ {re.escape(made)}", out)
    assert re.search(rf"drop +│ {re.escape(drop)}", out)
    assert f"| over seeds | {over} |" in card
    assert f"| drop | {drop} |" in card
    assert f"| made | {made} |" in card
    assert "+3.00 points from the mean val_accuracy of 2 models made so, the best of 4 ways" in out
    assert "falls to 0 (cosine);\nthe average of the weights after each of those (SWA)" in card


def test_where_averaging_does_not_help_card_and_table_say_that_it_is_not_used(summary, capsys):
    worse = {**RESULTS, PLAIN: [(0.95, 0.2), (0.96, 0.2)]}
    told = told_with(summary, PLAIN, worse)
    write_card(told)
    print_closing(told, Console(width=200, highlight=False))
    words = "trained afresh: val_accuracy 0.9550; no average was better, so none is used"
    card = (told.directory.model / "README.md").read_text()
    assert words in capsys.readouterr().out
    assert words in card
    assert "The HParams of trial 1, trained afresh for 12 epochs." in card


def test_a_name_that_is_no_unicode_is_written_all_the_same(summary):
    told = summary("name", ("cat", "a\udcffb"))
    write_card(told)
    assert "for 2 classes: cat, a?b." in (told.directory.model / "README.md").read_text()
