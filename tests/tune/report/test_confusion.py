"""The confusion matrix, of few classes with numbers and of many without, and the mistakes as pictures."""

import base64
import io
import json
import re

from PIL import Image

from tune.report.confusion import confusion_section
from tune.report.mistakes import mistakes_section


def figure(section):
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    return json.loads(data)


def test_few_classes_have_their_counts_and_the_worst_come_first(finished):
    confusion = [[48, 2, 0], [7, 43, 0], [0, 0, 0]]
    section = confusion_section(finished(classes=("cat", "<b>dog", "emu"), test={"confusion": confusion}))
    (cells,) = figure(section)["data"]
    assert cells["text"] == confusion
    assert cells["x"] == ["cat", "<\u200bb>dog", "emu"]
    assert re.findall(r'<tr><th scope="row">([^<]*)</th><td>[\d.n]', section.html) == ["&lt;b&gt;dog", "cat", "emu"]
    assert "91 of 100 test images are on the diagonal" in section.html
    assert "7 of 50 images of &lt;b&gt;dog named cat." in section.html
    assert '<th scope="row">&lt;b&gt;dog</th><td>cat</td><td>7</td><td>14.0%</td>' in section.html


def test_names_that_are_cut_alike_stay_apart(finished):
    section = confusion_section(finished(classes=("w" * 20 + "a", "w" * 20 + "b")))
    assert figure(section)["data"][0]["x"] == ["w" * 13 + "… (0)", "w" * 13 + "… (1)"]


def test_many_classes_have_no_numbers_and_a_folded_table(finished):
    section = confusion_section(finished(classes=tuple(f"class {number}" for number in range(30))))
    assert "text" not in figure(section)["data"][0]
    assert "<summary>All 30 classes, the worst first</summary>" in section.html


def test_pictures_of_mistakes_are_in_the_page_and_small(finished):
    section = mistakes_section(finished(side=300))
    kinds = re.findall(r'src="data:image/(\w+);base64,([^"]+)" width="96" height="96"', section.html)
    assert [kind for kind, _ in kinds] == ["jpeg", "jpeg"]
    assert Image.open(io.BytesIO(base64.b64decode(kinds[0][1]))).size == (96, 96)
    assert 'alt="Test image 0: cat, named dog with probability 90.0%"' in section.html


def test_a_picture_that_is_gone_is_left_out(finished):
    known = finished()
    (known.directory.model / "mistakes" / "000000.png").unlink()
    section = mistakes_section(known)
    assert section.html.count("<img ") == 1
    assert section.html.count("no picture") == 1


def test_a_model_without_mistakes_has_no_such_part(finished, searched):
    assert mistakes_section(finished(mistakes=0)) is None
    without = searched("other")
    assert (mistakes_section(without), confusion_section(without)) == (None, None)
