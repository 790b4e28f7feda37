"""Trials that share a GPU. Ray is told of one that is not there, so that they train on the CPU."""

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gpus")]


@pytest.fixture(scope="module")
def one_gpu(ray_head):
    """A cluster of four CPUs and a GPU."""
    return ray_head(4, gpus=1)


def test_as_many_trials_share_a_gpu_as_are_measured_to_be_fastest(call, own, one_gpu):
    sets = ("--set", "search.trials=5", "--set", "scheduler.max_epochs=1", "--set", "space.width=1.0")
    done = call("tune.run", "--space", own("linear"), "--name", "test", "--address", one_gpu, *sets)
    assert done.code == 0, done.err
    trials, speeds = re.search(r"^(?:(\d+) trials share|a trial has) .*speeds (.*) \(probed", done.out, re.M).groups()
    measured = {int(count): float(speed) for count, speed in re.findall(r"(\d+) at once ([\d.]+)", speeds)}
    assert measured[1] == 1
    assert 2 in measured, "there is memory for two"
    best = int(trials or 1)
    assert measured[best] == max(speed for count, speed in measured.items() if count <= best)
    slots = "1 slot" if best == 1 else f"{best} slots"
    assert f"in {slots} of {4 // best} CPU and {1 / best:g} GPU" in done.out
    assert "5 trials: 5 completed" in done.out


def test_what_has_no_memory_beside_others_goes_on_alone(call, own, one_gpu, folder, study):
    sets = ("--set", "resources.gpus_per_trial=0.5", "--set", "resources.cpus_per_trial=1")
    done = call("tune.run", "--space", own("crowded"), "--name", "test", "--address", one_gpu, *sets)
    assert done.code == 0, done.err
    shares = {tuple(line.split()) for line in (folder / "shares").read_text().splitlines()}
    assert {("2.0", "0.5"), ("2.0", "1.0"), ("0.5", "0.5")} <= shares
    trials = study(folder / "experiments" / "test")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    for trial in trials:
        large = trial.params["width"] == 2.0
        assert (trial.user_attrs.get("alone", False), trial.user_attrs["attempts"]) == (large, 1 + large)
        assert list(trial.intermediate_values) == [1, 2, 3], "from its checkpoint on"


def test_each_of_two_searches_has_its_share_and_neither_waits_for_the_other(start, folder, study, ray_head):
    """Without `resources.max_gpus` the first one would have both GPUs to its end."""
    address = ray_head(2, gpus=2)
    space = folder / "slow.yaml"
    space.write_text(
        "data: {source: digits, limit: 640}\n"
        "space: {network: own:slow, width: {type: categorical, options: [0.5, 2.0]}, learning_rate: 0.01}\n"
        "search: {trials: 6, sampler: random}\n"
        "scheduler: {type: none, max_epochs: 6}\n"
        "resources: {gpus_per_trial: 1, cpus_per_trial: 1, max_gpus: 1}\n"
        "retrain: {epochs: 1, seeds: 0}\n"
    )
    running = {
        name: start("tune.run", "--space", space, "--name", name, "--address", address) for name in ("ours", "theirs")
    }
    first = {}
    for name, search in running.items():
        done = search.end()
        assert done.code == 0, done.err
        assert "in 1 slot of 1 CPU and 1 GPU" in done.out
        trials = study(folder / "experiments" / name)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
        first[name] = [trial.datetime_complete for trial in trials]
    assert first["ours"][0] < first["theirs"][-1]
    assert first["theirs"][0] < first["ours"][-1], "both ran at once"
