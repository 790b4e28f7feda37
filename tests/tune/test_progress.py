import io
import re
import time

import pytest
from rich.console import Console

from tune.limits import Limits
from tune.progress import MileProgress, Progress
from tune.spec import load
from tune.trials import Trial


@pytest.fixture
def experiment(experiment_file):
    return load(experiment_file("data: {source: digits}\nspace: {}\nsearch: {trials: 3}\n", "tiny [bold] search.yaml"))


def shown(experiment, trials: list[Trial], *, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None, legacy_windows=False)
    with Progress(experiment, 2, console) as progress:
        for trial in trials:
            progress.update(trial)
    return stream.getvalue()


ENDED = [
    Trial(0, {}, "completed", {1: 0.5, 2: 0.75, 3: 0.7}),
    Trial(2, {}, "stopped", {1: 0.4}, "stopped at rung 1: 0.4 ranks 3 of 3, 1 pass (cutoff 0.5)"),
    Trial(1, {}, "failed", {}, "[red]no memory"),
]


def test_a_line_for_each_end_where_there_is_no_terminal(experiment):
    assert shown(experiment, ENDED, terminal=False).splitlines() == [
        "[1/3] trial 0 completed after 3 epochs, val_accuracy 0.7500",
        "[2/3] trial 2 stopped after 1 epoch, val_accuracy 0.4000 "
        "(stopped at rung 1: 0.4 ranks 3 of 3, 1 pass (cutoff 0.5))",
        "[3/3] trial 1 failed after 0 epochs, no value ([red]no memory)",
    ]


def test_a_running_trial_prints_nothing_where_there_is_no_terminal(experiment):
    assert shown(experiment, [Trial(0, {}, values={1: 0.5})], terminal=False) == ""


def test_a_terminal_shows_counts_epochs_the_best_and_the_last_ends(experiment):
    running = Trial(3, {}, "running", {1: 0.2, 2: 0.9})
    text = shown(experiment, [*ENDED, running], terminal=True)
    for words in (
        "tiny [bold] search",
        "3 of 4 ended",
        "1 completed, 1 failed, 1 running, 1 stopped",
        "1 of 2 busy",
        "val_accuracy 0.9000 (trial 3, epoch 2)",
        "rung 1: 0.4 ranks 3 of 3, 1 pass (cutoff 0.5)",
        "[red]no memory",
    ):
        assert words in text


def test_of_several_objectives_the_best_is_that_which_would_win(experiment_file):
    text = (
        "data: {source: digits}\nspace: {}\nsearch:\n  objectives: [{metric: val_accuracy}, {metric: parameters}]\n"
        "  choose: {subject_to: {parameters: {upper: 10}}}\n"
    )
    trials = [
        Trial(number, {}, "completed", {1: right}, figures={1: {"val_accuracy": right, "parameters": count}})
        for number, (right, count) in enumerate([(0.8, 10), (0.9, 11), (0.7, 9)])
    ]
    told = shown(load(experiment_file(text)), trials, terminal=True)
    assert "val_accuracy 0.8000, parameters 10 (trial 0, epoch 1)" in told


def test_epochs_are_those_of_all_trials_each_counted_once(experiment):
    epochs = [Trial(0, {}, values={1: 0.1}), Trial(1, {}, values={1: 0.1}), Trial(0, {}, values={1: 0.1, 2: 0.2})]
    lines = shown(experiment, epochs, terminal=True).splitlines()
    assert ["epochs", "3"] in [line.split() for line in lines]


def test_a_terminal_shows_something_before_the_first_trial(experiment):
    text = shown(experiment, [], terminal=True)
    for words in ("0 of 3 ended", "none yet", "0 of 2 busy", "not known before the first epoch"):
        assert words in text


def test_of_a_single_trial_each_epoch_is_a_line_and_a_pause_none(experiment_file):
    one = load(experiment_file("data: {source: digits}\nspace: {}\nsearch: {trials: 1}\n"))
    told = [Trial(0, {}, "running", {1: 0.5}), Trial(0, {}, "paused", {1: 0.5})]
    assert shown(one, told, terminal=False).splitlines() == ["epoch 1: val_accuracy 0.5000"]


def test_a_grid_has_no_more_trials_than_points(experiment_file):
    text = (
        "data: {source: digits}\nspace: {flip: {type: categorical, options: [true, false]}}\nsearch: {sampler: grid}\n"
    )
    trial = Trial(0, {"flip": True}, "completed", {1: 0.75})
    assert "[1/2] trial 0 completed" in shown(load(experiment_file(text)), [trial], terminal=False)


def test_a_resumed_search_counts_what_was_before(experiment):
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    with Progress(experiment, 2, console) as progress:
        limits = Limits(experiment.search, elapsed=100.0)
        progress.recall(ENDED[:2], limits)
        progress.update(ENDED[2])
        assert progress.standing.epochs == 4
        assert progress.standing.elapsed >= 100.0
    assert stream.getvalue().startswith("[3/3] trial 1 failed")


def test_a_long_silence_is_broken_where_there_is_no_terminal(experiment):
    stream = io.StringIO()
    with Progress(experiment, 2, Console(file=stream, width=80), silence_s=0.2) as progress:
        progress.update(Trial(0, {}, "running", {1: 0.5}, seconds=60.0))
        until = time.monotonic() + 10
        while not stream.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    line, *_ = stream.getvalue().splitlines()
    assert line.startswith("0 of 3 trials ended; 1 running; 1 epoch; 0 s gone; about ")
    assert line.endswith(" left; best val_accuracy 0.5000 (trial 0, epoch 1)")


def test_no_silence_is_broken_too_soon(experiment):
    stream = io.StringIO()
    with Progress(experiment, 2, Console(file=stream, width=80)):
        time.sleep(0.1)
    assert stream.getvalue() == ""


# The last mile

RESULT = {"curve": [0.5, 0.6], "seconds": 8.0}


@pytest.fixture
def mile(experiment_file):
    """What a console of 80 columns shows of the last mile of two finalists with two seeds, after so many trainings."""

    def make(ended: int, said: list[str], *, terminal: bool) -> str:
        text = (
            "data: {source: digits}\nspace: {}\nsearch: {trials: 2}\nscheduler: {max_epochs: 4}\n"
            "retrain: {finalists: 2, seeds: 2, start: checkpoint, lr_schedule: constant, epochs: 5}\n"
        )
        one = load(experiment_file(text, "tiny.yaml"))
        trials = [
            Trial(number, {"learning_rate": 0.1 * (number + 1)}, "completed", {1: 0.5}, checkpoints={1: "x"})
            for number in range(2)
        ]
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=80, height=40, color_system=None)
        with MileProgress(one, trials, 2, 60.0, console, silence_s=60.0) as progress:
            keys = [f"finalist {number} seed {seed}" for number in (0, 1) for seed in (1, 2)]
            progress.results = dict.fromkeys(keys[:ended], RESULT)
            for line in said:
                progress.say(line)
        return stream.getvalue()

    return make


def test_the_last_mile_is_shown_stage_by_stage(mile):
    lines = mile(3, ["finalists 2/4: trial 0 again", "finalists 3/4: trial 1 again"], terminal=True).splitlines()
    told = [" ".join(line.strip(" \r").replace("━", "").split()) for line in lines]
    assert "tiny: the last mile" in told[0]
    assert {"finalists 3 of 4 trained", "averages 0 of 2 trained", "model 0 of 1 trained", "time 1 min 0 s"} < {*told}
    # an epoch took 4 s: a finalist has 4 of them, in the two slots there are two tails of 5 at once; then the model
    assert any(re.match(r"left about 5[56] s, until \d\d:\d\d", line) for line in told), 4 * (4 + 5 + 5)
    assert {"finalists 2/4: trial 0 again", "finalists 3/4: trial 1 again"} < {*told}


def test_the_model_says_how_far_it_is_in_one_line(mile):
    said = [f"constant tail: epoch {epoch}/5, train_loss 0.1" for epoch in range(1, 4)]
    text = mile(4, said, terminal=True)
    assert "epoch 3/5" in text
    assert "epoch 2/5" not in text.rpartition("the last mile")[2]


def test_without_a_terminal_the_last_mile_says_each_line(mile):
    said = ["finalists 1/4: trial 0 again", "evaluating"]
    assert mile(1, said, terminal=False).splitlines() == said
