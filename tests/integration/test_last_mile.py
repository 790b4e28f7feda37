"""From the best few trials to the model, on a real cluster: what is trained, what is not twice, and what is told."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tune import yaml_file
from tune.storage import open_storage

SETTINGS = (
    "data.limit=200", "search.trials=3", "scheduler.max_epochs=2", "scheduler.grace_period=1", "retrain.epochs=2",
    "retrain.finalists=2", "retrain.seeds=2", "space.width=0.125",
)  # fmt: skip


def trained(out):
    """The lines of finalists and averages, without their figures."""
    return re.findall(r"^((?:finalists|averages)\b.*? \d+/\d+): (.*?): ", out, re.MULTILINE)


@pytest.fixture(scope="module")
def searched(search_once):
    """What a search said whose last mile was chosen, and its experiment directory."""
    return search_once(*SETTINGS, "retrain.start=auto")


@pytest.fixture
def chosen(searched, folder):
    """The same, the directory in `folder`."""
    out, kept = searched
    return out, Path(shutil.copytree(kept, folder / "experiments" / "test"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("last_mile")
def test_the_last_mile_is_told_and_not_repeated(chosen, search, row):
    out, experiment = chosen
    lines = trained(out)
    assert [count for count, _ in lines] == [f"finalists {n}/4" for n in (1, 2, 3, 4)] + [
        f"averages {n}/8" for n in range(1, 9)
    ]
    assert {what for _, what in lines[4:]} == {
        f"{tail} tail, {start}, seed {seed}"
        for tail in ("constant", "cosine")
        for start in ("afresh", "from the checkpoint")
        for seed in (1, 2)
    }
    winner = yaml_file.read(experiment / "winner.yaml")[0]
    assert row(out, "winner").startswith(f"trial {winner['trial']}, the highest mean val_accuracy over 2 fresh seeds")
    assert row(out, "over seeds").startswith(f"{winner['finalists'][0]['mean']:.4f} (95 % interval ")
    assert len(winner["evidence"]) == 13
    report = (experiment / "report.html").read_text()
    assert report.count('<th scope="row">afresh</th>') == 7
    assert report.count('<th scope="row">checkpoint</th>') == 6
    assert {path.name for path in (experiment / "finalists").iterdir()} == {
        f"{winner['trial']:05d}-seed-{seed}.ckpt" for seed in (1, 2)
    }
    made = json.loads((experiment / "model" / "metrics.json").read_text())["made_from"]
    assert {name: made[name] for name in winner["retrain"]} == winner["retrain"]

    again = search("quickstart.yaml", *SETTINGS, "retrain.start=auto", flags=("--resume",))
    assert again.code == 0, again.err
    assert trained(again.out) == []
    assert ": epoch " not in again.out
    assert row(again.out, "made") == row(out, "made")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("last_mile")
def test_the_model_alone_is_made_anew(chosen, call, cluster, row):
    _, experiment = chosen
    model, ledger = experiment / "model" / "model.ckpt", experiment / "test_ledger.jsonl"
    before = model.read_bytes()

    refused = call("tune", "retrain", "test", "--address", cluster)
    assert refused.code == 2
    assert re.match(r"error: the test set was read on 20\S+ for the model of trial \d, .*, add --again\n$", refused.err)
    assert model.read_bytes() == before
    assert refused.out == "", "nothing was begun"

    made = model.stat().st_mtime_ns
    same = call("tune", "retrain", "test", "--address", cluster, "--again")
    assert same.code == 0, same.err
    assert trained(same.out) == []
    assert model.stat().st_mtime_ns > made, "though nothing of it has changed"

    readings = len(ledger.read_text().splitlines())
    way = ("retrain.start=scratch", "retrain.lr_schedule=cosine", "retrain.average=ema")
    sets = [part for one in way for part in ("--set", one)]
    together = call("tune", "retrain", "test", "--address", cluster, "--again", "--devices", "2", *sets)
    assert together.code == 0, together.err
    assert "training in 2 processes" in together.out
    assert len(ledger.read_text().splitlines()) == readings + 1
    assert row(together.out, "readings").startswith(f"{readings + 1} of the test set")
    assert yaml_file.read(experiment / "experiment.yaml")[0]["retrain"]["devices"] == 2
    assert model.read_bytes() != before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_make_the_model_that_one_makes(search, call, own, folder):
    """A network without chance in it: the same batches and the same learning rate give the same weights.

    On a cluster of its own, where processes are forks; the test before joins one.
    """
    once = (
        "search.trials=1",
        "space.width=1.0",
        "retrain.start=scratch",
        "retrain.lr_schedule=none",
        "retrain.on=train",
    )
    done = search(own("spare"), *once)
    assert done.code == 0, done.err
    model = folder / "experiments" / "test" / "model" / "model.ckpt"
    alone = torch.load(model, weights_only=True)["state_dict"]
    done = call("tune", "retrain", "test", "--again", "--devices", "2")
    assert done.code == 0, done.err
    assert "training afresh: epoch 3/3, train_loss" in done.out
    together = torch.load(model, weights_only=True)["state_dict"]
    assert any(not torch.equal(alone[name], together[name]) for name in alone), "sums were of another order"
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_an_object_store_weights_go_there_and_nothing_is_trained_twice(search, call, cluster, server):
    where = server.uri("miles/searches", user="a-key:a-secret@", options="&allow_bucket_creation=true")
    flags = ("--storage", where)
    settings = (*SETTINGS, "retrain.seeds=1", "retrain.start=scratch", "retrain.lr_schedule=cosine")
    done = search("quickstart.yaml", *settings, flags=flags)
    assert done.code == 0, done.err
    assert [count for count, _ in trained(done.out)] == ["finalists 1/2", "finalists 2/2", "averages 1/1"]
    storage = open_storage(where)
    (kept,) = storage.list("test/finalists")
    assert kept.endswith("-seed-1.ckpt")
    again = search("quickstart.yaml", *settings, flags=(*flags, "--resume"))
    assert again.code == 0, again.err
    assert trained(again.out) == []
    storage.delete(f"test/finalists/{kept}")  # it is made again where a tail needs it
    more = (*settings, "retrain.epochs=1")
    done = search("quickstart.yaml", *more, flags=(*flags, "--resume", "--again"))
    assert done.code == 0, done.err
    assert [count for count, _ in trained(done.out)] == ["finalists whose weights are gone 1/1", "averages 1/1"]
    assert storage.list("test/finalists") == [kept]
    together = call("tune", "retrain", "test", "--address", cluster, *flags, "--again", "--devices", "2")
    assert together.code == 0, together.err
    assert storage.exists("test/model/model.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], r"error: retrain: there is no experiment nobody in .*; none has begun there\n"),
        (
            ["test", "--set", "search.trials=9"],
            r"error: retrain: --set search.trials=9: the search is as it was, so only retrain, resources, tracking can "
            r"be set; to search otherwise, begin another experiment\n",
        ),
    ],
)
def test_what_cannot_be_retrained_is_said(arguments, message, call):
    refused = call("tune", "retrain", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert re.fullmatch(message, refused.err)
