"""The report and the card, from a finished experiment's facts."""

import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from cifar.hparams import HParams
from tune import experiment as experiments
from tune import spec
from tune.averaging import PLAIN, UNCOMPARED, Way, compared
from tune.evaluation import Evaluation
from tune.finalists import finalists
from tune.last_mile import Winner
from tune.report.page import write_report
from tune.summary import Summary, print_closing
from tune.trials import Trial

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
HOSTILE = "</script><script>alert('x')</script> \"quoted\" 🎉"


class Tags(HTMLParser):
    """Counts what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.fetched: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.headings += [tag] if re.fullmatch(r"h\d", tag) else []
        self.fetched += [value for name, value in attrs if name in {"src", "href"}]


@pytest.fixture
def summary(tmp_path):
    def make(
        name: str,
        classes: tuple[str, ...],
        folder: str = "finished",
        onnx_error: str = "",
        ended: str = "",
    ) -> Summary:
        directory = experiments.reserve(str(tmp_path), folder)
        experiment = replace(spec.load(QUICKSTART), name=name)
        experiments.begin(directory, experiment, f"python -m tune.run --name {name!r}", "f" * 32)
        directory.model.mkdir()
        point = HParams(optimizer="adamw", learning_rate=0.0123456).model_dump()
        trials = [
            Trial(0, point, "stopped", {1: 0.5}, f"stopped at rung 1 {HOSTILE}", 1.0),
            Trial(1, point, "completed", {1: 0.7, 2: 0.9, 3: 0.8}, "", 3.0, {2: "trials/00001/checkpoint_000001"}),
            Trial(2, point, "diverged", {1: math.nan}, "val_loss was nan at epoch 1", 1.0),
            Trial(3, point, "failed", {}, "ValueError: no", 0.0),
        ]
        test = Evaluation(0.95, 0.9, 0.98, 100, 0.2, [[48, 2], [3, 47]], [])
        return Summary(
            experiment,
            directory,
            trials,
            Winner(trials[1], UNCOMPARED, 12),
            test,
            "sqlite:////a b/study.db",
            ended,
            75.0,
            12.0,
            classes,
            onnx_error,
            ("train/x.png (broken)",),
            (1, 8, 8),
            (80, 20),
        )

    return make


def _scripts(told: Summary) -> int:
    write_report(told)
    tags = Tags()
    tags.feed(told.directory.report.read_text())
    return tags.scripts


def test_the_report_is_one_harmless_file_whatever_the_names(summary):
    scripts = _scripts(summary("name", ("cat", "dog"), "harmless"))
    told = summary(HOSTILE, (HOSTILE, "b" * 200))
    write_report(told)
    html = told.directory.report.read_text()
    tags = Tags()
    tags.feed(html)
    assert tags.fetched == []
    assert tags.headings[0] == "h1"
    assert "alert('x')</script>" not in html
    assert "alert(&#39;x&#39;)" in html
    assert len(html) < 6_000_000
    assert tags.scripts == scripts, "names bring no script of their own"


def test_the_report_gives_the_result_first(summary):
    told = summary("name", ("cat", "dog"))
    write_report(told)
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", told.directory.report.read_text(), flags=re.S)
    words = " ".join(text.split())
    assert words.startswith("name: 95.00% (95 % interval 90.00% to 98.00%, 100 images)")
    assert "4 trials: 1 completed, 1 diverged, 1 failed, 1 stopped; 5 epochs. Search 1 min 15 s, retrain 12 s." in words
    assert "Trial 1, the highest val_accuracy of 4 trials. In the search: val_accuracy 0.9000 at epoch 2." in words
    assert "val_loss was nan at epoch 1" in words
    assert "ValueError: no" in words
    assert "learning_rate (searched) 0.01235" in words
    assert "momentum" not in words, "the winner's optimizer has none"


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
    write_report(told)
    print_closing(told, Console(width=160, highlight=False))
    out, html = capsys.readouterr().out, told.directory.report.read_text().replace("&#39;", "'")
    card = (told.directory.model / "README.md").read_text()
    for line in words:
        name, _, text = line.partition(": ")
        assert re.search(rf"{name} +│ {re.escape(text)}", out)
        assert f"Test, {name}: {text}" in html
        assert f"| test, {name} | {text} |" in card


def test_the_card_says_how_good_the_model_is_and_how_to_make_it_again(summary):
    told = summary("name", ("cat", "dog"))
    write_report(told)
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
    write_report(told)
    rows = re.findall(r"^\| (.*%.*|emu.*) \| (\d+) \|$", (told.directory.model / "README.md").read_text(), re.MULTILINE)
    assert rows == [
        ("dog \\| wolf | 86.0% | 95.6% | 90.5%", "50"),
        ("cat | 96.0% | 87.3% | 91.4%", "50"),
        ("emu | none | none | none", "0"),
    ]
    html = re.sub(r"\s*</?t[hd][^>]*>", " ", told.directory.report.read_text())
    assert html.index("dog | wolf  86.0%  95.6%  90.5%  50") < html.index("cat  96.0%  87.3%") < html.index("emu  none")


@pytest.mark.parametrize(("count", "shown"), [(20, 20), (21, 10)])
def test_a_card_shows_the_worst_of_many_classes_and_the_report_all(count, shown, summary):
    told = summary("name", tuple(f"class{number:02}" for number in range(count)))
    confusion = [[5 if row == column else int(column == 0) * row for column in range(count)] for row in range(count)]
    told = replace(told, test=replace(told.test, confusion=confusion))
    write_report(told)
    card = (told.directory.model / "README.md").read_text()
    worst = [f"class{number:02}" for number in reversed(range(count))][:shown]
    assert re.findall(r"^\| (class\d\d) \| \d", card, re.MULTILINE) == worst
    assert ("in the test, the 10 of the lowest recall; the worst come first:" in card) == (shown < count)
    rows = re.findall(r'<th scope="row">class\d\d</th><td>\d', told.directory.report.read_text())
    assert len(rows) == count


def test_the_card_says_what_the_model_is_for_and_of(summary):
    told = summary("name", ("cat", "dog"))
    write_report(replace(told, shape=(1, 48, 64)))
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


def test_the_closing_table_names_only_the_hparams_that_took_part(summary, capsys):
    print_closing(summary("name", ("cat", "dog")), Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert "learning_rate 0.01235" in out
    assert "momentum" not in out, "the winner's optimizer has none"
    assert "trial 1, the highest val_accuracy of 4 trials" in out
    assert "0.9000 in the search, epoch 2" in out
    assert "python -m cifar.predict --model " in out
    assert re.search(r"python -m tune dashboard \S+ --storage \S+\n", out)


def test_hparams_of_options_that_were_not_chosen_are_no_searched_ones(summary, tmp_path):
    told = summary("name", ("cat", "dog"))
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: digits}\nspace:\n  optimizer:\n    type: categorical\n    options:\n"
        "      adamw: {beta2: {type: float, lower: 0.9, upper: 0.99}}\n"
        "      sgd: {lr_schedule: {type: categorical, options: [cosine, one_cycle]}}\n"
    )
    told = replace(told, experiment=spec.load(file))
    assert list(told.searched_hparams) == ["optimizer", "beta2"]


def test_why_a_search_ended_early_is_said_in_all_three(summary, capsys):
    why = "3 trials did not improve val_accuracy (search.patience)"
    told = summary("name", ("cat", "dog"), ended=why)
    write_report(told)
    print_closing(told, Console(width=160, highlight=False))
    assert f"ended early: {why}." in told.directory.report.read_text()
    assert f"| ended early | {why} |" in (told.directory.model / "README.md").read_text()
    assert re.search(rf"ended early +│ {re.escape(why)}", capsys.readouterr().out)
    whole = summary("name", ("cat", "dog"), "whole")
    write_report(whole)
    print_closing(whole, Console(width=160, highlight=False))
    assert "ended early" not in capsys.readouterr().out + whole.directory.report.read_text()


def test_what_is_missing_is_said_in_all_three(summary, capsys):
    told = summary("name", ("cat", "dog"), onnx_error="no operator for this network")
    write_report(told)
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert "(without ONNX: no operator for this network)" in out
    assert "1 left out: train/x.png (broken)" in out
    card = (told.directory.model / "README.md").read_text()
    assert "- No `model.onnx`: no operator for this network" in card
    assert "| broken image files left out | 1 |" in card
    assert "Broken image files left out: 1 (train/x.png (broken))" in told.directory.report.read_text()


def test_the_front_is_drawn_told_and_counted(summary, capsys):
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
    write_report(told)
    print_closing(told, Console(width=160, highlight=False))
    out, html = capsys.readouterr().out, told.directory.report.read_text()
    assert re.search(r"parameters +│ 12,000 ", out)
    assert re.search(r"front +│ 3 of 4 trials ", out)
    assert "| parameters of the winning trial | 12,000 |" in (told.directory.model / "README.md").read_text()
    words = " ".join(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", html, flags=re.S).split())
    why = "Trial 1, the highest val_accuracy of 4 trials with parameters at most 15,000."
    assert f"{why} In the search: val_accuracy 0.9000 at epoch 1, parameters 12,000." in words
    assert "3 of 4 trials are beaten by none in all objectives" in words
    assert "trial val_accuracy (max) parameters (min) HParams searched 2 0.95 20,000 " in words
    assert "1 (winner) 0.9 12,000 width" in words
    assert "0 0.8 10,000 width" in words
    drawn = html[html.index('aria-label="Pareto front"') : html.index('aria-label="Learning curves"')]
    assert '"name":"winner"' in drawn
    assert '"x0":15000' not in drawn, "the bound is of the second objective"
    assert '"y0":15000' in drawn


def test_without_objectives_there_is_no_front(summary, capsys):
    told = summary("name", ("cat", "dog"))
    write_report(told)
    print_closing(told, Console(width=160, highlight=False))
    assert "front" not in capsys.readouterr().out
    assert "Pareto front" not in told.directory.report.read_text()


def test_names_with_spaces_and_brackets_stay_whole_in_the_table_and_its_commands(summary, capsys):
    told = summary("a [bold] name", ("cat", "dog"), folder="a [bold] name")
    print_closing(told, Console(width=160, highlight=False))
    out = capsys.readouterr().out
    assert out.startswith("a [bold] name ")
    (command,) = [line for line in out.splitlines() if "cifar.predict" in line]
    assert shlex.split(command)[3:] == ["--model", str(told.directory.model), str(told.directory.model / "example.png")]


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


def test_what_the_search_flattered_and_what_an_average_brings_is_told_in_all_three(summary, capsys):
    told = told_with(summary, Way("scratch", "cosine", "swa"))
    write_report(told)
    print_closing(told, Console(width=200, highlight=False))
    out, html = capsys.readouterr().out, told.directory.report.read_text()
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
    assert f"Over seeds: {over}." in html
    assert "+3.00 points from the mean val_accuracy of 2 models made so, the best of 4 ways" in out
    assert "falls to 0 (cosine);\nthe average of the weights after each of those (SWA)" in card


def test_the_report_has_a_row_for_every_finalist_and_every_way(summary):
    told = told_with(summary, Way("scratch", "cosine", "swa"))
    write_report(told)
    tables = re.findall(r"<table>.*?</table>", told.directory.report.read_text(), re.DOTALL)
    (few,) = [table for table in tables if "mean over seeds" in table]
    assert re.findall(r"<td>(.*?)</td>", few) == [
        "1", "0.9000", "0.8950 (95 % interval 0.8315 to 0.9585)", "+0.0400", "0.8900, 0.9000"
    ]  # fmt: skip
    (made,) = [table for table in tables if "than its last weights" in table]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", made)][1:]
    assert [row[:3] for row in rows] == [
        ["afresh", "none", "raw"],
        ["afresh", "cosine", "raw"],
        ["afresh", "cosine", "swa"],
        ["afresh", "cosine", "ema"],
    ]
    assert rows[2][-1] == "chosen"
    assert rows[2][3:7] == [
        "0.9200 (95 % interval 0.7929 to 1.0000)",
        "0.2550",
        "0.0150 more (95 % interval -0.0485 to +0.0785, 2 pairs)",
        "0.0300 more (95 % interval +0.0300 to +0.0300, 2 pairs)",
    ]


def test_where_averaging_does_not_help_all_three_say_that_it_is_not_used(summary, capsys):
    worse = {**RESULTS, PLAIN: [(0.95, 0.2), (0.96, 0.2)]}
    told = told_with(summary, PLAIN, worse)
    write_report(told)
    print_closing(told, Console(width=200, highlight=False))
    words = "trained afresh: val_accuracy 0.9550; no average was better, so none is used"
    card = (told.directory.model / "README.md").read_text()
    assert words in capsys.readouterr().out
    assert words in told.directory.report.read_text()
    assert words in card
    assert "The HParams of trial 1, trained afresh for 12 epochs." in card


def test_where_nothing_was_compared_the_report_says_so(summary):
    told = summary("name", ("cat", "dog"))
    write_report(told)
    assert "Nothing was compared" in told.directory.report.read_text()
