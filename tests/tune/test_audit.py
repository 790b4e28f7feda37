"""The audit of early stopping; test_kill_and_resume.py plays whole searches with it."""

import pytest

from tune.audit import drawn

FIELDS = ("scheduler.reduction_factor=2", "scheduler.max_epochs=4", "search.sampler=random", "scheduler.audit=1")
STOP = (*FIELDS, "scheduler.mode=stop")
VALUES = [[0.7, 0.8, 0.8, 0.9], [0.5, 0.6, 0.7, 0.95], [0.6, 0.6, 0.6, 0.6]]  # the second one is late


def test_a_share_is_drawn_that_follows_from_seed_and_number():
    picked = {seed: [number for number in range(4000) if drawn(seed, number, 0.1)] for seed in (0, 1)}
    assert all(330 < len(numbers) < 470 for numbers in picked.values())
    assert picked[0] != picked[1]
    assert picked[0] == [number for number in range(4000) if drawn(0, number, 0.1)]
    assert not any(drawn(0, number, 0.0) for number in range(4000))
    assert all(drawn(0, number, 1.0) for number in range(4000))


@pytest.mark.parametrize("fields", [FIELDS, STOP], ids=["promote", "stop"])
def test_a_stopped_trial_runs_on_and_wins_nothing(session, fields):
    said: list[str] = []
    one = session(*fields, "search.trials=3", "search.target=0.93", value=VALUES)
    one.conductor.audits._say = said.append
    one.run()
    assert one.conductor.over == "", "what an audit gives reaches no target"
    assert states(one) == {0: ("completed", 4), 1: ("stopped", 1), 2: ("stopped", 1)}
    for trial in (one.trials[1], one.record.trials()[1]):
        assert (trial.values, trial.best(maximize=True)) == ({1: 0.5}, (1, 0.5))
        assert (trial.audit.state, trial.audit.values) == ("completed", dict(enumerate(VALUES[1], start=1)))
        assert trial.trained == 4
    assert said[0] == "audit: trial 1, stopped after epoch 1, goes on"
    assert "audit: trial 1 completed after 4 epochs, val_accuracy 0.9500 at epoch 4" in said
    assert one.told.count((1, "stopped")) == 1
    assert [trial.intermediate_values for trial in one.record.study.trials[1:]] == [{1: 0.5}, {1: 0.6}]


def states(one) -> dict[int, tuple[str, int]]:
    return {trial.number: (trial.state, trial.epochs) for trial in one.record.trials()}


def test_audits_wait_until_nobody_of_the_search_wants_the_slot(session):
    values = [[0.9] * 4, [0.5] * 4, [0.4] * 4, [0.95] * 4]
    one = session(*STOP, "search.trials=4", value=values, slots=2)
    assert one.fill() == [0, 1]
    one.train(0)
    assert one.train(1), "stopped, and to be audited"
    assert one.fill() == [2], "a new trial goes first"
    assert one.train(2)
    assert one.fill() == [3]
    assert not one.train(3)
    while not one.train(0):
        pass
    assert one.fill() == [1], "its turn, since no trial is left to begin"
    start = one.began[-1]
    assert (start.is_audit, start.trial.values, start.checkpoints[0][0]) == (True, {1: 0.5}, 1)
    assert start.folder == "00001.2"
    assert one.conductor.in_slot(1) is start.trial


def test_an_audit_makes_room_after_its_epoch(session):
    values = [[0.9] * 4, [0.5] * 4, [0.95] * 4]
    one = session(*STOP, "search.trials=3", value=values, slots=2)
    one.fill()
    one.train(0)
    assert one.train(1)
    assert one.fill() == [2]
    while not one.train(0):
        pass
    assert one.fill() == [1]
    assert not one.train(1), "there is room"
    one.leave(2)
    one.conductor.lost(2, "its process died")
    one.slots = 1
    assert one.train(1)
    assert one.trials[1].audit.state == "paused"
    assert one.fill() == [2]
    one.run()
    assert (one.trials[1].audit.state, one.trials[1].audit.lost, one.trials[2].state) == ("completed", 0, "completed")


def test_an_epoch_budget_counts_audits_and_ends_them_until_it_is_raised(session):
    fields = (*STOP, "search.trials=3")
    one = session(*fields, "search.epoch_budget=8", value=VALUES).run()
    assert one.conductor.over == "the search's 8 epochs were trained (search.epoch_budget)"
    assert sum(trial.trained for trial in one.trials.values()) == 8
    assert one.record.ended_because == "", "all trials of the search ended"
    assert {trial.state for trial in one.trials.values()} == {"completed", "stopped"}
    again = session(*fields, "search.epoch_budget=8", value=VALUES)
    assert not again.conductor.has_work
    again = session(*fields, "search.epoch_budget=80", value=VALUES)
    assert again.conductor.has_work
    assert again.run().trials[2].audit.state == "completed"


def test_patience_hears_nothing_of_the_ends_that_come_with_the_end_of_the_search(session):
    values = [[0.9] * 4, *[[0.5 - number / 100] * 4 for number in range(7)]]
    fields = (*FIELDS, "search.trials=8", "search.patience=7")
    whole = session(*fields, value=values).run()
    assert whole.conductor.over == ""
    assert whole.record.ended_because == ""
    audits = [trial.audit for trial in whole.trials.values() if trial.audit]
    assert {audit.state for audit in audits} == {"completed"}
    again = session(*fields, value=values)
    assert (again.conductor.over, again.conductor.has_work) == ("", False)


@pytest.mark.parametrize(
    ("limit", "raised"), [("search.target=0.9", "search.target=0.99"), ("search.patience=2", "search.patience=9")]
)
def test_a_limit_that_ended_the_search_ended_its_audits_until_it_is_raised(session, limit, raised):
    values = [[0.7, 0.7, 0.7, 0.9], [0.5] * 4, [0.6] * 4]
    one = session(*STOP, "search.trials=3", limit, value=values, slots=2).run()
    ended = one.record.ended_because
    assert ended
    assert {trial.state for trial in one.trials.values()} <= {"completed", "stopped"}
    assert one.trials[1].audit.state == "paused"
    again = session(*STOP, "search.trials=3", limit, value=values)
    assert (again.conductor.over, again.conductor.has_work) == (ended, False)
    again.close()
    assert again.record.ended_because == ended
    again = session(*STOP, "search.trials=3", raised, value=values)
    assert again.conductor.has_work
    assert again.run().trials[1].audit.state == "completed"


def test_what_a_limit_stops_is_not_audited(session):
    one = session(*STOP, "search.trials=8", "search.target=0.65", value=VALUES, slots=2).run()
    assert one.conductor.over.startswith("trial 0 reached")
    assert {trial.audit for trial in one.trials.values() if "search.target" in trial.reason} == {None}


@pytest.mark.parametrize("how", ["lost", "failed", "diverged", "crowded out"])
def test_an_accident_of_an_audit_is_the_audits_alone(session, how):
    one = session(*STOP, "search.trials=3", "search.max_retries=0", value=VALUES)
    while not any(start.is_audit for start in one.began):
        one.fill()
        if not one.began[-1].is_audit:
            one.train(*one.epoch)
    before = one.record.trials()
    (number,) = one.epoch
    audit = one.trials[number].audit
    if how == "diverged":
        assert one.measure(number, broken="val_loss was nan at epoch 2")
        assert not (one.folder / one.save(number)).exists()
    one.leave(number)
    tell = {
        "lost": lambda: one.conductor.lost(number, "its process died"),
        "failed": lambda: one.conductor.failed(number, "ValueError: odd"),
        "diverged": lambda: one.conductor.ended(number),
        "crowded out": lambda: one.conductor.crowded_out(number),
    }
    tell[how]()
    ends = {
        "lost": ("failed", "lost: its process died"),
        "failed": ("failed", "ValueError: odd"),
        "diverged": ("diverged", "val_loss was nan at epoch 2"),
        "crowded out": ("paused", ""),
    }
    assert (audit.state, audit.reason) == ends[how]
    assert audit.alone == (how == "crowded out")
    assert [(t.state, t.reason, t.values) for t in one.record.trials()] == [
        (t.state, t.reason, t.values) for t in before
    ]
    one.run()
    assert one.conductor.over == ""
    assert one.conductor.first_traceback == ""


def test_an_interrupted_audit_saves_its_epoch_and_goes_on_later(session):
    one = session(*STOP, "search.trials=3", value=VALUES)
    while not any(start.is_audit for start in one.began):
        one.fill()
        if not one.began[-1].is_audit:
            one.train(*one.epoch)
    (number,) = one.epoch
    one.conductor.interrupt()
    assert one.train(number)
    assert one.conductor.next() == "finished"
    one.close()
    (paused,) = [t.audit for t in one.record.trials() if t.number == number]
    assert (paused.state, paused.epochs, sorted(paused.checkpoints)) == ("paused", 2, [1, 2])
    again = session(*STOP, "search.trials=3", value=VALUES)
    assert again.fill() == [number]
    assert again.began[0].checkpoints[0][0] == 2
    again.run()
    assert again.trials[number].audit.state == "completed"


def test_an_audit_whose_last_epoch_was_saved_has_ended(session):
    class Killed(BaseException):
        pass

    def hook(what: str) -> None:
        if what == "ended" and one.conductor.audits.live:
            raise Killed

    one = session(*STOP, "search.trials=3", value=VALUES, hook=hook)
    with pytest.raises(Killed):
        one.run()
    (number,) = one.epoch
    again = session(*STOP, "search.trials=3", value=VALUES)
    assert (again.trials[number].audit.state, again.trials[number].audit.checkpoints) == ("completed", {})
    assert number not in again.fill()


@pytest.mark.parametrize("kind", ["pbt", "none"])
def test_what_stops_nothing_cannot_be_audited(complaints, kind):
    text = "data: {source: digits}\nspace: {learning_rate: {type: float, lower: 0.1, upper: 1.0}}\n"
    (line,) = complaints(f"{text}scheduler: {{type: {kind}, audit: 0.05, grace_period: 1}}")
    assert line.startswith(
        f"search.yaml:3:{28 + len(kind)}: scheduler.audit: got 0.05, has no effect with scheduler.type {kind}, "
    )
    assert line.endswith("leave it out, or use asha")


@pytest.mark.parametrize(("value", "rule"), [("-0.1", "must be at least 0.0"), ("1.5", "must be at most 1.0")])
def test_a_share_is_a_share(complaints, value, rule):
    text = f"data: {{source: digits}}\nspace: {{}}\nscheduler: {{audit: {value}}}"
    (line,) = complaints(text)
    assert line == f"search.yaml:3:20: scheduler.audit: got {value}, {rule}"
