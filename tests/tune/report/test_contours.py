"""Contours: a figure for each pair of the three most important HParams, and none of few trials."""

import json
import re

from tune.importance import comparable
from tune.open_study import levels
from tune.report.contours import contours_section
from tune.report.influence import importances_of


def test_each_pair_of_three_has_one_with_its_best_in_numbers(searched):
    known = searched("one", "search.trials=60")
    section = contours_section(known)
    found = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    layouts = [json.loads(figure)["layout"] for figure in found]
    first, second, third, *_ = importances_of(known)
    pairs = [tuple(layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")) for layout in layouts]
    assert pairs == [(first, second), (first, third), (second, third)]
    best = max(trial.value for trial in comparable(known.study.study, levels(known.experiment)))
    assert f"best {best:.4f} at" in section.html


def test_of_few_trials_there_is_none(searched):
    assert contours_section(searched("one", "search.trials=8")) is None
