import io

import pytest
from rich.console import Console

from tune.progress import Progress, duration
from tune.spec import load
from tune.trials import Trial


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


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


def test_a_terminal_shows_counts_epochs_and_the_best(experiment):
    running = Trial(3, {}, "running", {1: 0.2, 2: 0.9})
    text = shown(experiment, [*ENDED, running], terminal=True)
    assert "tiny [bold] search" in text
    assert "3/4 trials" in text
    assert "1 running in 2 slots, 1 completed, 1 failed, 1 stopped" in text
    assert "val_accuracy 0.9000 (trial 3, epoch 2)" in text
    assert "[1/3] trial 0 completed after 3 epochs" in text


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
    assert "0 running in 2 slots" in text
    assert "0/3 trials" in text


def test_a_grid_has_no_more_trials_than_points(experiment_file):
    text = (
        "data: {source: digits}\nspace: {flip: {type: categorical, options: [true, false]}}\nsearch: {sampler: grid}\n"
    )
    trial = Trial(0, {"flip": True}, "completed", {1: 0.75})
    assert "[1/2] trial 0 completed" in shown(load(experiment_file(text)), [trial], terminal=False)
