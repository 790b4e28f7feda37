"""The experiment file: YAML in, one validated Experiment out, or every problem at once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from cifar.config import DataConfig, Section, TrainerConfig
from tune import yaml_file
from tune.combinations import across, fill_in, of_points
from tune.errors import SpecError
from tune.points import grid_size
from tune.problems import Path, Problem, from_pydantic, nearest
from tune.sections import SECTIONS, ResourcesConfig, RetrainConfig, SchedulerConfig, SearchConfig, TrackingConfig
from tune.space import Space
from tune.space_parser import parse

RECORD = "provenance"  # of an experiment that ran, in its directory's experiment.yaml
SECTION_NAMES = ("data", "space", *list(SECTIONS)[1:])


@dataclass(frozen=True)
class Experiment:
    """One search, as the user asked for it: every section validated, every default filled in."""

    name: str
    data: DataConfig
    space: Space
    search: SearchConfig
    scheduler: SchedulerConfig
    resources: ResourcesConfig
    trainer: TrainerConfig
    retrain: RetrainConfig
    tracking: TrackingConfig
    raw_space: dict[str, Any]

    @cached_property
    def trials(self) -> int:
        """How many trials are planned: what the search asks for, and no more than a grid has points."""
        points = grid_size(self.space) if self.search.sampler == "grid" else None
        return min(self.search.trials, points or self.search.trials)

    @property
    def kept_checkpoints(self) -> int:
        """How many ended trials keep a checkpoint: no fewer than are to be finalists."""
        finalists = self.retrain.finalists if self.retrain.seeds != 0 else 1
        return max(self.search.keep_checkpoints, finalists)

    def to_dict(self) -> dict[str, Any]:
        """The experiment as a file that `load` reads back to an equal one."""
        sections = {name: getattr(self, name).model_dump() for name in SECTIONS}
        return {name: self.raw_space if name == "space" else sections[name] for name in SECTION_NAMES}


def load(file: FilePath, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment file and applies `section.name=value` overrides; its name is the file's stem.

    Raises SpecError with every problem found, each with file, line and column, or the override it came from.
    """
    raw, places = yaml_file.read(file)
    problems: list[Problem] = []
    for override in overrides:
        problems += _apply(override, raw, places)
    fill_in(raw)
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        absent = name == "data" and name not in raw  # reported below
        sections[name] = None if absent else _section(name, model, raw.get(name), problems)
    space, found = parse(raw["space"]) if "space" in raw else (Space(), [])
    problems += found
    for name in ("data", "space"):
        if name not in raw:
            problems.append(Problem((), f"the section {name} is missing", about_key=True))
    for name in raw:
        if name not in (*SECTION_NAMES, RECORD):
            rule = "unknown section" + (nearest(name, SECTION_NAMES) or f"; known: {', '.join(SECTION_NAMES)}")
            problems.append(Problem((name,), rule, about_key=True))
    problems += across(sections)
    if "space" in raw and not found:
        problems += of_points(sections["search"], sections["scheduler"], space)
    if problems:
        located = [_locate(problem, places, str(file)) for problem in problems]
        raise SpecError(sorted(located, key=_reading_order))
    return Experiment(name=file.stem, space=space, raw_space=raw["space"], **sections)


def _section(name: str, model: type[Section], raw: Any, problems: list[Problem]) -> Section | None:
    try:
        return model.model_validate({} if raw is None else raw)
    except ValidationError as error:
        problems += from_pydantic(error, (name,), model)
        return None


def _apply(override: str, raw: dict[str, Any], places: yaml_file.Places) -> list[Problem]:
    """Puts one `section.name=value` into the tree, and notes where its values come from."""
    place = f"--set {override}"
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        return [Problem((), "must be section.name=value, as in search.trials=8", place=place)]
    try:
        value = yaml_file.parse_value(text)
    except ValueError as error:
        return [Problem((), f"the value cannot be read: {error}", place=place)]
    node: Any = raw
    path: Path = ()
    for part in parts[:-1]:
        key = _existing_key(node, part)
        path = (*path, key)
        if not isinstance(node.get(key), dict):
            if key in node and node[key] is not None:
                return [Problem(path, f"has no parts: it is {node[key]!r}", about_key=True, place=place)]
            node[key] = {}
            places[path] = (place, place)
        node = node[key]
    key = _existing_key(node, parts[-1])
    node[key] = value
    path = (*path, key)
    for stale in [old for old in places if old[: len(path)] == path]:
        del places[stale]
    places[path] = (place, place)
    return []


def _existing_key(node: dict[Any, Any], part: str) -> Any:
    """`128` may name the option 128, and `true` the option true."""
    return next((key for key in node if str(key).lower() == part.lower()), part)


def _locate(problem: Problem, places: yaml_file.Places, file: str) -> Problem:
    """Gives a problem the place of the nearest thing on its path that the file holds."""
    if problem.place:
        return problem
    for length in range(len(problem.path), 0, -1):
        if found := places.get(problem.path[:length]):
            whole = length == len(problem.path)
            return replace(problem, place=found[0 if problem.about_key or not whole else 1])
    return replace(problem, place=file)


def _reading_order(problem: Problem) -> tuple[str, list[int]]:
    file, *numbers = problem.place.split(":")
    return file, [int(number) for number in numbers if number.isdecimal()]
