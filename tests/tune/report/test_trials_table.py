"""Every trial has a row, or the best and the failed have."""

import re
from dataclasses import replace

from tune.report.trials_table import trials_section
from tune.trials import Trial


def rows(html):
    return re.findall(r'<tr><th scope="row">(\d+)</th>', html)


def test_every_trial_has_its_state_its_hparams_and_why_it_ended(searched):
    known = searched(error="ValueError: <b>")
    html = trials_section(known).html
    assert rows(html) == [str(number) for number in range(16)]
    assert "val_loss was nan at epoch 1" in html
    assert "ValueError: &lt;b&gt;" in html
    assert f"learning_rate {known.trials[2].hparams['learning_rate']:.4g}" in html


def test_of_thousands_the_best_and_the_failed_are_there(searched):
    known = replace(searched())
    point = known.trials[0].hparams
    stopped = [Trial(number, point, "stopped", {1: number / 3000}) for number in range(2900)]
    failed = [Trial(2900 + number, point, "failed", reason="no") for number in range(100)]
    known.__dict__["trials"] = [*stopped, *failed]
    html = trials_section(known).html
    assert rows(html) == [str(number) for number in (*range(2899, 2799, -1), *range(2900, 2950))]
    assert "The best 100 of 3,000 trials" in html
    assert "Diverged or failed: the first 50 of 100" in html
