"""What mattered, parallel coordinates, slices and contours: of the same importances, in the same order."""

import json
import re

from tune.importance import fanova
from tune.open_study import levels
from tune.report.contours import contours_section
from tune.report.influence import importances_of, influence_section
from tune.report.parallel import parallel_section
from tune.report.slices import slices_section

SIXTY = "search.trials=60"


def figures(section):
    found = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    return [json.loads(figure) for figure in found]


def test_both_importances_are_shown_and_fanova_asks_what_all_trials_have(searched):
    known = searched("one", SIXTY)
    shares = fanova(known.study.study, levels(known.experiment))
    assert shares.keys() == {"learning_rate", "translate", "optimizer"}
    html = influence_section(known).html
    rows = re.findall(r'<th scope="row">(\w+)</th><td>(\d+) %</td><td>(.*?)</td>', html)
    assert [name for name, *_ in rows] == list(importances_of(known))
    told = {name: forest for name, _, forest in rows}
    assert told["momentum"] == "not asked"
    assert told["learning_rate"] == f"{100 * shares['learning_rate']:.0f} %"


def test_of_few_trials_it_says_that_they_are_too_few(searched):
    known = searched("one", "search.trials=8")
    assert "Too few trials compare" in influence_section(known).html
    assert contours_section(known) is None


def test_parallel_coordinates_cross_every_hparam_the_most_important_first(searched):
    known = searched("one", SIXTY)
    (figure,) = figures(parallel_section(known))
    names = [one["text"] for one in figure["layout"]["annotations"] if "<b>" in one["text"]]
    order = sorted(importances_of(known).items(), key=lambda item: -item[1])
    assert [re.sub(r"</?b>|, log", "", name) for name in names] == [name for name, _ in order]
    assert "<b>learning_rate</b>, log" in names
    assert {"sgd", "adamw", "none"} <= {one["text"] for one in figure["layout"]["annotations"]}
    assert len(figure["data"]) == 6, "steps of values"


def test_there_is_a_slice_for_each_and_a_contour_for_each_pair_of_three(searched):
    known = searched("one", SIXTY)
    slices, contours = figures(slices_section(known)), figures(contours_section(known))
    assert [each["layout"]["xaxis"]["title"]["text"] for each in slices] == list(importances_of(known))
    assert len(contours) == 3
    kinds = {(each["layout"]["xaxis"]["title"]["text"], each["data"][0]["type"]) for each in contours}
    assert {kind for _, kind in kinds} <= {"heatmap", "contour"}


def test_a_slice_says_in_numbers_where_the_best_are(searched):
    known = searched("one", SIXTY)
    sound = [trial for trial in known.trials if trial.state not in {"diverged", "failed"}]
    best = max(value for trial in sound for value in trial.values.values())
    assert f"val_accuracy against learning_rate: best {best:.4f} at" in slices_section(known).html


def test_where_nothing_is_searched_there_is_none_of_them(searched):
    known = searched(
        "one", "search.trials=3", text="data: {source: digits}\nspace: {learning_rate: 0.1, translate: 0}\n"
    )
    assert [make(known) for make in (influence_section, parallel_section, slices_section, contours_section)] == [
        None
    ] * 4
