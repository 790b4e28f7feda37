"""Learning curves: few traces, and of thousands of trials some."""

import json
import re

from tune.report.curves import chosen, curves_section
from tune.trials import Trial


def traces(section):
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    return json.loads(data)["data"]


def test_of_many_the_best_half_is_drawn_and_a_sample_of_the_others(experiment):
    trials = [Trial(number, {}, "stopped", {1: number / 1000}) for number in range(1000)]
    drawn, words = chosen(experiment().search, trials, most=100)
    assert [trial.number for trial in drawn[:50]] == list(range(999, 949, -1))
    assert len(drawn) == 100
    assert words == "100 of 1,000 are drawn: the best 50, and one in 19 of the others."
    assert chosen(experiment().search, trials[:100], most=100) == (trials[:100], "")


def test_curves_are_joined_by_state_and_the_winner_stands_out(finished):
    known = finished()
    section = curves_section(known)
    drawn = traces(section)
    assert [each["name"] for each in drawn if each["mode"] == "lines"] == ["completed", "stopped"]
    assert drawn[-1]["name"] == f"trial {known.winner.trial.number}, the winner"
    assert "16 trials: 3 completed, 1 diverged, 1 failed, 11 stopped." in section.html
    assert "at the rungs, the dotted lines: epochs 1, 2." in section.html


def test_before_the_first_value_there_is_none(begun, storage):
    from tune.recorded import read_experiment

    begun("one")
    assert curves_section(read_experiment(str(storage), "one", "report")) is None
