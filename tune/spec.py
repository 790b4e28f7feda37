"""The experiment file: YAML in, one validated Experiment out, or every problem at once. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cifar.config import METRICS, DataConfig, Metric, Section, TrainerConfig
from tune import yaml_file
from tune.errors import SpecError
from tune.problems import Path, Problem, from_pydantic, nearest
from tune.space import Space
from tune.space_parser import parse

Auto = Literal["auto"]


class SearchConfig(Section):
    """What is optimised, and how long for."""

    metric: Annotated[Metric, Field(description="The number that ranks trials")] = "val_accuracy"
    mode: Annotated[Literal["min", "max"] | None, Field(description="Default: the metric's better direction")] = None
    trials: Annotated[int, Field(ge=1, le=1_000_000, description="How many trials to start")] = 16
    time_budget_s: Annotated[
        float | None,
        Field(gt=0, description="Seconds after which the search ends; trials then running are stopped"),
    ] = None
    sampler: Annotated[Literal["tpe", "random", "qmc"], Field(description="Optuna's proposer of HParams")] = "tpe"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the sampler and of every training")] = 0

    @property
    def maximize(self) -> bool:
        """Whether a higher value of the metric is better."""
        return (self.mode or METRICS[self.metric]) == "max"


class SchedulerConfig(Section):
    """Which trials are stopped early."""

    type: Annotated[Literal["asha", "none"], Field(description="asha, or none to train all to the end")] = "asha"
    max_epochs: Annotated[int, Field(ge=1, le=100_000, description="Length of a full training")] = 30
    grace_period: Annotated[int, Field(ge=1, description="Epochs before the first comparison")] = 1
    min_peers: Annotated[
        int | None, Field(ge=1, description="Values at a rung before any trial is stopped; default: reduction_factor")
    ] = None
    reduction_factor: Annotated[
        int,
        Field(ge=2, le=1000, description="One in so many trials passes a rung; rungs lie this factor apart"),
    ] = 4


class ResourcesConfig(Section):
    """What each trial takes of the cluster."""

    cpus_per_trial: Annotated[
        Annotated[float, Field(gt=0)] | Auto,
        Field(description="CPU cores; auto: 1 without GPUs, else the cores each GPU's share has"),
    ] = "auto"
    gpus_per_trial: Annotated[
        Annotated[float, Field(ge=0)] | Auto,
        Field(description="GPUs, or a fraction of one; auto: 1 if the cluster has any, else 0"),
    ] = "auto"
    max_concurrent: Annotated[int | None, Field(ge=1, description="Trials at once at most; default: what fits")] = None


class RetrainConfig(Section):
    """How the winner becomes the model: trained on with averaged weights (Izmailov et al., UAI 2018)."""

    start: Annotated[
        Literal["checkpoint", "scratch"],
        Field(description="From the winner's best checkpoint, or its HParams afresh at full length first"),
    ] = "checkpoint"
    on: Annotated[Literal["train+validation", "train"], Field(description="The images trained on")] = "train+validation"
    epochs: Annotated[int, Field(ge=1, le=100_000, description="Epochs whose weights are averaged")] = 20
    learning_rate: Annotated[
        Annotated[float, Field(gt=0, le=100)] | Auto,
        Field(description="Constant, while averaging; auto: a tenth of the winner's"),
    ] = "auto"


class TrackingConfig(Section):
    """Where curves go besides TensorBoard files, which are always written."""

    wandb: Annotated[Literal["off", "online", "offline"] | None, Field(description="Default: WANDB_MODE, or off")] = (
        None
    )
    project: Annotated[str, Field(min_length=1, max_length=128, description="W&B project")] = "cifar-tune"


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
    "trainer": TrainerConfig,
    "retrain": RetrainConfig,
    "tracking": TrackingConfig,
}
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
    problems += _across(sections)
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


def _across(sections: dict[str, Any]) -> Iterator[Problem]:
    """Rules that join two settings; each is left out while one of the two is wrong by itself."""
    data, scheduler = sections["data"], sections["scheduler"]
    trainer, resources = sections["trainer"], sections["resources"]
    if data and data.source == "image_folder" and data.root is None:
        rule = "needs data.root, the folder that holds train/<class>/ and test/<class>/"
        yield Problem(("data", "source"), rule, data.source)
    if scheduler and scheduler.type == "asha" and scheduler.grace_period > scheduler.max_epochs:
        rule = f"must be at most max_epochs, {scheduler.max_epochs}"
        yield Problem(("scheduler", "grace_period"), rule, scheduler.grace_period)
    if trainer and trainer.devices != 1:
        rule = "must be 1: a trial trains on one device, and several trials share the cluster"
        yield Problem(("trainer", "devices"), rule, trainer.devices)
    if resources and resources.gpus_per_trial != "auto":
        gpus = resources.gpus_per_trial
        if gpus > 1:
            rule = "must be at most 1: a trial trains on one device"
            yield Problem(("resources", "gpus_per_trial"), rule, gpus)
        if gpus > 0 and trainer and trainer.accelerator == "cpu":
            rule = "must be 0 with trainer.accelerator cpu"
            yield Problem(("resources", "gpus_per_trial"), rule, gpus)


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
