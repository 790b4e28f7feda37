"""Who was stopped where: the page agrees with the trials and with ASHA's arithmetic."""

import re
from dataclasses import replace

import pytest

from tune.report.stops import rungs_of, stops_section
from tune.trials import Trial


def test_every_trial_at_a_rung_went_on_was_stopped_or_was_lost(searched):
    known = searched("one", "search.trials=40")
    first, second = rungs_of(known)
    assert [first.epoch, second.epoch] == [1, 2]
    for rung in (first, second):
        assert rung.arrived == rung.passed + len(rung.stopped) + rung.waiting + rung.lost
        assert [trial.values[rung.epoch] for trial in rung.stopped] == sorted(
            (trial.values[rung.epoch] for trial in rung.stopped), reverse=True
        )
    assert second.arrived == first.passed
    there = sorted((trial.values[1] for trial in known.trials if 1 in trial.values), reverse=True)
    assert first.cutoff == there[len(there) // 2 - 1]
    assert len(first.stopped) == sum(trial.reason.startswith("stopped at rung 1:") for trial in known.trials)


@pytest.mark.parametrize(("order", "expected"), [(1, 1.0), (-1, -1.0)])
def test_the_rank_correlation_says_how_well_a_rung_orders_the_end(order, expected, searched):
    known = searched()
    trials = [
        Trial(number, {}, "completed", {1: 0.1 * number, 2: 0.5, 3: 0.5, 4: 0.6 + 0.01 * order * number})
        for number in range(5)
    ]
    told = replace(known)
    told.__dict__["trials"] = trials
    first, second = rungs_of(told)
    assert first.correlation == pytest.approx(expected)
    assert second.correlation is None, "all values are alike there"


def test_the_section_has_a_row_for_each_rung_and_the_nearest_of_those_stopped(searched):
    html = stops_section(searched("one", "search.trials=40")).html
    rungs = re.findall(r'<th scope="row">(\d)</th><td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>', html)
    assert [rung[0] for rung in rungs] == ["1", "2"]
    assert "asha, mode promote; one in 2 passes a rung" in html
    assert "Stopped at epoch 1: the best 10 of" in html


def test_a_search_without_rungs_has_no_such_part(searched):
    assert stops_section(searched("one", "scheduler.type=none", "scheduler.mode=null")) is None
