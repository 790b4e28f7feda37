"""`python -m tune check` and `python -m tune schema`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tune.__main__ import main
from tune.schema import experiment_schema

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "search_spaces" / "quickstart.yaml"


def call(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_right_file_is_told_with_what_it_searches():
    result = call("check", QUICKSTART)
    assert result.exit_code == 0
    assert result.stderr == ""
    keys = "width, batch_size, learning_rate, weight_decay, translate, momentum, optimizer"
    assert result.stdout == f"{QUICKSTART}: ok, searches {keys}\n"


def test_a_file_that_searches_nothing_is_right_too(experiment_file):
    file = experiment_file("data: {source: digits}\nspace: {width: 0.5}\n")
    assert call("check", file).stdout == f"{file}: ok, searches nothing\n"


def test_every_file_is_checked_and_every_problem_told(experiment_file):
    right = experiment_file("data: {source: digits}\nspace: {}\n", "right.yaml")
    wrong = experiment_file("data: {source: digits}\nspace: {lr: 1}\nsearch: {trials: 0}\n", "wrong.yaml")
    missing = wrong.with_name("rigth.yaml")
    result = call("check", wrong, missing, right)
    assert result.exit_code == 2
    assert result.stdout == f"{right}: ok, searches nothing\n"
    assert result.stderr.splitlines() == [
        f"{wrong}:2:9: space.lr: unknown parameter; did you mean 'learning_rate'?",
        f"{wrong}:3:18: search.trials: got 0, must be at least 1",
        f"{missing}: no such file; did you mean {right}?",
    ]


def test_overrides_are_checked_with_the_file():
    assert call("check", QUICKSTART, "--set", "search.trials=3").exit_code == 0
    result = call("check", QUICKSTART, "--set", "search.trials=0", "--set", "search.sede=1")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "--set search.sede=1: search.sede: unknown name; did you mean 'seed'?",
        "--set search.trials=0: search.trials: got 0, must be at least 1",
    ]


def test_no_file_is_a_wrong_call():
    result = call("check")
    assert result.exit_code == 2
    assert "Missing argument 'FILES...'" in result.stderr


def test_the_schema_is_printed():
    result = call("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == experiment_schema()


def test_the_schema_is_written(tmp_path):
    file = tmp_path / "schema.json"
    result = call("schema", "--output", file)
    assert (result.exit_code, result.output) == (0, "")
    assert file.read_bytes() == (ROOT / "search_spaces" / "experiment.schema.json").read_bytes()


def test_a_schema_that_cannot_be_written(tmp_path):
    file = tmp_path / "no" / "schema.json"
    result = call("schema", "--output", file)
    assert result.exit_code == 2
    assert result.stderr == (f"error: --output {file}: No such file or directory; choose a file that can be written\n")


def test_the_program_as_it_is_called_from_a_shell(experiment_file):
    file = experiment_file("data: {source: digits}\nspace: {width: wide}\n")
    done = subprocess.run(
        [sys.executable, "-m", "tune", "check", file], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"{file}:2:16: space.width: got 'wide', must be a number\n"


CHECK = f"""
from click.testing import CliRunner
from tune.__main__ import main
assert CliRunner().invoke(main, ["check", {str(QUICKSTART)!r}]).exit_code == 0
"""


@pytest.mark.parametrize("code", [CHECK, "import tune.run"], ids=["check", "import tune.run"])
def test_torch_and_ray_are_not_imported(code):
    """Each takes seconds; checking a file and --help are for quick answers."""
    code += "\nimport sys; print(sorted({'torch', 'ray', 'lightning', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
