"""The whole page, from the directory of an experiment that is over, runs, or has just begun."""

import re

import pytest

from cifar.errors import UserError
from tune.errors import StorageError
from tune.recorded import read_experiment
from tune.report.page import write_report
from tune.report.result import result_section
from tune.report.trials_table import trials_section

HOSTILE = "</script><script>alert('x')</script> \"quoted\" <b>&amp; %{x} 🎉"


def written(known):
    html = write_report(known).read_text(encoding="utf-8")
    assert "This part could not be made" not in html
    return html


def test_a_part_that_cannot_be_made_costs_none_of_the_others(finished, page, monkeypatch):
    def broken_section(known):
        raise ZeroDivisionError("<i>")

    monkeypatch.setattr("tune.report.page.SECTIONS", (result_section, broken_section, trials_section))
    told = page(write_report(finished()).read_text(encoding="utf-8"))
    assert "Broken This part could not be made: ZeroDivisionError: " in told.words
    assert "winner trial" in told.words
    assert told.all("i") == []


def test_the_result_comes_first(finished, page):
    known = finished()
    told = page(written(known))
    assert told.words.startswith("one: 95.00% (95 % interval 90.00% to 98.00%, 100 images) Skip to the result one Test")
    best = known.winner.trial
    assert f"winner trial {best.number}, the highest mean val_accuracy over 2 fresh seeds" in told.words
    assert "16 trials: " in told.words
    assert re.search(r"\d completed, 1 diverged, 1 failed, \d+ stopped", told.words)
    assert f"learning_rate {best.hparams['learning_rate']:.4g}" in told.words
    assert "retrain 12 s" in told.words


def test_every_part_is_there(finished, page):
    html = written(finished("one", "search.trials=40"))
    headings = re.findall(r'<h2 id="\S+-title">(.*?)</h2>', html)
    assert headings == [
        "Result",
        "Best value over time",
        "Learning curves",
        "Early stopping",
        "What mattered",
        "Parallel coordinates",
        "Slices",
        "Contours",
        "Finalists over fresh seeds",
        "How the model is made: raw, SWA, EMA",
        "Confusion matrix",
        "Most confident mistakes",
        "What to change next",
        "Where the time went",
        "Environment, and again",
        "Trials",
    ]
    assert {tag: len(page(html).all(tag)) for tag in ("h1", "h2", "h3")} == {"h1": 1, "h2": 17, "h3": 0}


def test_every_link_leads_somewhere_and_nothing_is_fetched(finished, page):
    told = page(written(finished()))
    ids = [attributes["id"] for _, attributes in told.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in told.all("a")]
    assert len(links) > 10
    assert {link.removeprefix("#") for link in links} <= set(ids)
    sources = [attributes["src"] for _, attributes in told.tags if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    (policy,) = [each["content"] for each in told.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none';")


def test_every_figure_and_picture_says_what_it_shows(finished, page):
    told = page(written(finished()))
    drawn = [attributes for _, attributes in told.tags if attributes.get("role") == "img"]
    assert len(drawn) == len([each for each in told.all("div") if each.get("class") == "plotly-graph-div"])
    assert all(re.search(r"\d", each["aria-label"]) for each in drawn)
    assert [each["alt"] for each in told.all("img")] == [
        f"Test image {number}: cat, named dog with probability 90.0%" for number in (0, 1)
    ]


def test_it_is_harmless_whatever_the_names(finished, page):
    plain = page(written(finished("plain")))
    name = HOSTILE.replace("/", "")
    html = written(finished(name, classes=(HOSTILE, "w" * 200), error=f"ValueError: {HOSTILE}", skipped=(HOSTILE,)))
    told = page(html)
    assert [tag for tag, _ in told.tags if tag == "script"] == [tag for tag, _ in plain.tags if tag == "script"]
    assert {tag for tag, _ in told.tags} == {tag for tag, _ in plain.tags}, "no <b> of theirs"
    assert "alert('x')</script>" not in html
    assert "alert(&#39;x&#39;)&lt;/script&gt;" in html
    figures = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert len(figures) == len(told.all("figure")) - len(told.all("img"))
    assert not [figure for figure in figures if "<" in figure]
    assert "w" * 200 in told.words
    assert len(html) < 6_000_000


def test_names_that_are_no_unicode_are_written_all_the_same(finished):
    assert "a?b" in written(finished(classes=("a\udcffb", "dog")))


def test_a_hundred_classes_and_large_pictures_stay_light(finished, page):
    html = written(finished(classes=tuple(f"class {number}" for number in range(100)), mistakes=24, side=300))
    told = page(html)
    assert len(html) < 6_000_000
    assert len(told.all("img")) == 24
    assert all(each["src"].startswith("data:image/jpeg") and each["width"] == "96" for each in told.all("img"))
    assert "All 100 classes, the worst first" in told.words


def test_a_running_search_has_a_page_of_what_is_known(begun, storage, page):
    one = begun("one", "search.trials=6", "search.sampler=random", slots=2).run(steps=3)
    with read_experiment(str(storage), "one", "report").directory.locked():
        told = page(written(read_experiment(str(storage), "one", "report")))
    assert "one: Best so far: val_accuracy 0." in told.words
    assert "This experiment is running: 0 of 6 trials have ended." in told.words
    assert "Confusion matrix" not in told.words
    assert one.trials


def test_an_interrupted_one_says_how_to_go_on(begun, storage, page):
    begun("one", "search.trials=6", "search.sampler=random", slots=2).run(steps=3)
    told = page(written(read_experiment(str(storage), "one", "report")))
    assert "This experiment was interrupted, with 0 of 6 trials ended; --resume goes on with it." in told.words


def test_one_that_has_just_begun_says_that_nothing_is_known(begun, storage, page):
    begun("one", "search.trials=6")
    told = page(written(read_experiment(str(storage), "one", "report")))
    assert "No trial has a value yet" in told.words
    assert "0 trials: none was begun" in told.words


def test_one_without_a_model_is_told_so(searched, page):
    told = page(written(searched()))
    assert "The search is over. There is no model yet; --resume makes it." in told.words


def test_another_file_leaves_the_experiment_as_it_is(finished, tmp_path):
    known = finished()
    assert write_report(known, tmp_path / "there.html") == tmp_path / "there.html"
    assert not known.directory.report.exists()
    with pytest.raises(UserError, match=r"--output \S+nowhere/there\.html: No such file or directory; choose a file"):
        write_report(known, tmp_path / "nowhere" / "there.html")


def test_a_directory_that_cannot_be_written_is_told_in_a_line(searched):
    known = searched()
    known.directory.report.mkdir()
    with pytest.raises(StorageError, match=r"report\.html cannot be written: .*; choose another file with --output"):
        write_report(known)
