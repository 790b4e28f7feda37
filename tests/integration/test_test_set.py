"""The test set is read once: what a second reading takes, and what tells of one that was hidden."""

import json
import re
import shutil

import pytest

# those of the search that it goes on with
SETTINGS = ("search.trials=3", "scheduler.max_epochs=3", "scheduler.grace_period=1", "retrain.epochs=1")


@pytest.mark.slow
@pytest.mark.xdist_group("three_trials")
def test_a_second_reading_is_asked_for_and_marked(three_trials, finished, search, row):
    ledger, model = finished / "test_ledger.jsonl", finished / "model"
    (line,) = ledger.read_text().splitlines()
    assert "readings" not in three_trials[0]

    # nothing new: nothing is read
    done = search("quickstart.yaml", *SETTINGS, flags=("--resume",))
    assert done.code == 0, done.err
    assert ledger.read_text() == f"{line}\n"

    # a session that was killed after the reading, before its end: the reading counts, and is not repeated
    (model / "metrics.json").unlink()
    weights = (model / "model.ckpt").read_bytes()
    done = search("quickstart.yaml", *SETTINGS, flags=("--resume",))
    assert done.code == 0, done.err
    assert ledger.read_text() == f"{line}\n"
    assert (model / "model.ckpt").read_bytes() == weights
    assert json.loads((model / "metrics.json").read_text())["test"]["accuracy"] == json.loads(line)["accuracy"]

    # one that was killed while it read: it is the same reading
    (model / "metrics.json").unlink()
    ledger.write_text(json.dumps({**json.loads(line), "accuracy": None, "images": 0, "figures": {}}) + "\n")
    refused = search("quickstart.yaml", *SETTINGS, flags=("--resume",))
    assert refused.code == 2, "the study knew of its figures"
    assert re.search(
        rf"^error: {ledger}: the line that the study knows of is gone or was changed; .* --again", refused.err
    )
    done = search("quickstart.yaml", *SETTINGS, flags=("--resume", "--again"))
    assert done.code == 0, done.err
    (line,) = ledger.read_text().splitlines()
    assert json.loads(line)["accuracy"] == json.loads((model / "metrics.json").read_text())["test"]["accuracy"]
    assert (model / "model.ckpt").read_bytes() == weights
    assert "readings" not in done.out

    # another model of the same experiment
    changed = (*SETTINGS, "retrain.learning_rate=0.001")
    refused = search("quickstart.yaml", *changed, flags=("--resume",))
    assert refused.code == 2
    assert re.search(r"^error: the test set was read on 20\S+ for the model of trial \d, .*, add --again$", refused.err)
    assert (ledger.read_text(), (model / "model.ckpt").read_bytes()) == (f"{line}\n", weights)
    done = search("quickstart.yaml", *changed, flags=("--resume", "--again"))
    assert done.code == 0, done.err
    assert row(done.out, "readings").startswith("2 of the test set")
    assert len(ledger.read_text().splitlines()) == 2
    assert "not blind" in (finished / "report.html").read_text()

    # a ledger that is gone
    ledger.unlink()
    refused = search("quickstart.yaml", *changed, flags=("--resume",))
    assert refused.code == 2
    assert refused.err.startswith(f"error: {ledger}: one of the 2 lines that the study knows of is gone or was changed")
    shutil.rmtree(model)
    done = search("quickstart.yaml", *changed, flags=("--resume", "--again"))
    assert done.code == 0, done.err
    assert row(done.out, "readings").startswith("3 of the test set")
