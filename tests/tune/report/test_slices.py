"""Slices: one for each HParam, the most important first, and in numbers where the best are."""

import json
import re

from tune.report.influence import importances_of
from tune.report.slices import slices_section


def test_there_is_one_for_each_and_it_says_where_the_best_are(searched):
    known = searched("one", "search.trials=60")
    section = slices_section(known)
    found = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    titles = [json.loads(figure)["layout"]["xaxis"]["title"]["text"] for figure in found]
    assert titles == list(importances_of(known))
    sound = [trial for trial in known.trials if trial.state not in {"diverged", "failed"}]
    best = max(value for trial in sound for value in trial.values.values())
    assert f"val_accuracy against learning_rate: best {best:.4f} at" in section.html
