"""Every experiment file that ships: it loads, an editor can check it, and its heading is true to it."""

import json
from pathlib import Path

import jsonschema
import pytest

from cifar.hparams import HParams
from tune import yaml_file
from tune.schema import experiment_schema
from tune.spec import load

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


class Middle:
    """Draws the middle of every interval, and the last option of every choice."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return (low + high) / 2

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + (high - low) // step // 2 * step

    def suggest_categorical(self, name: str, choices):
        return choices[-1]


def test_there_are_files():
    assert {"quickstart", "baseline", "resnet", "image_folder"} <= {file.stem for file in FILES}


@each_file
def test_it_loads_and_its_points_are_hparams(file):
    experiment = load(file)
    assert experiment.name == file.stem
    assert HParams(**experiment.space.draw(Middle()))


@each_file
def test_it_names_the_schema_and_its_own_command(file):
    schema, command = file.read_text(encoding="utf-8").splitlines()[:2]
    assert schema == "# yaml-language-server: $schema=experiment.schema.json"
    assert command.startswith(f"# python -m tune.run --space search_spaces/{file.name}")


@each_file
def test_it_satisfies_the_json_schema(file):
    values, _ = yaml_file.read(file)
    jsonschema.validate(values, experiment_schema(), cls=jsonschema.Draft202012Validator)


def test_the_committed_schema_is_the_programs():
    """After a change of a setting: python -m tune schema --output search_spaces/experiment.schema.json"""
    committed = (FOLDER / "experiment.schema.json").read_text(encoding="utf-8")
    assert json.loads(committed) == experiment_schema()
