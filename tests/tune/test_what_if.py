"""Replays of recorded curves under other rungs."""

import time
from io import StringIO

import pytest
from rich.console import Console

from tune.sections import SchedulerConfig
from tune.trials import Trial, beyond
from tune.what_if import show, what_if

WHOLE = SchedulerConfig(type="none", max_epochs=4)


def asha(mode: str = "stop", **fields) -> SchedulerConfig:
    return SchedulerConfig.model_validate({"type": "asha", "mode": mode, "max_epochs": 4, **fields})


def trained(number: int, values: list[float], state: str = "completed", reason: str = "") -> Trial:
    """A trial that had a slot for itself, after those of lower numbers."""
    curve = dict(enumerate(values, start=1))
    saved = {epoch: 100.0 * number + epoch for epoch in curve}
    return Trial(number, {}, state, curve, reason, float(len(curve)), attempts=1, saved_at=saved)


TRIALS = [
    trained(0, [0.5, 0.6, 0.7, 0.8]),
    trained(1, [0.6, 0.5, 0.4, 0.3]),
    trained(2, [0.4, 0.7, 0.8, 0.95]),
    trained(3, [0.7, 0.8, 0.9, 0.9]),
]


def replay(trials, settings, before=WHOLE, winner=None, maximize=True):
    return what_if(trials, winner or trials[2], before, settings, maximize=maximize)


def test_whole_curves_leave_nothing_unknown():
    told = replay(TRIALS, asha(reduction_factor=2))
    assert told.certain
    assert told.behind == told.ahead
    # 0 is alone at both rungs; 1 passes the first and not the second; 2 is the last of three at the first
    assert told.behind.reached == {0: 4, 1: 2, 2: 1, 3: 4}
    assert told.behind.stopped == {
        1: "stopped at rung 2: 0.5 ranks 2 of 2, 1 pass (cutoff 0.6)",
        2: "stopped at rung 1: 0.4 ranks 3 of 3, 1 pass (cutoff 0.6)",
    }
    assert (told.behind.epochs, told.behind.best) == (11, (3, 3, 0.9))
    assert (told.was.epochs, told.was.best) == (16, (2, 4, 0.95))
    assert (told.keeps_winner(told.was), told.keeps_winner(told.behind)) == (True, False)


def test_a_longer_grace_period_keeps_the_one_that_is_late():
    told = replay(TRIALS, asha(reduction_factor=2, grace_period=2))
    assert told.keeps_winner(told.behind)
    assert told.behind.reached == {0: 4, 1: 2, 2: 4, 3: 4}


def test_promotion_lets_the_best_go_on_and_in_the_end_one_at_least():
    told = replay(TRIALS, asha("promote", reduction_factor=4))
    assert told.behind.reached == {0: 1, 1: 1, 2: 1, 3: 4}
    assert told.behind.stopped[2] == "stopped at rung 1: 0.4 ranks 4 of 4, 1 pass (cutoff 0.7)"
    few = replay(TRIALS[:2], asha("promote", reduction_factor=4), winner=TRIALS[0])
    assert few.behind.reached == {0: 1, 1: 4}


def test_a_lower_metric_is_better_where_that_is_said():
    told = replay(TRIALS, asha("promote", reduction_factor=4), maximize=False)
    assert told.behind.reached == {0: 1, 1: 1, 2: 4, 3: 1}
    assert told.behind.best == (2, 1, 0.4)


def cut(trial: Trial, epoch: int) -> Trial:
    kept = {at: value for at, value in trial.values.items() if at <= epoch}
    return Trial(trial.number, {}, "stopped", kept, "stopped at rung 1: …", 1.0, attempts=1, saved_at=trial.saved_at)


def test_what_a_cut_curve_would_have_been_is_bounded_from_both_sides():
    before = asha(reduction_factor=2)
    told = replay([*TRIALS[:2], cut(TRIALS[2], 1), TRIALS[3]], asha(reduction_factor=2, grace_period=2), before)
    assert not told.certain
    assert (told.behind.reached[2], told.ahead.reached[2]) == (2, 4)
    assert (told.behind.unknown, told.ahead.unknown) == (1, 1)
    assert told.behind.stopped[2] == "stopped at rung 2"
    assert told.ahead.reached[3] == 4, "of four values two pass"
    truth = replay(TRIALS, asha(reduction_factor=2, grace_period=2)).behind
    assert told.behind.epochs <= truth.epochs <= told.ahead.epochs
    assert told.ahead.best == (3, 3, 0.9), "of what is known"


def test_an_audited_curve_is_known():
    stopped = cut(TRIALS[2], 1)
    stopped.audit = beyond(stopped)
    stopped.audit.values |= TRIALS[2].values
    stopped.audit.state = "completed"
    told = replay([*TRIALS[:2], stopped, TRIALS[3]], asha(reduction_factor=2, grace_period=2), asha(reduction_factor=2))
    assert told.certain
    assert told.behind.best == (2, 4, 0.95)
    assert (told.was.best, told.was.epochs) == ((3, 3, 0.9), 13), "as the search saw it"
    console = Console(file=StringIO(), width=200)
    show(told, asha(reduction_factor=2), "val_accuracy", console)
    assert "Epochs are the search's: its audits trained 3 more." in console.file.getvalue()


def test_what_died_dies_again_and_is_no_peer():
    dead = trained(0, [0.9], "diverged", "val_loss was nan at epoch 2")
    told = replay([dead, *TRIALS[1:]], asha(reduction_factor=2, min_peers=2))
    assert (told.behind.reached[0], told.certain) == (1, True)
    assert told.behind.reached[1] == 4, "nobody else is there yet"
    promoted = replay([dead, *TRIALS[1:]], asha("promote", reduction_factor=2))
    assert promoted.behind.reached == {0: 1, 1: 2, 2: 1, 3: 4}, "the best of two that live"


def test_a_longer_training_needs_what_nobody_knows():
    told = replay(TRIALS, asha(reduction_factor=2, max_epochs=16, grace_period=8))
    assert told.behind.unknown == 4
    assert told.ahead.reached == {0: 16, 1: 8, 2: 8, 3: 8}, "unknown ones are equal to each other"


@pytest.mark.parametrize("mode", ["stop", "promote"])
def test_the_same_settings_give_what_was(session, mode):
    fields = ("search.trials=20", "scheduler.max_epochs=9", "scheduler.reduction_factor=3", f"scheduler.mode={mode}")
    apart = {"checkpointed": 0.002}  # time stamps are of milliseconds
    one = session(*fields, "search.sampler=random", hook=lambda what: time.sleep(apart.get(what, 0))).run()
    trials, scheduler = one.record.trials(), one.experiment.scheduler
    told = what_if(trials, None, scheduler, scheduler, maximize=True)
    assert told.certain
    assert told.behind.reached == told.was.reached
    assert (told.behind.epochs, told.behind.best) == (told.was.epochs, told.was.best)
