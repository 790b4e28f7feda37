"""Time by cause adds up to that of the slots."""

from dataclasses import replace

import pytest

from tune.report.spent import spent_section, time_by_cause
from tune.trials import Trial


@pytest.fixture
def known(searched):
    """Two slots for 10 seconds: 12 in trials, 9 of them busy, 2 in one that diverged."""
    told = replace(searched())
    told.__dict__["trials"] = [
        Trial(0, {}, "completed", {1: 0.5}, seconds=6.0, busy=5.0, ended_at=10.0),
        Trial(1, {}, "stopped", {1: 0.4}, seconds=4.0, busy=3.0, ended_at=5.0),
        Trial(2, {}, "diverged", seconds=2.0, busy=1.0, ended_at=3.0, lost=1),
    ]
    told.study.__dict__["attributes"] = {"slots": 2, "elapsed_s": 10.0, "retrain_s": 4.0}
    return told


def test_all_seconds_of_all_slots_are_accounted_for(known):
    told = time_by_cause(known)
    assert told == {
        "training and validation": 8.0,
        "waiting or starting within trials": 2.0,
        "trials that diverged or failed": 2.0,
        "slots idle": 8.0,
        "last mile": 4.0,
    }
    assert sum(told.values()) - told["last mile"] == 2 * 10


def test_shares_are_of_the_slots_time(known):
    html = spent_section(known).html
    assert "2 slots for 10 s of search." in html
    assert "training and validation 40.0%" in html
    assert "Processes lost under a trial: 1;" in html


def test_audits_are_a_cause_of_their_own(known):
    stopped = known.trials[1]
    stopped.audit = Trial(1, {}, "completed", {1: 0.4, 2: 0.5}, seconds=9.0, busy=7.0)
    told = time_by_cause(known)
    assert (told["audits of early stopping"], told["slots idle"]) == (5.0, 3.0)
    assert sum(told.values()) - told["last mile"] == 2 * 10
    assert "audits of early stopping 25.0%" in spent_section(known).html


def test_where_slots_are_unknown_none_is_idle(known):
    known.study.attributes.pop("slots")
    assert "slots idle" not in time_by_cause(known)
    assert "How many slots there were is not known" in spent_section(known).html
