"""`python -m tune replay`: a trial again, from its record alone."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("three_trials")


def test_every_trial_is_repeated_value_for_value(finished, call, study):
    """One that paused at a rung and went on, too."""
    for trial in study(finished):
        if not trial.intermediate_values:
            continue
        done = call("tune", "replay", "test", trial.number)
        assert (done.code, done.out.splitlines()[-1]) == (0, "equal: every value to the last digit"), done.err
        shown = re.findall(r"^(\d+) +(\S+) +(\S+) *$", done.out, re.MULTILINE)
        assert [int(epoch) for epoch, *_ in shown] == list(trial.intermediate_values)
        assert all(then == now for _, then, now in shown)
    best = max(study(finished), key=lambda trial: max(trial.intermediate_values.values(), default=0))
    assert f"training trial {best.number} of test again" in call("tune", "replay", "test").err


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text))


@pytest.mark.slow
def test_another_curve_is_told_with_what_has_changed(finished, call, study):
    trial = max((trial for trial in study(finished)), key=lambda trial: len(trial.intermediate_values))
    last, value = max(trial.intermediate_values.items())
    line = rf'("trial_id":{trial._trial_id},"step":{last},"intermediate_value":){value}'
    edited(finished / "study.journal", line, rf"\g<1>{value - 0.004}")
    edited(finished / "experiment.yaml", r"torch: [\d.]+.*", "torch: 1.0.0")
    near = call("tune", "replay", "test", trial.number)
    assert near.code == 0
    assert re.search(r"^within noise: after epoch \d less than 0\.0\d+ apart", near.out, re.MULTILINE)
    assert re.search(r"^changed since: .*torch was 1\.0\.0, is \d", near.out, re.MULTILINE)

    edited(finished / "study.journal", rf'({trial._trial_id},"step":{last},"intermediate_value":)[\d.]+', r"\g<1>0.01")
    far = call("tune", "replay", "test", trial.number)
    assert far.code == 1
    assert re.search(r"^different: after epoch \d more than 0\.\d+ apart", far.out, re.MULTILINE)


def test_what_cannot_be_replayed_is_said(finished, call):
    assert call("tune", "replay", "tset").err == (
        f"error: replay: there is no experiment tset in {finished.parent}; did you mean 'test'?\n"
    )
    done = call("tune", "replay", "test", 99)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: replay: test has no trial 99; its trials are 0 to 2\n"
    edited(finished / "experiment.yaml", r"data_fingerprint: \S+", "data_fingerprint: abc")
    assert re.search(
        r"^error: replay: the images in digits are not those that test began with", call("tune", "replay", "test").err
    )
