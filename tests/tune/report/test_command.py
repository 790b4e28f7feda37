"""`python -m tune report`, as it is called."""

import pytest
from click.testing import CliRunner

from tune.__main__ import main
from tune.report.command import report
from tune.storage import open_storage


@pytest.fixture
def call(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(main, ["report", *map(str, arguments), "--storage", str(storage)])

    return run


def test_of_one_the_report_is_in_its_directory(finished, call, storage):
    finished()
    done = call("one")
    assert (done.exit_code, done.output) == (0, f"{storage / 'one' / 'report.html'}\n")
    assert (storage / "one" / "report.html").read_text().startswith("<!doctype html>")


def test_of_several_the_comparison_is_here_or_where_one_says(searched, call, tmp_path):
    searched("one")
    searched("two")
    done = call("one", "two")
    assert (done.exit_code, done.output) == (0, "comparison.html\n")
    assert "Comparison: one, two" in (tmp_path / "comparison.html").read_text()
    assert call("one", "two", "--output", "other.html").output == "other.html\n"
    assert (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["on"], "error: report: there is no experiment on in {storage}; did you mean 'one'?"),
        (["one", "tow"], "error: report: there is no experiment tow in {storage}; there are one"),
        (["one", "--output", "no/there.html"], "error: --output no/there.html: No such file or directory; choose a"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments, error, begun, call, storage):
    begun("one")
    done = call(*arguments)
    assert done.exit_code == 2
    assert error.format(storage=storage) in done.output
    assert len(done.output.splitlines()) == 1


def test_on_an_object_store_it_is_published_there(searched, server, s3_keys, storage, tmp_path):
    searched("one")
    uri = server.uri("reports/all of them", options="&allow_bucket_creation=true")
    there = open_storage(uri)
    there.make()
    for file in ("experiment.yaml", "study.journal"):
        there.upload(storage / "one" / file, f"one/{file}")
    where = report(["one"], uri, None)
    assert where.startswith("s3://reports/all of them/one/report.html?")
    there.download("one/report.html", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Best so far" in html
    assert "python -m tune replay one --storage &#39;s3://reports/all of them?" in html
