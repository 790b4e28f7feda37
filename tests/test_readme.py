"""The README is true: its commands name what there is, and its tree is the tree."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from tune import spec

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith(("python ", "pip "))]


def test_the_quick_start_is_two_commands_the_second_of_which_runs_the_tests():
    start = README.split("## Quick start")[1]
    block = re.search(r"```\w*\n(.*?)```", start, re.DOTALL)
    assert block
    first, second = block.group(1).splitlines()
    assert first.endswith("python -m tune.run --space search_spaces/quickstart.yaml")
    assert second.endswith("pytest -n 2 -m 'not slow'")


@pytest.mark.parametrize("package", ["cifar", "tune", "tune/report", "tune/service"])
def test_the_tree_names_every_module_once(package):
    tree = README.split("## Layout")[1]
    section = re.search(rf"^{package}/.*?(?=^\w)", tree, re.MULTILINE | re.DOTALL)
    assert section
    there = {path.name for path in (PROJECT / package).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^ {2}(\w+\.py)", section.group(0), re.MULTILINE)) == there


def test_every_space_it_names_is_there_and_every_one_there_is_named():
    there = {f"search_spaces/{path.name}" for path in (PROJECT / "search_spaces").glob("*.yaml")}
    assert set(re.findall(r"search_spaces/\w+\.yaml", README)) == there


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--space" in command])
def test_every_search_it_names_is_a_valid_experiment(command):
    words = shlex.split(command.split("&& ")[-1])
    overrides = [word for flag, word in pairwise(words) if flag == "--set"]
    experiment = spec.load(PROJECT / words[words.index("--space") + 1], overrides)
    assert experiment.search.trials >= 1


@pytest.mark.parametrize("tool", ["docker compose", "kubectl apply"])
def test_its_commands_for_containers_are_those_of_the_page_on_them(tool):
    (block,) = [block for block in BLOCKS if tool in block]
    page = (PROJECT / "docker" / "README.md").read_text().splitlines()
    assert [line for line in block.splitlines() if line not in page] == []


def test_no_figure_is_left_open():
    assert "MEASURED" not in README
    assert "TABLE" not in README


def test_the_example_file_is_valid(tmp_path):
    (example,) = [block for block in BLOCKS if block.startswith("# yaml-language-server")]
    file = tmp_path / "example.yaml"
    file.write_text(example.replace("your.module:factory", "resnet18"))
    experiment = spec.load(file)
    assert [domain.name for domain in experiment.space.searched()] == [
        "learning_rate",
        "batch_size",
        "translate",
        "flip",
        "color_jitter",
        "momentum",
        "optimizer",
    ]
