"""New trials are proposed before a slot is free, and nobody counts them before they begin."""

import pytest
from optuna.trial import TrialState

PROMOTE = ("scheduler.mode=promote", "scheduler.reduction_factor=2", "scheduler.max_epochs=4", "search.sampler=random")
FULL = ("scheduler.type=none", "scheduler.max_epochs=2", "search.sampler=random")


@pytest.fixture
def rates():
    """The learning rates of a study's trials, in order."""

    def read(one) -> list[float]:
        return [trial.params["learning_rate"] for trial in one.record.study.trials]

    return read


def test_the_next_trial_is_proposed_while_every_slot_is_busy(session, rates):
    one = session(*FULL, slots=2)
    assert one.fill() == [0, 1]
    assert len(rates(one)) == 3
    assert sorted(one.trials) == [0, 1]
    one.fill()
    assert len(rates(one)) == 3, "one, however often Ray asks"
    ahead = rates(one)[2]
    one.train(0)
    one.train(0)
    assert one.fill() == [2]
    assert one.trials[2].hparams["learning_rate"] == ahead


def test_of_many_slots_that_come_free_together_none_waits_for_the_sampler(session, rates):
    one = session(*FULL, "search.trials=22", slots=16)
    one.fill()
    assert len(rates(one)) == 17
    one.fill()
    assert len(rates(one)) == 18, "one at a time, between which trials are heard"
    one.fill()
    assert len(rates(one)) == 18, "one for each eight slots"
    proposed = rates(one)
    after = session(*FULL, "search.trials=22", slots=16)  # which a killed search leaves
    assert sorted(after.trials) == list(range(16))
    after.run()
    assert rates(after)[:18] == proposed
    assert [trial.state for trial in after.record.study.trials] == [TrialState.COMPLETE] * 22, "no more than asked for"


def test_what_was_proposed_for_many_slots_ends_with_the_search(session):
    one = session(*FULL, "search.trials=40", "search.epoch_budget=17", slots=16).run()
    states = [trial.state for trial in one.record.study.trials]
    assert states[: len(one.trials)].count(TrialState.FAIL) == 0
    assert states[len(one.trials) :] == [TrialState.FAIL] * 2
    assert sorted(one.record.ended()) == sorted(one.trials)


def test_a_promotion_goes_before_what_was_proposed(session):
    one = session(*PROMOTE, "search.trials=4", value=[[0.5], [0.7, 0.8], [0.6], [0.6]])
    one.fill()
    one.train(0)
    one.fill()
    one.train(1)
    assert len(one.record.study.trials) == 3
    assert one.fill() == [1]
    one.train(1)
    assert one.fill() == [2]


def test_no_more_are_proposed_than_are_asked_for(session):
    one = session(*FULL, "search.trials=2").run()
    assert [trial.state for trial in one.record.study.trials] == [TrialState.COMPLETE] * 2


def test_starting_points_are_not_waited_for(session, rates):
    points = 'search.start=[{"learning_rate": 0.1}, {"learning_rate": 0.2}, {"learning_rate": 0.3}]'
    one = session(*FULL, "search.trials=4", points)
    one.fill()
    assert [trial.state for trial in one.record.study.trials] == [TrialState.RUNNING, *[TrialState.WAITING] * 2]
    assert rates(one.run()) == [0.1, 0.2, 0.3, one.trials[3].hparams["learning_rate"]]


def test_a_killed_search_goes_on_with_what_it_had_proposed(session, rates):
    before = session(*FULL)
    before.fill()
    after = session(*FULL)
    assert sorted(after.trials) == [0]
    assert after.fill() == [0]
    after.train(0)
    after.train(0)
    assert after.fill() == [1]
    assert after.trials[1].hparams["learning_rate"] == rates(before)[1]


ONE_SLOT = (*PROMOTE[:-1], "search.sampler=gp", "search.trials=12")


def end_the_trial_in_its_slot(one):
    (number,) = one.epoch
    while not one.train(number):
        pass


@pytest.mark.parametrize("steps", [4, 9, 13, 14, 15])
def test_an_interrupted_search_proposes_from_what_it_would_have_known(session, rates, steps):
    undisturbed = session(*ONE_SLOT).run()
    before = session(*ONE_SLOT, folder="other").run(steps=steps)
    end_the_trial_in_its_slot(before)
    started = before.start()
    before.conductor.interrupt()  # Ray has not asked again since it gave a trial its slot
    before.start()
    before.train(started.trial.number)
    before.close()
    after = session(*ONE_SLOT, folder="other").run()
    assert rates(after) == rates(undisturbed)


@pytest.mark.parametrize("steps", [4, 9, 13])
def test_a_trial_that_was_withdrawn_before_it_had_its_slot_comes_first_later(session, rates, steps):
    undisturbed = session(*ONE_SLOT).run()
    before = session(*ONE_SLOT, folder="other").run(steps=steps)
    end_the_trial_in_its_slot(before)
    proposed = len(before.record.study.trials)
    pending = before.conductor.next().trial.number
    assert before.conductor.next() is None
    assert len(before.record.study.trials) == proposed, "it would wait for the proposal"
    before.conductor.interrupt()
    assert before.conductor.pending == [pending]
    before.conductor.withdrawn(pending)
    before.conductor.ended(pending)
    assert before.conductor.next() == "finished"
    before.close()
    after = session(*ONE_SLOT, folder="other")
    assert after.fill() == [pending]
    assert rates(after.run()) == rates(undisturbed)


def test_what_did_not_begin_before_a_limit_is_no_trial(session):
    one = session(*FULL, "search.epoch_budget=2", "search.trials=5").run()
    assert sorted(one.trials) == [0]
    first, dropped = one.record.study.trials
    assert (first.state, dropped.state) == (TrialState.COMPLETE, TrialState.FAIL)
    assert [trial.number for trial in one.record.trials()] == [0]
    assert one.record.ended() == [0]
    after = session(*FULL, "search.trials=5").run()
    assert sorted(after.trials) == [0, 2, 3, 4, 5], "another is proposed in its place"
