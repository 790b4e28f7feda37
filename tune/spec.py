"""The experiment file: YAML in, one validated Experiment out, or every problem at once. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from cifar.config import METRICS, DataConfig, Metric, Section, TrainerConfig
from tune import yaml_file
from tune.errors import SpecError
from tune.points import MUTABLE, grid_size, start_problems
from tune.problems import Path, Problem, from_pydantic, nearest
from tune.space import Choice, Numeric, Scalar, Space
from tune.space_parser import parse

Auto = Literal["auto"]
Sampler = Literal["tpe", "plain_tpe", "gp", "cmaes", "qmc", "random", "grid"]
Point = dict[Annotated[str, BeforeValidator(str)], Scalar]  # a name that is no text is unknown, as another would be
MOST_TRIALS = 1_000_000


class SearchConfig(Section):
    """What is optimised, and how long for."""

    metric: Annotated[Metric, Field(description="The number that ranks trials")] = "val_accuracy"
    mode: Annotated[Literal["min", "max"] | None, Field(description="Default: the metric's better direction")] = None
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS, description="How many trials to start")] = 16
    time_budget_s: Annotated[
        float | None,
        Field(gt=0, description="Seconds after which the search ends; trials then running are stopped"),
    ] = None
    epoch_budget: Annotated[
        int | None, Field(ge=1, description="Epochs of all trials together after which no more is trained")
    ] = None
    target: Annotated[float | None, Field(description="The search ends when the metric reaches it")] = None
    patience: Annotated[
        int | None,
        Field(
            ge=1,
            description="The search ends when so many ended trials in a row improved by no more than min_improvement",
        ),
    ] = None
    min_improvement: Annotated[
        float, Field(ge=0, description="In the metric's unit; what patience takes for an improvement is more")
    ] = 0.0
    sampler: Annotated[
        Sampler,
        Field(
            description="Optuna's proposer of HParams. tpe learns at the highest rung that enough trials passed; "
            "plain_tpe is Optuna's own TPE; gp: Gaussian process; cmaes: numbers only, without early stopping; qmc: "
            "evenly spread; grid: every point of a space without float domains"
        ),
    ] = "tpe"
    start: list[Point] = Field(
        default_factory=list,
        description="Starting points, HParam: value; tried first, in order. What one leaves out is drawn",
    )
    warm_start: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Names or paths of earlier experiments whose trials the sampler learns from",
    )
    max_retries: Annotated[
        int, Field(ge=0, description="How often a trial is started again after its worker or node was lost")
    ] = 3
    trial_timeout: Annotated[
        float | None,
        Field(gt=0, description="Seconds without a report after which a trial is taken for hung, killed and retried"),
    ] = None
    keep_checkpoints: Annotated[
        int, Field(ge=1, description="How many ended trials, the best ones, keep their best checkpoint")
    ] = 10
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the sampler and of every training")] = 0

    @property
    def maximize(self) -> bool:
        """Whether a higher value of the metric is better."""
        return (self.mode or METRICS[self.metric]) == "max"


class SchedulerConfig(Section):
    """Which trials are stopped early."""

    type: Annotated[
        Literal["asha", "hyperband", "median", "pbt", "none"],
        Field(
            description="asha: rungs; hyperband: asha in brackets of different grace periods; median: stops below the "
            "median of the others; pbt: replaces the worst by changed copies of the best; none: trains all to the end"
        ),
    ] = "asha"
    mode: Annotated[
        Literal["stop", "promote"],
        Field(
            description="Of asha. stop ends a trial below its rung's cutoff; promote pauses every trial at its rung "
            "with a checkpoint, and the best go on when a slot is free"
        ),
    ] = "stop"
    max_epochs: Annotated[int, Field(ge=1, le=100_000, description="Length of a full training")] = 30
    grace_period: Annotated[
        int, Field(ge=1, description="Epochs before the first comparison; with pbt, between two")
    ] = 1
    min_peers: Annotated[
        int | None, Field(ge=1, description="Values at a rung before any trial is stopped; default: reduction_factor")
    ] = None
    reduction_factor: Annotated[
        int,
        Field(ge=2, le=1000, description="One in so many trials passes a rung; rungs lie this factor apart"),
    ] = 4
    quantile: Annotated[float, Field(gt=0, le=0.5, description="Of pbt: share of the population replaced")] = 0.25


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
    if "space" in raw and not found:
        problems += _of_points(sections["search"], sections["scheduler"], space)
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
    data, trainer, resources = sections["data"], sections["trainer"], sections["resources"]
    yield from _of_search(sections["search"])
    yield from _of_scheduler(sections["scheduler"], sections["search"])
    if data and data.source == "image_folder" and data.root is None:
        rule = "needs data.root, the folder that holds train/<class>/ and test/<class>/"
        yield Problem(("data", "source"), rule, data.source)
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


def _of_search(search: SearchConfig | None) -> Iterator[Problem]:
    if search is None:
        return
    if search.min_improvement and search.patience is None:
        rule = "has no effect without search.patience: give that too, or leave this out"
        yield Problem(("search", "min_improvement"), rule, search.min_improvement)
    if search.target is not None and search.metric.endswith("_accuracy") and not 0 <= search.target <= 1:
        rule = f"must be from 0 to 1: {search.metric} is a share, not a percentage"
        yield Problem(("search", "target"), rule, search.target)
    if search.sampler == "grid" and search.start:
        rule = (
            "must be left out with search.sampler grid, which has an order of its own: use another sampler, or no start"
        )
        yield Problem(("search", "start"), rule, search.start)


def _of_scheduler(scheduler: SchedulerConfig | None, search: SearchConfig | None) -> Iterator[Problem]:
    if scheduler is None:
        return
    kind, grace, longest = scheduler.type, scheduler.grace_period, scheduler.max_epochs
    if scheduler.mode == "promote" and kind != "asha":
        rule = f"is for scheduler.type asha only: {kind} pauses no trial at a rung; leave mode out, or use asha"
        yield Problem(("scheduler", "mode"), rule, scheduler.mode)
    if kind in ("asha", "hyperband", "median") and grace > longest:
        yield Problem(("scheduler", "grace_period"), f"must be at most max_epochs, {longest}", grace)
    if kind == "pbt" and grace >= longest:
        rule = f"must be below max_epochs, {longest}: pbt compares trials every grace_period epochs; make it smaller"
        yield Problem(("scheduler", "grace_period"), rule, grace)
    if search and search.sampler == "cmaes" and kind != "none":
        rule = f"compares values of one length only, which {kind} does not give: set scheduler.type none, or use tpe"
        yield Problem(("search", "sampler"), rule, search.sampler)
    if search and search.sampler in ("gp", "grid") and kind == "pbt":
        rule = "needs a value for each point, and pbt changes points in mid-training: use random, qmc or tpe"
        yield Problem(("search", "sampler"), rule, search.sampler)
    if search and kind == "pbt" and search.trials < 4:
        rule = "must be at least 4 with scheduler.type pbt, whose population the trials are: start more, or use asha"
        yield Problem(("search", "trials"), rule, search.trials)


def _of_points(search: SearchConfig | None, scheduler: SchedulerConfig | None, space: Space) -> Iterator[Problem]:
    """Rules that join a setting to the space; the space is right by itself."""
    varied = [domain for domain in space.searched() if isinstance(domain, Numeric) or len(domain.options) > 1]
    if scheduler and scheduler.type == "pbt" and not any(domain.name in MUTABLE for domain in varied):
        rule = (
            f"changes HParams in mid-training, and space searches none that can be: search one of {', '.join(MUTABLE)}"
        )
        yield Problem(("scheduler", "type"), f"{rule}; or use asha", scheduler.type)
    if search is None:
        return
    yield from start_problems(space, search.start)
    rules = {"cmaes": _of_cmaes, "grid": _of_grid}
    if search.sampler in rules:
        yield from (
            Problem(("search", "sampler"), rule, search.sampler) for rule in rules[search.sampler](space, varied)
        )


def _of_cmaes(space: Space, varied: Sequence[Numeric | Choice]) -> Iterator[str]:
    choices = [domain.name for domain in varied if isinstance(domain, Choice)]
    if choices:
        names = ", ".join(dict.fromkeys(choices))
        yield f"searches numbers only, and {names} in space chooses options: make it a constant, or use tpe"
    numbers = len(varied) - len(choices)
    if numbers < 2:
        yield f"needs at least two numbers to search, and space has {numbers}: add a float or int domain, or use tpe"


def _of_grid(space: Space, varied: Sequence[Numeric | Choice]) -> Iterator[str]:
    endless = [domain.name for domain in varied if isinstance(domain, Numeric) and domain.step is None]
    if endless:
        names = ", ".join(dict.fromkeys(endless))
        yield f"tries every point, and {names} in space takes any number: give it type int or categorical, or use tpe"
    elif not varied:
        yield "tries every point, and space searches nothing: give it an int or categorical domain, or use tpe"
    elif (size := grid_size(space) or 0) > MOST_TRIALS:
        yield f"tries every point, and space has {size:,}, more than {MOST_TRIALS:,}: search fewer values, or use tpe"


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
