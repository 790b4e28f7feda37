"""Parallel coordinates: log axes, named options, and what some trials have not."""

import json
import re

from tune.report.influence import importances_of
from tune.report.parallel import parallel_section


def test_parallel_coordinates_cross_every_hparam_the_most_important_first(searched):
    known = searched("one", "search.trials=60")
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', parallel_section(known).html)
    figure = json.loads(data)
    names = [one["text"] for one in figure["layout"]["annotations"] if "<b>" in one["text"]]
    order = sorted(importances_of(known).items(), key=lambda item: -item[1])
    assert [re.sub(r"</?b>|, log", "", name) for name in names] == [name for name, _ in order]
    assert "<b>learning_rate</b>, log" in names
    assert {"sgd", "adamw", "none"} <= {one["text"] for one in figure["layout"]["annotations"]}
    assert len(figure["data"]) == 6, "steps of values"
