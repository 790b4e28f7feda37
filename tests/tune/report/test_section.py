"""Figures and tables keep to themselves what users wrote."""

import json
import re

import numpy as np
import pytest

from tune.report.section import facts, figure_html, label, new_figure, numbers, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("<b>bold</b>", "<\u200bb>bold<\u200b/b>"),
        ("&lt; %{x}", "&\u200blt; %\u200b{x}"),
        ("two\n lines\t", "two lines"),
        ("costs $5", "costs $5"),
        ("$a$", "\uff04a\uff04"),
        ("w" * 30, "w" * 23 + "…"),
        (64, "64"),
    ],
)
def test_a_label_is_a_short_line_that_plotly_takes_as_it_is(text, shown):
    assert label(text) == shown


def test_a_figure_says_what_it_shows_and_no_text_ends_its_data():
    figure = new_figure(height=200)
    figure.add_scatter(x=numbers([1, None]), y=numbers([0.5, 1]), name="</script><script>alert(1)")
    html = figure_html(figure, 'a "curve" <b>')
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(data)["data"][0]["name"] == "</script><script>alert(1)"
    assert html.count("a &#34;curve&#34; &lt;b&gt;") == 2
    assert 'style="height:200px"' in html


def test_numbers_take_four_bytes_and_none_is_a_gap():
    held = numbers([0.5, None])
    assert held.dtype == np.float32
    assert np.isnan(held).tolist() == [False, True]


def test_a_table_names_its_rows_and_columns_and_scrolls_by_keyboard():
    html = table("Of <all>", ["trial", "value"], [["<0>", 0.5]])
    assert '<th scope="col">trial</th><th scope="col">value</th>' in html
    assert '<th scope="row">&lt;0&gt;</th><td>0.5</td>' in html
    assert 'aria-label="Of &lt;all&gt;" tabindex="0"' in html
    assert "<thead>" not in facts("Of one", {"seed": 0})
