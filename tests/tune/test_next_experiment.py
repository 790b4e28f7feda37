"""The next experiment's file: right, marked, and warm from this one."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tune import spec
from tune.__main__ import main
from tune.critic import Change, Finding
from tune.experiment import check_name
from tune.next_experiment import findings, next_command, next_name, next_yaml, write_next
from tune.recorded import read_experiment

FIELDS = ("search.trials=48", "scheduler.max_epochs=3", "search.sampler=random", "search.start=[{translate: 1}]")
NARROW = """\
data: {source: digits}
space:
  learning_rate: {type: float, lower: 1e-4, upper: 3e-3, log: true}
  optimizer:
    type: categorical
    options:
      sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}}
      adamw:
"""


def rising(hparams, epoch: int) -> float:
    """Better and better with the learning rate."""
    return 0.1 + 20 * hparams["learning_rate"] + 0.001 * epoch


@pytest.fixture
def known(begun, storage):
    begun("quick-2", *FIELDS[:3], text=NARROW, value=rising).run()
    return read_experiment(str(storage), "quick-2", "next")


def test_what_was_found_stands_in_the_file_with_a_comment(known, experiment_file):
    text = next_yaml(known, findings(known))
    assert text.startswith("# The experiment after quick-2: 1 change, each marked by a comment.\n")
    lines = [line.strip() for line in text.splitlines()]
    place = lines.index("upper: 0.0093")
    remark = " ".join(line.removeprefix("# ") for line in lines[place - 2 : place])
    assert remark.startswith("changed: was 0.003; ")
    assert "by the rung reached and the value there, lie in the upper quarter of its logarithm" in remark
    after = spec.load(experiment_file(text, "next.yaml"))
    assert after.space.domains[0].upper == 0.0093
    assert after.search.seed == known.experiment.search.seed + 1
    expected = known.experiment.search.model_copy(update={"seed": 1, "warm_start": after.search.warm_start})
    assert after.search == expected
    assert (after.scheduler, after.retrain, after.data) == (
        known.experiment.scheduler,
        known.experiment.retrain,
        known.experiment.data,
    )


def test_it_runs_warm_from_anywhere(known, begun, tmp_path, monkeypatch):
    text = next_yaml(known, findings(known))
    monkeypatch.chdir(tmp_path)
    one = begun("after", "search.trials=2", text=text)
    assert one.notes == [f"warm start from {known.directory.path}: 48 trials given to the sampler"]
    assert [trial.state for trial in one.run().trials.values()] != []


def test_start_points_are_not_tried_again_and_may_lie_outside_now(begun, storage, experiment_file):
    begun("one", *FIELDS).run()
    after = spec.load(experiment_file(next_yaml(read_experiment(str(storage), "one", "next"), []), "next.yaml"))
    assert after.search.start == []


def test_a_finding_without_a_change_is_a_remark(known, experiment_file):
    path = ("space", "optimizer", "options", "sgd", "momentum")
    remark = Finding("no effect", "momentum", "1 % of it", "a constant would do", Change(path))
    text = next_yaml(known, [remark])
    assert text.startswith("# The experiment after quick-2: no change of its settings.\n")
    assert "        # 1 % of it; a constant would do\n        momentum:\n" in text
    assert spec.load(experiment_file(text, "next.yaml")).space == known.experiment.space


def test_several_objectives_begin_anew(begun, storage, experiment_file):
    objectives = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"
    begun("one", objectives, "search.trials=4", "scheduler.max_epochs=2").run()
    known = read_experiment(str(storage), "one", "next")
    assert spec.load(experiment_file(next_yaml(known, findings(known)), "next.yaml")).search.warm_start == []


def test_a_study_behind_a_password_is_not_named(known):
    hidden = replace(known, provenance={**known.provenance, "study": "postgresql://me:***@host/db"})
    assert "warm_start: []" in next_yaml(hidden, [])


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("quickstart", "quickstart-2"),
        ("a-2", "a-3"),
        ("a-9", "a-10"),
        ("resnet-18", "resnet-18-2"),
        ("run-2026", "run-2026-2"),
        ("2024-05-01", "2024-05-01-2"),
        ("x" * 199, "x" * 198 + "-2"),
        ("é" * 100, "é" * 99 + "-2"),
    ],
)
def test_a_successor_has_the_next_number(name, after):
    assert next_name(name) == after
    check_name(after)


def test_it_is_written_beside_the_report_and_by_a_command(known, storage, tmp_path):
    write_next(known)
    written = Path(known.directory.next).read_text()
    assert (
        next_command(known.directory, known.name)
        == f"python -m tune.run --space {known.directory.path}/next.yaml --name quick-3 --storage {storage}"
    )
    ask = ["next", "quick-2", "--storage", str(storage)]
    told = CliRunner().invoke(main, ask)
    assert (told.exit_code, told.stdout) == (0, written)
    assert told.stderr.startswith("learning_rate: ")
    assert "; raise its upper bound from 0.003 to 0.0093\n" in told.stderr
    assert CliRunner().invoke(main, [*ask, "--output", str(tmp_path / "n.yaml")]).exit_code == 0
    assert (tmp_path / "n.yaml").read_text() == written
    assert CliRunner().invoke(main, ["check", str(tmp_path / "n.yaml")]).exit_code == 0
    broken = CliRunner().invoke(main, [*ask, "--output", str(tmp_path / "no" / "n.yaml")])
    assert broken.exit_code == 2
    assert "error: --output " in broken.stderr
    assert broken.stderr.endswith("No such file or directory; choose a file that can be written\n")
