"""Single decisions of the conductor; test_kill_and_resume.py plays whole searches."""

import time

import pytest

NO_STOPPING = ("scheduler.type=none", "scheduler.max_epochs=4", "search.sampler=random")
STOP = "scheduler.mode=stop"
PROMOTE = ("scheduler.mode=promote", "scheduler.reduction_factor=2", "scheduler.max_epochs=4", "search.sampler=random")
GRID = "space={translate: {type: int, lower: 0, upper: 2}, flip: {type: categorical, options: [true, false]}}"


def full(journal, lines) -> None:
    raise OSError(28, "No space left on device")


def states(one) -> dict[int, tuple[str, str]]:
    """State and reason of each trial that was begun, which must be those in the study; it knows no running ones."""
    told = {trial.number: (trial.state, trial.reason) for trial in one.record.trials() if trial.attempts}
    live = {trial.number: (trial.state.replace("running", "paused"), trial.reason) for trial in one.trials.values()}
    assert told == live
    return told


def lose(one, number: int, reason: str = "its process died", **more: bool) -> None:
    one.leave(number)
    one.conductor.lost(number, reason, **more)


def fail(one, number: int, reason: str, traceback: str = "", **more: bool) -> None:
    one.leave(number)
    one.conductor.failed(number, reason, traceback, **more)


# Nodes that are announced as leaving


@pytest.mark.parametrize("fields", [NO_STOPPING, (*PROMOTE, "scheduler.grace_period=2", "scheduler.max_epochs=6")])
def test_a_trial_on_a_node_that_leaves_goes_on_from_its_epoch_in_the_next_slot(session, fields):
    one = session(*fields, "search.trials=3", slots=2)
    assert one.fill() == [0, 1]
    assert one.measure(0, leaving=True), "it is to stop"
    path = one.save(0)
    one.slots = 1
    one.leave(0)
    one.conductor.ended(0)
    assert (one.trials[0].state, one.trials[0].lost) == ("paused", 0)
    assert one.conductor.next() is None, "there is one slot, which the other trial has"
    one.slots = 2
    start = one.start()
    assert (start.trial.number, start.checkpoints, start.trial.attempts) == (0, ((1, path),), 2)
    again = session(*fields, "search.trials=3", slots=2)
    assert again.fill() == [0, 1], "a killed search goes on with it, too"
    again.run()
    assert {state for state, _ in states(again).values()} <= {"completed", "stopped"}


def test_a_trial_that_ends_on_a_node_that_leaves_has_ended(session):
    one = session(*NO_STOPPING, "scheduler.max_epochs=1", "search.trials=1")
    one.fill()
    one.measure(0, 0.5, leaving=True)
    one.save(0)
    one.leave(0)
    one.conductor.ended(0)
    assert states(one) == {0: ("completed", "")}


def test_a_node_that_is_gone_before_its_trial_has_left_costs_one_start(session):
    one = session(*NO_STOPPING, "search.trials=1")
    one.fill()
    one.measure(0, leaving=True)
    lose(one, 0, "its node was lost", counts=False)
    assert one.fill() == [0]
    assert [start.checkpoints for start in one.began] == [(), ()], "its epoch was not saved"
    one.run()
    assert states(one) == {0: ("completed", "")}


def test_a_trial_with_a_gpu_to_itself_takes_the_slots_of_those_that_would_share_it(session):
    """Else the search would take more than its share of a cluster, or wait for slots that are none."""
    one = session(*NO_STOPPING, "search.trials=8", slots=4, alone=2)
    assert one.fill() == [0, 1, 2, 3]
    one.leave(0)
    one.conductor.crowded_out(0)
    assert one.conductor.next() is None, "one slot is free, and two are needed; the next trial does not take it"
    while not one.train(1):
        pass
    assert one.fill() == [0]
    assert one.conductor.next() is None
    while not one.train(2):
        pass
    assert one.fill() == [4]


def test_where_even_one_does_not_fit_the_share_it_runs_when_nothing_else_does(session):
    one = session(*NO_STOPPING, "search.trials=2", slots=1, alone=2)
    one.fill()
    one.leave(0)
    one.conductor.crowded_out(0)
    assert one.fill() == [0]


def test_what_is_wanted_is_what_would_begin_at_once(session):
    one = session(*PROMOTE, "search.trials=4", value=[[0.9] * 4, [0.8] * 4, [0.2] * 4, [0.1] * 4], slots=1)
    assert one.conductor.wants() == 3, "there is a slot for one of four"
    one.run(steps=4)
    one.train(3)
    assert one.conductor.could_begin > 1
    assert one.conductor.wants() == 0, "of those at the rung one may go on, and has the slot that is free"
    one.slots = 0
    assert one.conductor.wants() == 1
    one.conductor.interrupt()
    assert one.conductor.wants() == 0


def test_what_could_begin_is_counted_to_the_last(session):
    one = session(*PROMOTE, "search.trials=4")
    assert one.conductor.could_begin == 4
    one.fill()
    assert one.conductor.could_begin == 3
    one.run()
    assert one.conductor.could_begin == 0


# Slots


def test_no_more_trials_run_than_there_are_slots_even_when_they_become_fewer(session):
    one = session(*NO_STOPPING, "scheduler.max_epochs=1", "search.trials=6", slots=3)
    assert one.fill() == [0, 1, 2]
    one.slots = 1
    one.train(0)
    assert one.fill() == []
    one.train(1)
    assert one.fill() == []
    one.train(2)
    assert one.fill() == [3]
    one.slots = 2
    assert one.fill() == [4]


def test_a_trial_holds_its_slot_before_it_has_begun(session):
    one = session(*NO_STOPPING)
    assert one.conductor.next().trial.number == 0
    assert (one.conductor.next(), one.told) == (None, [])
    one.conductor.started(0)
    assert (one.conductor.next(), one.told) == (None, [(0, "running")])


def test_every_trial_runs_once_and_then_the_search_is_finished(session):
    one = session(*NO_STOPPING, "search.trials=3", slots=2)
    assert one.conductor.has_work
    one.run()
    assert [start.trial.number for start in one.began] == [0, 1, 2]
    assert states(one) == dict.fromkeys(range(3), ("completed", ""))
    assert [one.told.count((number, "completed")) for number in range(3)] == [1, 1, 1]
    assert (one.conductor.over, one.conductor.has_work, one.conductor.next()) == ("", False, "finished")


@pytest.mark.parametrize(
    "fields",
    [NO_STOPPING, (STOP, "scheduler.reduction_factor=2", "scheduler.max_epochs=4"), PROMOTE],
    ids=["none", "stop", "promote"],
)
def test_more_trials_extend_a_finished_search(session, fields):
    before = session(*fields, "search.trials=4", slots=2).run()
    assert not session(*fields, "search.trials=3").conductor.has_work, "it had more than that"
    after = session(*fields, "search.trials=7", slots=2)
    assert after.conductor.has_work
    after.run()
    assert {start.trial.number for start in after.began} == {4, 5, 6}
    assert [after.trials[number] for number in range(4)] == [before.trials[number] for number in range(4)]
    assert len(states(after)) == 7


def test_old_values_are_peers_of_the_trials_that_extend_a_search(session):
    values = [[0.5, 0.6], [0.7, 0.8], [0.6, 0.7]]
    fields = ("scheduler.reduction_factor=2", "scheduler.max_epochs=2", "search.sampler=random")
    session(*fields, "search.trials=2", value=values).run()
    after = session(*fields, "search.trials=3", value=values).run()
    assert states(after)[2] == ("stopped", "stopped at rung 1: 0.6 ranks 2 of 3, 1 pass (cutoff 0.7)")


def test_a_grid_ends_with_its_last_point_however_many_trials_are_asked_for(session):
    def points(trials: int) -> list[tuple]:
        one = session(*NO_STOPPING, "search.sampler=grid", GRID, f"search.trials={trials}").run()
        assert one.conductor.over == ""
        return [(trial.hparams["translate"], trial.hparams["flip"]) for trial in one.trials.values()]

    whole = [(translate, flip) for translate in range(3) for flip in (True, False)]
    assert points(4) == whole[:4]
    assert points(100) == whole


# Promotion


def test_a_trial_pauses_at_its_rung_and_the_best_goes_on_when_a_slot_is_free(session):
    one = session(*PROMOTE, "search.trials=3", value=[[0.5, 0.6], [0.7, 0.8, 0.8, 0.9], [0.6]])
    one.fill()
    assert one.train(0)
    assert (one.trials[0].state, one.trials[0].judged) == ("paused", {})
    assert one.fill() == [1], "one value decides nothing yet"
    assert one.train(1)
    assert one.fill() == [1], "of two the better one goes on, before a new trial begins"
    start = one.began[-1]
    assert start.checkpoints == ((1, "trials/00001/checkpoint_000001"),)
    assert (start.folder, start.trial.attempts) == ("00001.2", 2)
    assert one.trials[1].judged == {1: "passes rung 1: 0.7 ranks 1 of 2, 1 pass (cutoff 0.7)"}
    assert one.train(1)
    assert one.trials[1].epochs == 2, "it pauses at the next rung"
    assert one.fill() == [2]


def test_those_that_were_not_promoted_end_with_their_standing(session):
    values = [[0.5], [0.7, 0.8, 0.8, 0.9], [0.6]]
    one = session(*PROMOTE, "search.trials=3", value=values).run()
    assert states(one) == {
        0: ("stopped", "stopped at rung 1: 0.5 ranks 3 of 3, 1 pass (cutoff 0.7)"),
        1: ("completed", ""),
        2: ("stopped", "stopped at rung 1: 0.6 ranks 2 of 3, 1 pass (cutoff 0.7)"),
    }
    assert one.trials[1].seconds == 4, "of all its attempts"


def test_what_can_no_longer_be_promoted_ends_at_once_and_leaves_no_checkpoint(session):
    values = [[level] * 4 for level in (0.5, 0.9, 0.8, 0.7, 0.65, 0.6)]
    one = session(*PROMOTE, "search.trials=6", "search.keep_checkpoints=1", "retrain.seeds=0", value=values)
    while 5 not in one.trials or not one.trials[5].values:
        assert one.trials.get(0) is None or one.trials[0].state != "stopped", "three of six may pass, and two may die"
        one.fill()
        one.train(*one.epoch)
    assert states(one)[0] == ("stopped", "stopped at rung 1: 0.5 ranks 6 of 6, 3 pass (cutoff 0.7)")
    one.run()
    ended = {number: state for number, (state, _) in states(one).items()}
    assert ended == {0: "stopped", 1: "completed", **dict.fromkeys(range(2, 6), "stopped")}
    assert one.kept() == {1: [4]}


def test_as_many_trials_keep_a_checkpoint_as_are_to_be_finalists(session):
    values = [[level] for level in (0.5, 0.9, 0.8, 0.7)]
    fields = ("scheduler.type=none", "scheduler.max_epochs=1", "search.trials=4", "search.keep_checkpoints=1")
    assert session(*fields, "retrain.finalists=2", value=values).run().kept() == {1: [1], 2: [1]}


@pytest.mark.parametrize("broken", ["val_loss was nan at epoch 2", ""])
def test_the_runner_up_goes_on_in_the_place_of_one_that_died(session, broken):
    fields = ("scheduler.reduction_factor=4", "scheduler.max_epochs=8", "search.trials=6")
    one = session(*fields, value=[[level] * 8 for level in (0.9, 0.5, 0.6, 0.7, 0.4, 0.3)])
    while not one.trials or one.trials[0].attempts < 2:
        one.train(*one.fill())
    if broken:
        one.measure(0, broken=broken)
        one.save(0)
        one.leave(0)
        one.conductor.ended(0)
    else:
        one.leave(0)
        one.conductor.failed(0, "ValueError: odd")
    one.run()
    ended = {number: state for number, (state, _) in states(one).items()}
    assert ended[0] == ("diverged" if broken else "failed")
    assert ended[3] == "completed"
    assert len(one.trials[3].values) == 8


def test_a_failed_trial_that_runs_again_is_not_held_against_itself(session):
    one = session("scheduler.max_epochs=9", "search.trials=1")
    one.fill()
    for _ in range(3):
        if one.train(0):
            one.fill()
    one.leave(0)
    one.conductor.failed(0, "ValueError: odd")
    one.run()
    again = session("scheduler.max_epochs=9", "search.trials=1")
    assert again.record.repeat_failed() == 1
    again.run()
    assert {number: state for number, (state, _) in states(again).items()} == {0: "failed", 1: "completed"}


def test_the_best_gets_to_the_end_though_too_few_stand_at_each_rung(session):
    one = session(*PROMOTE, "search.trials=2", "scheduler.min_peers=9", value=[[0.5], [0.7] * 4]).run()
    assert {number: state for number, (state, _) in states(one).items()} == {0: "stopped", 1: "completed"}


def test_those_that_pause_when_the_search_is_over_end_with_its_reason(session):
    one = session(*PROMOTE, "search.epoch_budget=3", value=[[0.5], [0.7, 0.8]]).run()
    why = "the search's 3 epochs were trained (search.epoch_budget)"
    assert states(one) == {0: ("stopped", why), 1: ("stopped", why)}


# Stopping


def test_a_trial_below_its_rungs_cutoff_is_told_to_stop_and_why_is_recorded(session):
    fields = (STOP, "scheduler.reduction_factor=2", "scheduler.max_epochs=2", "search.trials=2")
    one = session(*fields, slots=2)
    one.fill()
    assert not one.measure(0, 0.7)
    assert one.measure(1, 0.5)
    one.save(1)
    assert one.trials[1].state == "running", "it has its slot until Ray says that it has left"
    one.conductor.ended(1)
    why = "stopped at rung 1: 0.5 ranks 2 of 2, 1 pass (cutoff 0.7)"
    assert (one.trials[1].state, one.trials[1].reason, one.trials[1].judged) == ("stopped", why, {1: why})
    assert one.told[-1] == (1, "stopped")


def test_what_was_told_to_stop_stays_so_whatever_it_reports(session):
    fields = (STOP, "scheduler.reduction_factor=2", "scheduler.max_epochs=4", "search.trials=2")
    one = session(*fields, slots=2)
    one.fill()
    one.measure(0, 0.7)
    assert one.measure(1, 0.5)
    assert one.measure(1, 0.9)
    assert one.trials[1].values == {1: 0.5}


# Lost


def test_a_lost_trial_goes_on_from_its_last_checkpoint_in_a_new_attempt(session):
    one = session(*NO_STOPPING, value=[[0.1, 0.2, 0.3, 0.4]])
    one.fill()
    assert one.began[0].folder == "00000"
    one.train(0)
    one.train(0)
    one.measure(0)  # its checkpoint is not whole
    lose(one, 0)
    assert one.told[-1] == (0, "paused")
    assert one.fill() == [0], "before a new trial begins"
    start = one.began[-1]
    assert start.folder == "00000.2"
    assert start.checkpoints == (
        (2, "trials/00000/checkpoint_000002"),
        (1, "trials/00000/checkpoint_000001"),  # in case the newest is damaged
    )
    assert not one.train(0, 0.99)
    assert one.trials[0].values == {1: 0.1, 2: 0.2, 3: 0.3}, "an epoch that is trained again has its first value"
    assert one.trials[0].seconds == 4
    assert one.train(0)
    trial = one.record.trials()[0]
    assert (trial.state, trial.attempts, trial.lost) == ("completed", 2, 1)


def test_an_epoch_that_is_trained_again_costs_the_budget_nothing(session):
    one = session(*NO_STOPPING, "search.epoch_budget=4")
    one.fill()
    one.train(0)
    one.train(0)
    one.measure(0)  # counts when it is saved
    lose(one, 0)
    one.fill()
    one.epoch[0] = 1  # its newest checkpoint is damaged
    one.train(0)
    one.train(0)
    assert one.conductor.over == ""
    one.train(0)
    assert one.conductor.over == "the search's 4 epochs were trained (search.epoch_budget)"


@pytest.mark.parametrize(("retries", "words"), [(0, "lost once"), (2, "lost 3 times, the last time")])
def test_a_trial_that_is_lost_too_often_has_failed(session, retries, words):
    fields = (*NO_STOPPING, f"search.max_retries={retries}")
    for _ in range(retries + 1):
        one = session(*fields)  # losses of earlier sessions count
        assert one.fill() == [0]
        lose(one, 0, "its node was lost")
    assert states(one) == {0: ("failed", f"{words}: its node was lost")}
    assert one.fill() == [1]


def test_preemption_is_not_counted(session):
    one = session(*NO_STOPPING, "search.max_retries=0")
    for _ in range(5):
        assert one.fill() == [0]
        lose(one, 0, "its node was lost", counts=False)
    assert (one.trials[0].state, one.trials[0].lost) == ("paused", 0)
    one.fill()
    lose(one, 0)
    assert one.trials[0].state == "failed"


def test_a_trial_lost_after_it_was_told_to_stop_is_stopped(session):
    one = session(STOP, "scheduler.reduction_factor=2", "search.max_retries=0", "search.trials=2", slots=2)
    one.fill()
    one.measure(0, 0.7)
    one.measure(1, 0.5)
    lose(one, 1)
    assert states(one)[1] == ("stopped", "stopped at rung 1: 0.5 ranks 2 of 2, 1 pass (cutoff 0.7)")
    assert one.trials[1].lost == 0


def test_a_trial_lost_before_the_checkpoint_of_its_rung_was_whole_trains_that_epoch_again(session):
    one = session(*PROMOTE, "search.trials=1", "search.max_retries=0")
    one.fill()
    assert one.measure(0, 0.5)
    lose(one, 0)
    assert one.fill() == [0]
    assert one.began[-1].checkpoints == ()
    assert one.train(0, 0.5)
    assert (one.trials[0].state, one.trials[0].values, one.trials[0].lost) == ("paused", {1: 0.5}, 0)
    assert list(one.trials[0].checkpoints) == [1]


# Failed


def test_a_trial_that_raised_is_not_repeated(session):
    one = session(*NO_STOPPING, "search.trials=2")
    one.fill()
    one.train(0, 0.9)
    fail(one, 0, "ValueError: odd", "Traceback: first")
    assert one.told[-1] == (0, "failed")
    assert one.fill() == [1]
    fail(one, 1, "KeyError: other", "Traceback: second", users_mistake=True)
    assert states(one) == {0: ("failed", "ValueError: odd"), 1: ("failed", "KeyError: other")}
    assert one.conductor.first_traceback == "Traceback: first"
    assert [one.trials[number].users_mistake for number in range(2)] == [False, True]
    assert one.conductor.next() == "finished"


def test_processes_that_all_die_alike_end_the_search(session):
    one = session(*NO_STOPPING, "search.max_retries=0", "search.trials=8")
    for _ in range(3):
        lose(one, *one.fill())
    assert one.conductor.over == "the first 3 trials failed alike (lost once: its process died)"


def test_the_first_three_failing_alike_end_the_search(session):
    one = session(*NO_STOPPING, slots=2)
    for number in range(3):
        assert one.conductor.over == ""
        one.fill()
        fail(one, number, "ValueError: odd")
    why = "the first 3 trials failed alike (ValueError: odd)"
    assert one.conductor.over == why
    assert (one.conductor.has_work, one.conductor.next()) == (False, None)  # one is in its slot yet
    one.close()
    assert states(one)[3] == ("stopped", why)
    assert one.conductor.next() == "finished"


@pytest.mark.parametrize("reasons", [["a", "b", "a", "a"], ["a", "a"]])
def test_other_failures_end_nothing(session, reasons):
    one = session(*NO_STOPPING)
    for number, reason in enumerate(reasons):
        assert one.fill() == [number]
        fail(one, number, reason)
    assert one.conductor.over == ""


@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_failures_alike_end_nothing_where_another_got_further(session, epochs):
    one = session(*NO_STOPPING, slots=4)
    one.fill()
    for _ in range(epochs):
        one.train(3)
    for number in range(3):
        fail(one, number, "ValueError: odd")
    assert bool(one.conductor.over) == (epochs == 0)


# The watchdog


def test_a_trial_that_says_nothing_is_overdue_once_and_lost_for_that(session):
    one = session(*NO_STOPPING, "search.trial_timeout=0.5", slots=3)
    one.fill()
    one.train(0)
    assert one.conductor.overdue() == []
    time.sleep(0.6)
    one.measure(1)
    assert one.conductor.overdue() == [0, 2]
    assert one.conductor.overdue() == []
    lose(one, 0, "its process was killed")
    assert one.trials[0].state == "paused"
    one.fill()
    time.sleep(0.6)
    assert one.conductor.overdue() == [1, 0], "the one that began again is watched again"


def test_what_a_hung_trial_was_lost_for_is_told(session):
    one = session(*NO_STOPPING, "search.trial_timeout=0.05", "search.max_retries=0")
    one.fill()
    time.sleep(0.06)
    assert one.conductor.overdue() == [0]
    lose(one, 0, "its process was killed")
    why = "lost once: it reported nothing for 0.05 s (search.trial_timeout)"
    assert states(one) == {0: ("failed", why)}


def test_a_trial_that_hung_and_is_lost_when_it_was_to_pause_is_watched_again(session):
    one = session("scheduler.mode=promote", "search.trial_timeout=0.05", "search.trials=1")
    one.fill()
    one.measure(0, 0.6)
    time.sleep(0.06)
    assert one.conductor.overdue() == [0]
    lose(one, 0, "its process was killed")
    assert one.fill() == [0]
    time.sleep(0.06)
    assert one.conductor.overdue() == [0]


def test_a_report_that_came_after_all_is_no_reason_for_a_later_loss(session):
    one = session(*NO_STOPPING, "search.trial_timeout=0.05", "search.max_retries=0")
    one.fill()
    time.sleep(0.06)
    assert one.conductor.overdue() == [0]
    one.measure(0, 0.6)
    lose(one, 0, "its node was lost")
    assert states(one) == {0: ("failed", "lost once: its node was lost")}


def test_a_trial_that_waits_for_its_slot_is_not_overdue(session):
    one = session(*NO_STOPPING, "search.trial_timeout=0.01")
    assert one.conductor.next().trial.number == 0
    time.sleep(0.02)
    assert one.conductor.overdue() == []
    one.conductor.started(0)
    time.sleep(0.02)
    assert one.conductor.overdue() == [0]


def test_without_a_timeout_nothing_is_overdue(session):
    one = session(*NO_STOPPING)
    assert one.experiment.search.trial_timeout is None
    one.fill()
    time.sleep(0.02)
    assert one.conductor.overdue() == []


# No number


@pytest.mark.parametrize("lost", [False, True])
def test_a_trial_whose_value_is_no_number_has_diverged(session, lost):
    one = session(*NO_STOPPING, slots=2)
    one.fill()
    one.train(0, 0.9)
    why = "val_loss was nan at epoch 2"
    assert one.measure(0, float("nan"), broken=why)
    if lost:
        lose(one, 0)
    else:
        one.leave(0)
        one.conductor.ended(0)
    assert (one.trials[0].state, one.trials[0].reason) == ("diverged", why)
    trial = one.record.trials()[0]
    assert (trial.state, trial.reason, trial.values) == ("diverged", why, {1: 0.9})
    assert one.fill() == [2], "it is not repeated"


def test_a_checkpoint_of_what_is_no_number_is_not_kept(session):
    one = session(*NO_STOPPING)
    one.fill()
    assert one.measure(0, 0.6, broken="val_loss was inf at epoch 1")
    assert not (one.folder / one.save(0)).exists()
    assert one.trials[0].checkpoints == {}


def test_what_diverged_is_no_peer_at_the_rung(session):
    one = session(STOP, "scheduler.reduction_factor=2", "scheduler.max_epochs=2", "search.trials=3", slots=3)
    one.fill()
    assert one.measure(0, 0.9, broken="val_loss was inf at epoch 1")
    assert not one.measure(1, 0.5)
    assert one.measure(2, 0.4)
    one.save(2)
    one.conductor.ended(2)
    assert one.trials[2].reason == "stopped at rung 1: 0.4 ranks 2 of 2, 1 pass (cutoff 0.5)"


# Interrupted


@pytest.mark.parametrize(("steps", "slots"), [(12, 1), (20, 1), (16, 2), (18, 4)])
def test_a_population_that_was_interrupted_takes_in_more_trials(session, steps, slots):
    fields = ("scheduler.type=pbt", "scheduler.grace_period=2", "scheduler.max_epochs=8", "search.sampler=random")
    before = session(*fields, "search.trials=4", slots=slots).run(steps)
    before.conductor.interrupt()
    before.run()
    one = session(*fields, "search.trials=8", slots=slots).run()
    assert {trial.state for trial in one.trials.values()} <= {"completed", "stopped"}
    assert sum(trial.parent is None for trial in one.trials.values()) == 8
    assert sum(trial.state == "completed" for trial in one.trials.values()) == 8


def test_an_interrupted_search_saves_its_epochs_and_goes_on(session):
    whole = session(*NO_STOPPING, "search.trials=2").run()
    fields = {"folder": "other"}
    one = session(*NO_STOPPING, "search.trials=2", **fields)
    one.fill()
    one.train(0)
    one.conductor.interrupt()
    assert one.conductor.next() is None, "one is in its slot yet"
    assert one.train(0)
    assert (one.trials[0].state, list(one.trials[0].checkpoints)) == ("paused", [1, 2])
    assert one.conductor.next() == "finished"
    one.close()
    assert states(one) == {0: ("paused", "")}
    again = session(*NO_STOPPING, "search.trials=2", **fields)
    assert again.conductor.has_work
    assert again.fill() == [0]
    assert again.began[0].checkpoints[0] == (2, "trials/00000/checkpoint_000002")
    assert again.began[0].folder == "00000.2"
    again.run()
    assert [(t.hparams, t.values, t.state, t.lost) for t in again.record.trials()] == [
        (t.hparams, t.values, t.state, t.lost) for t in whole.record.trials()
    ]


def test_a_trial_in_its_last_epoch_completes_though_it_was_interrupted(session):
    one = session(*NO_STOPPING, "scheduler.max_epochs=2")
    one.fill()
    one.train(0)
    one.conductor.interrupt()
    assert one.train(0)
    one.close()
    assert states(one) == {0: ("completed", "")}


def test_a_trial_lost_while_it_was_interrupted_trains_its_epoch_again(session):
    one = session(*NO_STOPPING, "search.max_retries=0")
    one.fill()
    one.train(0)
    one.conductor.interrupt()
    assert one.measure(0)
    lose(one, 0)
    assert one.conductor.next() == "finished"
    one.close()
    again = session(*NO_STOPPING, "search.max_retries=0")
    assert again.fill() == [0]
    assert again.began[0].checkpoints == ((1, "trials/00000/checkpoint_000001"),)
    assert again.trials[0].lost == 0


def test_what_is_in_its_slot_when_an_interrupted_search_is_closed_goes_on_too(session):
    one = session(*NO_STOPPING, slots=2)
    one.fill()
    one.train(1)
    one.conductor.interrupt()
    one.close()  # the second Ctrl-C
    assert states(one) == {0: ("paused", ""), 1: ("paused", "")}
    again = session(*NO_STOPPING, slots=2)
    assert again.fill() == [0, 1]
    assert [len(start.checkpoints) for start in again.began] == [0, 1]


def test_who_looks_on_hears_that_what_is_in_its_slot_at_the_close_is_paused(session):
    one = session(*NO_STOPPING)
    one.fill()
    one.measure(0)
    one.conductor.interrupt()
    one.close()
    assert one.told[-1] == (0, "paused")


def test_seconds_of_interrupted_sessions_add_up(session):
    one = session(*NO_STOPPING)
    time.sleep(0.02)
    one.close()
    before = one.record.elapsed
    assert before >= 0.02
    again = session(*NO_STOPPING)
    time.sleep(0.02)
    again.close()
    assert again.record.elapsed >= before + 0.02


# Out of memory


def test_a_trial_without_memory_beside_others_goes_on_alone_before_others_begin(session):
    fields = (*NO_STOPPING, "search.trials=6")
    one = session(*fields, slots=3)
    one.fill()
    for number in (0, 1, 2):
        one.train(number)
    one.leave(1)
    one.conductor.crowded_out(1)
    start = one.conductor.next()
    assert (start.trial.number, start.trial.alone, start.checkpoints[0][0]) == (1, True, 1)
    one.conductor.crowded_out(2)
    assert one.conductor.next() is None, "1 waits for a whole GPU"
    one.conductor.started(1)
    assert one.conductor.next().trial.number == 2
    again = session(*fields, slots=3)
    assert [trial.alone for trial in again.trials.values()] == [False, True, True]
    again.run()
    assert {state for state, _ in states(again).values()} == {"completed"}


# Limits

SLOPES = [[0.1, 0.2, 0.8, 0.9], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]


@pytest.mark.parametrize(
    ("limit", "epochs", "completed", "reason"),
    [
        ("search.epoch_budget=5", [2, 2, 1], [], "the search's 5 epochs were trained (search.epoch_budget)"),
        ("search.target=0.8", [3, 2, 2], [], "trial 0 reached val_accuracy 0.8 (search.target 0.8)"),
        ("search.patience=1", [4, 4, 3], [0, 1], "1 trial did not improve val_accuracy (search.patience)"),
    ],
)
def test_a_limit_stops_the_trials_that_run_and_starts_no_more(session, limit, epochs, completed, reason):
    fields = (*NO_STOPPING, limit)
    one = session(*fields, value=SLOPES, slots=3).run()
    assert one.conductor.over == reason
    assert [trial.epochs for trial in one.trials.values()] == epochs
    ends = {number: ("completed", "") if number in completed else ("stopped", reason) for number in range(3)}
    assert states(one) == ends
    again = session(*fields)
    assert (again.conductor.over, again.conductor.has_work, again.conductor.next()) == (reason, False, "finished")
    assert session(*NO_STOPPING).fill() == [4], "without the limit the search goes on; 3 was proposed, and never began"


def test_the_time_budget_stops_the_trials_that_run_and_starts_no_more(session):
    fields = (*NO_STOPPING, "search.time_budget_s=0.5")
    one = session(*fields, slots=2)
    one.fill()
    one.train(0)
    one.slots = 3
    time.sleep(0.5)
    reason = "the search's 0.5 s were up (search.time_budget_s)"
    assert (one.conductor.over, one.conductor.has_work, one.conductor.next()) == (reason, False, None)
    one.close()
    assert states(one) == {0: ("stopped", reason), 1: ("stopped", reason)}
    assert session(*fields).conductor.over == reason, "earlier sessions count"
    assert session(*NO_STOPPING).fill() == [3]


def test_patience_counts_the_trials_of_earlier_sessions_in_the_order_of_their_ends(session):
    fields = (*NO_STOPPING, "search.patience=2")
    one = session(*fields, value=[[0.5] * 4, [0.9] * 4], slots=2)
    one.fill()
    for number in (1, 0):
        while not one.train(number):
            pass
    again = session(*fields, value=[[], [], [0.7] * 4])
    assert again.conductor.over == "", "one has not improved"
    again.run()
    assert again.conductor.over == "2 trials did not improve val_accuracy (search.patience)"


def test_patience_is_not_tried_by_trials_that_end_behind_better_ones_that_wait(session):
    values = [[0.5 + 0.01 * number] * 4 for number in range(16)]
    one = session("scheduler.max_epochs=4", "scheduler.reduction_factor=4", "search.trials=16", "search.patience=3",
                  value=values)  # fmt: skip
    one.run()
    assert one.conductor.over == ""
    assert states(one)[15][0] == "completed"


def test_patience_goes_on_where_a_killed_session_left_it(session):
    fields = (*NO_STOPPING, "search.patience=2", "scheduler.max_epochs=1")
    values = [[0.5], [0.9], [0.6], [0.7], [0.8]]
    session(*fields, value=values).run(steps=3)
    again = session(*fields, value=values)
    assert again.conductor.over == ""
    again.run()
    assert again.conductor.over == "2 trials did not improve val_accuracy (search.patience)"
    assert len(again.trials) == 4


def test_the_time_of_a_killed_session_counts(session):
    one = session("search.time_budget_s=0.3", "search.trials=16")
    one.train(*one.fill())
    time.sleep(0.2)
    one.train(*one.fill())
    again = session("search.time_budget_s=0.3", "search.trials=16")
    assert again.record.elapsed > 0.2
    time.sleep(0.15)
    assert again.conductor.over == "the search's 0.3 s were up (search.time_budget_s)"


# What was decided when a limit ends the search


def test_a_trial_that_reached_the_target_in_its_last_epoch_completed(session):
    one = session(*NO_STOPPING, "scheduler.max_epochs=2", "search.target=0.8")
    one.fill()
    one.train(0, 0.5)
    one.measure(0, 0.9)
    one.save(0)
    assert one.conductor.over
    one.leave(0)
    one.close()
    assert states(one) == {0: ("completed", "")}


def test_a_trial_that_diverged_stays_so_though_the_search_ended_meanwhile(session):
    one = session(*NO_STOPPING, "search.target=0.8", slots=2)
    one.fill()
    one.train(0, 0.5)
    assert one.measure(0, 0.5, broken="val_loss was nan at epoch 2")
    one.train(1, 0.9)
    one.close()
    assert states(one)[0] == ("diverged", "val_loss was nan at epoch 2")


# Trouble


def test_a_study_that_cannot_be_written_ends_the_search_which_goes_on_later(session, disk):
    one = session(*NO_STOPPING, slots=2)
    one.fill()
    one.train(0, 0.5)
    one.train(1, 0.5)
    disk(full)
    assert one.measure(0, 0.6)
    assert isinstance(one.conductor.trouble, OSError)
    assert "No space left on device" in one.conductor.over
    assert one.conductor.over.startswith("the experiment directory can no longer be written: ")
    assert (one.conductor.has_work, one.conductor.next()) == (False, None)
    assert one.measure(1, 0.6), "every trial is told to stop"
    one.close()
    assert [trial.state for trial in one.trials.values()] == ["paused", "paused"], "nothing is taken for ended"
    disk(None)
    again = session(*NO_STOPPING, slots=2)
    assert again.fill() == [0, 1]
    assert [start.trial.values for start in again.began] == [{1: 0.5}, {1: 0.5}]
    assert [start.checkpoints[0][0] for start in again.began] == [1, 1]
    assert again.conductor.over == ""


def test_a_checkpoint_of_an_epoch_that_could_not_be_recorded_is_not_taken_for_anothers(session, disk):
    one = session(*NO_STOPPING)
    one.fill()
    one.train(0, 0.5)
    disk(full)
    assert one.measure(0, 0.6)
    disk(None)
    one.save(0)
    assert one.record.trials()[0].checkpoints == {1: "trials/00000/checkpoint_000001"}


@pytest.mark.parametrize(
    "happens",
    [
        lambda one: one.start(),
        lambda one: one.save(0),
        lambda one: one.conductor.ended(0),
        lambda one: one.conductor.lost(0, "its process died"),
        lambda one: one.conductor.failed(0, "ValueError: odd"),
        lambda one: one.close(),
    ],
    ids=["next", "checkpointed", "ended", "lost", "failed", "close"],
)
def test_nothing_is_raised_wherever_writing_fails_and_the_first_error_stays(session, disk, happens):
    one = session(*NO_STOPPING, slots=2)
    assert one.start().trial.number == 0
    one.measure(0, 0.5)
    disk(full)
    happens(one)
    first = one.conductor.trouble
    assert isinstance(first, OSError)
    assert one.conductor.over
    one.conductor.interrupt()
    one.close()
    assert one.conductor.trouble is first


def test_an_end_that_could_not_be_written_is_found_again(session, disk):
    one = session(*NO_STOPPING, "scheduler.max_epochs=1")
    one.fill()
    one.measure(0, 0.5)
    one.save(0)
    disk(full)
    one.conductor.ended(0)
    disk(None)
    again = session(*NO_STOPPING, "scheduler.max_epochs=1")
    assert states(again) == {0: ("completed", "")}, "its last epoch was saved, so that nothing is left to train"
    assert again.kept() == {0: [1]}


@pytest.mark.parametrize("more", [0, 4])
def test_a_population_whose_members_began_late_teaches_the_sampler(session, more):
    """The levels at which they were seen share few trials with those where they were born."""
    fields = ("scheduler.type=pbt", "scheduler.grace_period=1", "scheduler.max_epochs=30", "search.sampler=gp")
    first = session(*fields, "search.trials=8").run()
    longer = session(*fields, f"search.trials={8 + more}").run()
    assert len([trial for trial in longer.trials.values() if trial.parent is None]) == 8 + more
    assert all(longer.trials[number].hparams == trial.hparams for number, trial in first.trials.items())
