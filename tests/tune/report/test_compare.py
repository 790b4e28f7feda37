"""Several experiments side by side."""

import re
from pathlib import Path

import pytest

from cifar.errors import UserError
from tune.recorded import read_experiment
from tune.report.compare import write_comparison


@pytest.fixture
def compared(tmp_path, page):
    def make(*several):
        return page(write_comparison(several, tmp_path / "comparison.html").read_text(encoding="utf-8"))

    return make


def test_results_cost_winners_and_settings_stand_side_by_side(finished, compared):
    one = finished("one")
    other = finished("<b>other", "search.seed=1", test={"accuracy": 0.8, "low": 0.7, "high": 0.86})
    told = compared(one, other)
    assert "one has the highest test accuracy, 95.00%; its interval lies above that of &lt;b&gt;other" in told.words
    assert (
        "test accuracy 95.00% (95 % interval 90.00% to 98.00%, 100 images) 80.00% (95 % interval 70.00%" in told.words
    )
    assert "search.seed 0 1" in told.words
    assert "scheduler.max_epochs" not in told.words, "which is the same in both"
    rates = [f"{known.winner.trial.hparams['learning_rate']:.4g} (searched)" for known in (one, other)]
    assert f"learning_rate (differs) {rates[0]} {rates[1]}" in told.words
    assert len(told.all("mark")) >= 2
    assert "b" not in {tag for tag, _ in told.tags}
    assert len([each for each in told.all("div") if each.get("class") == "plotly-graph-div"]) == 3


def test_intervals_that_overlap_are_called_so(finished, compared):
    told = compared(finished("one"), finished("two", test={"accuracy": 0.94}))
    assert "one has the highest test accuracy, 95.00%; its interval overlaps with that of two" in told.words


def test_one_that_runs_and_one_of_another_metric_are_there_too(searched, begun, storage, compared):
    one = searched("one")
    begun("two", "search.metric=val_loss", "search.trials=6", "search.sampler=random").run(steps=3)
    begun("three", "search.trials=6")
    others = [read_experiment(str(storage), name, "report") for name in ("two", "three")]
    told = compared(one, *others)
    assert "None of them has a model yet" in told.words
    assert "two: This experiment was interrupted" in told.words
    assert "Not drawn, as ranked by another metric: two (val_loss)." in told.words
    assert re.search(r"winner, or the best, in the search val_accuracy \S+ val_loss \S+ none", told.words)


def test_a_file_that_cannot_be_written_is_told(searched):
    known = [searched("one"), searched("two")]
    with pytest.raises(UserError, match=r"--output /proc/comparison\.html: .*; choose a file that can be written"):
        write_comparison(known, Path("/proc/comparison.html"))
