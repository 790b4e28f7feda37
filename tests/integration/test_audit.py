"""An audit of early stopping on a real cluster, killed in its midst, and the experiment that comes next."""

import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tune.recorded import read_experiment

SPACE = """
data: {source: digits, limit: 1300}
space:
  network: own:linear
  learning_rate: {type: float, lower: 1e-4, upper: 3e-3, log: true}
search: {trials: 6, sampler: random}
scheduler: {max_epochs: 4, reduction_factor: 2, audit: 1}
retrain: {epochs: 1, seeds: 0}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def shown(folder: Path) -> int:
    """How many epochs TensorBoard shows."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return len({event.step for event in events.Scalars("val_accuracy_epoch")})


def test_a_killed_audit_goes_on_and_the_next_experiment_is_warm(folder, start, call, cluster, monkeypatch):
    monkeypatch.syspath_prepend(folder)  # its network is looked for where the file is read
    file = folder / "own.yaml"
    file.write_text(SPACE)
    command = ("tune.run", "--space", file, "--name", "one", "--address", cluster)
    begun = start(*command)
    lines = iter(begun.process.stdout.readline, "")
    assert any(line.startswith("audit: trial ") for line in lines)
    begun.kill(signal.SIGKILL)
    told = call(*command, "--resume")
    assert told.code == 0, told.err
    assert "audit: trial " in told.out

    known = read_experiment(str(folder / "experiments"), "one", "status")
    stopped = [trial for trial in known.trials if trial.state == "stopped"]
    assert len(stopped) >= 3
    for trial in stopped:
        assert (trial.audit.state, list(trial.audit.values)) == ("completed", [1, 2, 3, 4])
        left = [path for epoch, path in trial.audit.checkpoints.items() if epoch > trial.epochs]
        assert len(left) == 4 - trial.epochs
        assert not any((known.directory.path / path).exists() for path in left), "what no trial goes on from is gone"
        assert shown(known.directory.trials / f"{trial.number:05d}") == trial.epochs < 4
    frozen = {trial.number: trial.intermediate_values for trial in known.study.trials}
    assert all(list(frozen[trial.number]) == list(range(1, trial.epochs + 1)) for trial in stopped)
    report = known.directory.report.read_text()
    assert f"{len(stopped)} of {len(stopped)} did." in report

    assert call("tune", "check", known.directory.next).code == 0
    after = call("tune.run", "--space", known.directory.next, "--name", "one-2", "--address", cluster,
                 "--set", "search.trials=2", "--set", "scheduler.audit=0")  # fmt: skip
    assert after.code == 0, after.err
    assert f"warm start from {known.directory.path}: 6 trials given to the sampler" in after.out
    replayed = call("tune", "what-if", "one", "--grace-period", 2, "--storage", "experiments")
    assert replayed.code == 0, replayed.err
    assert "replayed" in replayed.out, "all curves are known"
