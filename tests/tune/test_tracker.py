"""TensorBoard's HParams tab, and what W&B hears of trials' ends."""

from dataclasses import replace

import pytest

from tune.tracker import Tracker, note_ended
from tune.tracking import Tracking
from tune.trainings import Repeat, Tail
from tune.trials import Trial
from tune.wandb_runs import Begin, End

SPACE = """\
data: {source: digits}
space:
  learning_rate: {type: float, lower: 1e-4, upper: 1.0, log: true}
  flip: {type: categorical, options: [true, alternating]}
  optimizer:
    type: categorical
    options:
      sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}}
      adamw:
search: {metric: val_accuracy}
"""


class Heard(list):
    """A sink."""

    put = list.append


@pytest.fixture
def hparams(experiment):
    from cifar.hparams import HParams

    def make(**values):
        return HParams(**values).model_dump()

    return make


@pytest.fixture
def track(experiment, tmp_path):
    """Tells a tracker of its own of trials; what it said, and what W&B heard."""

    def tell(*standings, recalled=False):
        said, heard = [], Heard()
        tracker = Tracker(experiment(text=SPACE), tmp_path, Tracking("", "", "offline", "", "", heard), said.append)
        for trial in standings:
            tracker.update(trial, recalled=recalled)
        tracker.close()
        return said, heard

    return tell


def trial(number, state, values=(), **hparams):
    return Trial(number, hparams, state, dict(enumerate(values, 1)), reason="why" * (state == "stopped"), attempts=1)


def test_the_hparams_tab_shows_each_trial_once_with_its_state_and_its_best_value(track, hparams, hparams_tab, tmp_path):
    one, two = hparams(learning_rate=0.5, flip=True), hparams(optimizer="adamw", flip="alternating")
    said, _ = track(
        trial(0, "running", **one),
        trial(1, "running", **two),
        trial(0, "running", [0.5], **one),
        trial(0, "paused", [0.5], **one),
        trial(1, "running", [0.25], **two),
        trial(1, "diverged", [0.25], **two),
        trial(0, "running", [0.5, 0.75], **one),
        trial(0, "running", [0.5, 0.75, 0.625], **one),
        trial(0, "completed", [0.5, 0.75, 0.625], **one),
        trial(2, "failed", **one),
    )
    assert said == []
    told = hparams_tab(tmp_path)
    assert told.pop("shown") == (
        {"learning_rate", "flip", "optimizer", "momentum"},
        ["best val_accuracy", "last val_accuracy", "epochs"],
    )
    assert told.pop("ended") == {"00000": "completed", "00001": "diverged", "00002": "failed"}
    assert {name: (told[name][0], *told[name][1::2]) for name in told} == {
        "00000": ("00000", "STATUS_SUCCESS", {"hp_metric": (3, 0.75)}),
        "00001": ("00001", "STATUS_FAILURE", {"hp_metric": (1, 0.25)}),
        "00002": ("00002", "STATUS_FAILURE", {}),
    }
    assert told["00000"][2]["learning_rate"] == 0.5
    assert (told["00000"][2]["flip"], told["00001"][2]["flip"]) == ("True", "alternating")
    assert "momentum" in told["00000"][2]
    assert "momentum" not in told["00001"][2], "adamw has none"


def test_a_resumed_search_adds_what_is_missing_and_nothing_twice(track, hparams, hparams_tab, tmp_path):
    point = hparams()
    running = trial(0, "running", [0.5], **point)
    track(running, trial(1, "completed", [0.5], **point))
    before = hparams_tab(tmp_path)
    assert before["00000"][1] == "STATUS_UNKNOWN"
    _, heard = track(
        trial(0, "stopped", [0.5, 0.75], **point),
        trial(1, "completed", [0.5], **point),
        replace(running, number=2, state="paused"),
        recalled=True,
    )
    after = hparams_tab(tmp_path)
    assert after["00000"][1::2] == ("STATUS_SUCCESS", {"hp_metric": (2, 0.75)})
    assert after["00001"] == before["00001"]
    assert heard == [
        End("00000", "stopped", "why", 2, {"best_epoch": 2, "best_val_accuracy": 0.75}, recalled=True),
        End("00001", "completed", "", 1, {"best_epoch": 1, "best_val_accuracy": 0.5}, recalled=True),
    ]


def test_wandb_hears_of_a_trial_when_it_begins_and_when_it_ends(track, hparams):
    point = hparams()
    _, heard = track(
        trial(3, "running", **point), trial(3, "paused", [0.5], **point), trial(3, "failed", [0.5], **point)
    )
    begin = Begin("00003", "trial", {**point, "trial": 3, "seed": 0})
    assert heard == [begin, End("00003", "failed", "", 1, {"best_epoch": 1, "best_val_accuracy": 0.5})]


def test_a_folder_that_cannot_be_written_is_said_once(track, hparams, tmp_path):
    (tmp_path / "00000").write_text("in the way")
    said, heard = track(trial(0, "running", **hparams()), trial(0, "completed", [0.5], **hparams()))
    assert len(said) == 1
    assert said[0].startswith("TensorBoard's HParams tab gets no further: ")
    assert len(heard) == 2, "W&B is told all the same"


def test_finalists_stand_beside_their_trial(experiment, hparams, hparams_tab, tmp_path):
    heard, one = Heard(), experiment(text=SPACE)
    tracking = Tracking("", "", "offline", "", "", heard)
    for seed, result in ((1, {"curve": [0.5, 0.25]}), (2, {"diverged": "the loss was nan"})):
        note_ended(Repeat(7, hparams(), seed), result, one, tmp_path, tracking)
    tail = Tail(7, "checkpoint", "constant", 1, 0.1, 1, "file")
    note_ended(tail, {}, one, tmp_path, tracking)
    assert heard == [
        End("00007-seed-1", "completed", "", 2, {"best_epoch": 1, "best_val_accuracy": 0.5}),
        End("00007-seed-2", "diverged", "the loss was nan"),
    ]
    told = hparams_tab(tmp_path)
    assert told["00007-seed-1"][:2] == ("00007 over seeds", "STATUS_SUCCESS")
    assert told["00007-seed-2"][:2] == ("00007 over seeds", "STATUS_FAILURE")
    assert told["ended"] == {"00007-seed-1": "completed", "00007-seed-2": "diverged: the loss was nan"}
