"""The last mile's tables have a row for every finalist and every way."""

import re

from tune.report.last_mile import finalists_section, ways_section


def test_every_finalist_has_a_row_with_its_luck(finished):
    known = finished()
    html = finalists_section(known).html
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    assert rows[0] == ["trial", "search", "mean over seeds", "drop", "of each seed"]
    assert [row[0] for row in rows[1:]] == [str(each.trial.number) for each in known.winner.finalists]
    assert rows[1][2] == "0.8950 (95 % interval 0.8315 to 0.9585)"
    assert rows[1][4] == "0.8900, 0.9000"


def test_every_way_has_a_row_and_the_chosen_one_is_marked(finished):
    html = ways_section(finished()).html
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)][1:]
    assert [row[:3] for row in rows] == [
        ["afresh", "none", "raw"],
        ["afresh", "cosine", "raw"],
        ["afresh", "cosine", "swa"],
        ["afresh", "cosine", "ema"],
    ]
    assert rows[2][3:] == [
        "chosen",
        "0.9200 (95 % interval 0.7929 to 1.0000)",
        "0.2550",
        "0.0150 more (95 % interval -0.0485 to +0.0785, 2 pairs)",
        "0.0300 more (95 % interval +0.0300 to +0.0300, 2 pairs)",
    ]
    assert rows[3][3:5] == ["", "diverged"]


def test_before_there_is_a_winner_there_is_neither(searched):
    known = searched()
    assert (finalists_section(known), ways_section(known)) == (None, None)
