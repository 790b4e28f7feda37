"""What a terminal of 80 columns shows, on whatever background, and what lines tell without one."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from tune.display import Row, about, clean, ends_table, in_a_line, mile_rows, panel, print_plain, search_rows
from tune.limits import Limits
from tune.mile import Stage
from tune.standing import Standing
from tune.trials import Trial

LIMITS = ("search.time_budget_s=600", "search.epoch_budget=5000", "search.target=0.95", "search.patience=20")
HPARAMS = {
    "optimizer": "sgd",
    "learning_rate": 0.0123456,
    "momentum": 0.9,
    "translate": 3,
    "network": "resnet18",
}
VERDICT = "stopped at rung 9: 0.9444 ranks 1234 of 5000, 1666 pass (cutoff 0.9512)"
ENDS = [
    Trial(4321, HPARAMS, "stopped", dict.fromkeys(range(1, 10), 0.9444), VERDICT),
    Trial(7, HPARAMS, "failed", {}, "ValueError: " + "a long story " * 40),
    Trial(8, HPARAMS, "diverged", {1: 0.5}, "train_loss was no number in epoch 2, step 17"),
    Trial(9, HPARAMS, "completed", {1: 0.5}),
]


@pytest.fixture
def standing(experiment):
    one = experiment("search.trials=5000", *LIMITS)
    told = Standing(one, 16, Limits(one.search, 100.0), 100.0)
    for trial in [*ENDS, Trial(1, HPARAMS, "running", {1: 0.5, 2: 0.7}, attempts=1, seconds=5.0)]:
        told.update(trial)
    return told


def drawn(what: RenderableType, width: int = 80, colours: str | None = None) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=width, color_system=colours, legacy_windows=False, highlight=False
    )
    console.print(what)
    return stream.getvalue()


def view(standing: Standing, width: int = 80) -> RenderableType:
    return panel("a name", search_rows(standing), ends_table(standing.ends, standing.experiment.search, width))


@pytest.mark.parametrize("width", [80, 60, 120])
def test_no_line_is_longer_than_the_terminal_and_nothing_that_matters_is_cut(standing, width):
    text = drawn(view(standing, width), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    told = " ".join(text.replace("━", "").split())
    for words in (
        "a name",
        "trials 4 of 5000 ended",
        "1 completed, 1 diverged, 1 failed, 1 running, 1 stopped",
        "epochs 13 of 5000",
        "time 1 min 40 s of 10 min 0 s",
        "target val_accuracy at least 0.95, so far 0.9444",
        "patience 0 of 20 ended without improvement",
        "slots 1 of 16 busy",
        "best val_accuracy 0.9444 (trial 4321, epoch 9)",
        "optimizer sgd, learning_rate 0.01235, momentum 0.9, translate 3",
    ):
        assert words in told
    if width >= 80:
        assert "rung 9: 0.9444 ranks 1234 of 5000, 1666 pass (cutoff 0.9512)" in told
        assert "train_loss was no number in epoch 2, step 17" in told
    assert "network" not in told, "which was not searched"


def test_a_long_reason_takes_two_lines(standing):
    lines = drawn(view(standing)).splitlines()
    (first,) = [index for index, line in enumerate(lines) if "ValueError" in line]
    assert lines[first + 1].strip().endswith("…")
    assert "diverged" in lines[first + 2]


def test_colours_show_on_a_light_and_on_a_dark_background(standing):
    codes = {
        int(code)
        for found in re.findall(r"\x1b\[([\d;]*)m", drawn(view(standing), colours="standard"))
        for code in found.split(";")
        if code
    }
    assert codes <= {0, 1, 31, 32, 35, 36, 39, 90}, "neither white, yellow, black, blue, dim nor a background"
    assert {1, 31, 32} <= codes


def test_without_colours_the_words_are_the_same(standing):
    coloured = drawn(view(standing), colours="standard")
    assert re.sub(r"\x1b\[[\d;]*m|[━╺╸]", "", coloured).split() == re.sub("[━╺╸]", "", drawn(view(standing))).split()


def test_names_and_reasons_cannot_steer_the_terminal():
    assert clean("a\x1b[31mb\nc\x07 ü 🎉") == "a [31mb c  ü 🎉"
    text = drawn(panel("n\x1bame[bold]", [Row("a", "[red]b")]))
    assert "n ame[bold]" in text
    assert "[red]b" in text
    assert "\x1b]0" not in text
    stream = io.StringIO()
    print_plain(Console(file=stream), "n\x1bame", [], ["\x1b[2J"])
    assert "\x1b" not in stream.getvalue()


def test_a_row_without_a_terminal_is_a_line_however_long():
    stream = io.StringIO()
    rows = [Row("best", "one"), Row("", "x" * 200, None), Row("trials", "3 of 4", 0.75)]
    print_plain(Console(file=stream, width=80), "name", rows, ["trial 3 [stopped]"])
    assert stream.getvalue().splitlines() == [
        "name",
        "best: one",
        f"best: {'x' * 200}",
        "trials: 3 of 4",
        "trial 3 [stopped]",
    ]


def test_all_of_it_in_a_line(standing):
    assert re.fullmatch(
        r"4 of 5000 trials ended; 1 running; 13 epochs; 1 min 40 s gone; about .* left; "
        r"best val_accuracy 0\.9444 \(trial 4321, epoch 9\)",
        in_a_line(standing),
    )


def test_what_is_over_or_interrupted_has_no_busy_slots(standing):
    def labels(**how: bool) -> set[str]:
        return {row.label for row in search_rows(standing, **how)}

    assert labels() - labels(runs=False) == {"slots"}
    assert labels() - labels(over=True) == {"slots", "left"}
    (left,) = [row.text for row in search_rows(standing, runs=False) if row.label == "left"]
    assert "until" not in left


def test_audits_have_a_row_where_there_are_any(experiment):
    one = experiment("search.trials=4", "scheduler.max_epochs=3")
    told = Standing(one, 2, Limits(one.search, 0.0))
    for number, state in enumerate(["running", "paused", "completed", "failed"]):
        audit = Trial(number, {}, state, {1: 0.5, 2: 0.6})
        told.update(Trial(number, {}, "stopped", {1: 0.5}, attempts=1, audit=audit))
    rows = {row.label: row.text for row in search_rows(told)}
    assert rows["audits"] == "1 running, 1 waiting, 2 ended"
    assert (rows["slots"], rows["epochs"]) == ("1 of 2 busy", "8")


def test_an_end_that_is_far_away_is_told_with_its_day():
    assert re.fullmatch(r"about 1 min 5 s, until \d\d:\d\d", about(65))
    assert re.fullmatch(r"about 27 h 46 min, until \w+ \d\d:\d\d", about(100_000))
    assert about(65, runs=False) == "about 1 min 5 s"


def test_stages_of_the_last_mile():
    plan = [Stage("finalists", 3, 9, 30), Stage("model", 0, 1, 20)]
    rows = mile_rows(plan, None, 12.0)
    assert [(row.label, row.text, row.share) for row in rows] == [
        ("finalists", "3 of 9 trained", 1 / 3),
        ("model", "0 of 1 trained", 0.0),
        ("time", "12 s", None),
    ]
    assert mile_rows(plan, 60.0, runs=False)[-1] == Row("left", "about 1 min 0 s")


def test_nothing_is_left_of_a_search_that_a_limit_ended(standing):
    standing.limits.reason = "a target was reached"
    assert [row.text for row in search_rows(standing) if row.label == "left"] == ["nothing"]
