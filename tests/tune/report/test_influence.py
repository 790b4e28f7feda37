"""What mattered, in two ways, and in which searches nothing can be said."""

import re

from tune.importance import fanova
from tune.open_study import levels
from tune.report.contours import contours_section
from tune.report.influence import importances_of, influence_section
from tune.report.parallel import parallel_section
from tune.report.slices import slices_section

SIXTY = "search.trials=60"


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


def test_where_nothing_is_searched_there_is_none_of_them(searched):
    known = searched(
        "one", "search.trials=3", text="data: {source: digits}\nspace: {learning_rate: 0.1, translate: 0}\n"
    )
    assert [make(known) for make in (influence_section, parallel_section, slices_section, contours_section)] == [
        None
    ] * 4
