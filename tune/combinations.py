"""Rules of the experiment file that join two settings, or a setting and the space. Pure."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_args

from cifar.config import METRICS
from tune.points import MUTABLE, grid_size, start_problems
from tune.problems import Problem, nearest
from tune.sections import (
    LEAST_OBJECTIVES,
    MOST_OBJECTIVES,
    MOST_TRIALS,
    Objective,
    RetrainConfig,
    Sampler,
    SchedulerConfig,
    SearchConfig,
    WinnerRule,
)
from tune.space import Choice, Numeric, Space

_FOR_ONE_METRIC = ("gp", "plain_gp", "plain_tpe", "cmaes")  # samplers
_FOR_SEVERAL = [name for name in get_args(Sampler) if name not in _FOR_ONE_METRIC]


def fill_in(raw: dict[str, Any]) -> None:
    """Gives the file's sections the defaults that follow from another one: with objectives nothing stops early."""
    search, scheduler = raw.get("search"), raw.get("scheduler") or {}
    if isinstance(search, dict) and search.get("objectives") is not None and isinstance(scheduler, dict):
        raw["scheduler"] = {"type": "none", **scheduler}


def across(sections: dict[str, Any]) -> Iterator[Problem]:
    """Rules that join two settings; each is left out while one of the two is wrong by itself."""
    data, trainer, resources = sections["data"], sections["trainer"], sections["resources"]
    yield from _of_search(sections["search"])
    yield from _of_objectives(sections["search"], sections["scheduler"])
    yield from _of_scheduler(sections["scheduler"], sections["search"])
    yield from _of_retrain(sections["retrain"], sections["scheduler"])
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
    is_share = search.metric.endswith("_accuracy") and not search.objectives
    if search.target is not None and is_share and not 0 <= search.target <= 1:
        rule = f"must be from 0 to 1: {search.metric} is a share, not a percentage"
        yield Problem(("search", "target"), rule, search.target)
    if search.sampler == "grid" and search.start:
        rule = (
            "must be left out with search.sampler grid, which has an order of its own: use another sampler, or no start"
        )
        yield Problem(("search", "start"), rule, search.start)
    if len(search.start) > search.trials:
        rule = f"has {len(search.start)} points, more than search.trials, {search.trials}: start more trials"
        yield Problem(("search", "start"), rule, about_key=True)


def _of_objectives(search: SearchConfig | None, scheduler: SchedulerConfig | None) -> Iterator[Problem]:
    if search is None:
        return
    if search.objectives is None:
        if search.choose is not None:
            rule = "is for several search.objectives: give those too, or leave this out"
            yield Problem(("search", "choose"), rule, about_key=True)
        if search.sampler == "nsga2":
            yield Problem(("search", "sampler"), "is for several search.objectives: give those too, or use gp", "nsga2")
        return
    yield from _of_their_names(search.objectives)
    yield from _of_the_winner(search.choose, search.objectives)
    for field in ("metric", "mode", "target", "patience", "warm_start"):
        if field in search.model_fields_set and getattr(search, field) not in (None, []):
            rule = "is for one metric, not for several search.objectives: leave it out"
            yield Problem(("search", field), rule, getattr(search, field))
    if search.sampler in _FOR_ONE_METRIC:
        rule = f"learns from one metric, not from several search.objectives: use one of {', '.join(_FOR_SEVERAL)}"
        yield Problem(("search", "sampler"), rule, search.sampler)
    if scheduler and scheduler.type != "none":
        rule = "stops trials by one metric, not by several search.objectives: set scheduler.type none, or leave it out"
        yield Problem(("scheduler", "type"), rule, scheduler.type)


def _of_their_names(objectives: Sequence[Objective]) -> Iterator[Problem]:
    path, names = ("search", "objectives"), [each.metric for each in objectives]
    if not LEAST_OBJECTIVES <= len(names) <= MOST_OBJECTIVES:
        one = "; a single one is search.metric" if len(names) < LEAST_OBJECTIVES else "; leave some out"
        rule = f"must be {LEAST_OBJECTIVES} to {MOST_OBJECTIVES}, and there are {len(names)}{one}"
        yield Problem(path, rule, about_key=True)
    elif not METRICS.keys() & set(names):
        rule = f"must have one that a training logs: add one of {', '.join(METRICS)}"
        yield Problem(path, rule, about_key=True)
    for place, name in enumerate(names):
        if name in names[:place]:
            yield Problem((*path, place, "metric"), "is there already: leave it out here", name)


def _of_the_winner(choose: WinnerRule | None, objectives: Sequence[Objective]) -> Iterator[Problem]:
    path, modes = ("search", "choose"), {each.metric: each.mode for each in objectives}
    if choose is None:
        return
    if choose.max and choose.min:
        yield Problem((*path, "min"), "cannot stand beside max: leave one of them out", choose.min)
        return
    wins, name = ("max", choose.max) if choose.max else ("min", choose.min)
    if name and name not in modes:
        yield Problem((*path, wins), _must_be_one(name, modes), name)
    elif name and modes[name] != wins:
        mode = modes[name]
        yield Problem((*path, wins), f"is to be {mode}, as its objective says: write {mode}: {name}", name)
    for name, bounds in choose.subject_to.items():
        at = (*path, "subject_to", name)
        if name not in modes:
            yield Problem(at, _must_be_one(name, modes), about_key=True)
        if bounds.lower is None and bounds.upper is None:
            yield Problem(at, "must have a lower or an upper bound: give one, or leave it out", about_key=True)
        elif bounds.lower is not None and bounds.upper is not None and bounds.lower > bounds.upper:
            yield Problem((*at, "lower"), f"must be at most upper, {bounds.upper:g}", bounds.lower)


def _must_be_one(name: str, names: Collection[str]) -> str:
    return f"must be one of search.objectives, {', '.join(names)}{nearest(name, names)}"


def _of_scheduler(scheduler: SchedulerConfig | None, search: SearchConfig | None) -> Iterator[Problem]:
    if scheduler is None:
        return
    kind, grace, longest = scheduler.type, scheduler.grace_period, scheduler.max_epochs
    if scheduler.mode is not None and kind != "asha":
        rule = f"is for scheduler.type asha only: {kind} has one way alone; leave mode out, or use asha"
        yield Problem(("scheduler", "mode"), rule, scheduler.mode)
    if scheduler.audit and kind in ("pbt", "none"):
        why = "whose stopped trials go on as copies of others" if kind == "pbt" else "which stops nothing"
        rule = f"has no effect with scheduler.type {kind}, {why}: leave it out, or use asha"
        yield Problem(("scheduler", "audit"), rule, scheduler.audit)
    if kind in ("asha", "hyperband", "median") and grace > longest:
        yield Problem(("scheduler", "grace_period"), f"must be at most max_epochs, {longest}", grace)
    if kind == "pbt" and grace >= longest:
        rule = f"must be below max_epochs, {longest}: pbt compares trials every grace_period epochs; make it smaller"
        yield Problem(("scheduler", "grace_period"), rule, grace)
    if search and search.sampler == "cmaes" and kind != "none":
        rule = f"compares values of one length only, which {kind} does not give: set scheduler.type none, or use gp"
        yield Problem(("search", "sampler"), rule, search.sampler)
    if search and search.sampler == "grid" and kind == "pbt":
        rule = "needs a value for each point, and pbt changes points in mid-training: use random, qmc or gp"
        yield Problem(("search", "sampler"), rule, search.sampler)
    if search and kind == "pbt" and search.trials < 4:
        rule = "must be at least 4 with scheduler.type pbt, whose population the trials are: start more, or use asha"
        yield Problem(("search", "trials"), rule, search.trials)


def _of_retrain(retrain: RetrainConfig | None, scheduler: SchedulerConfig | None) -> Iterator[Problem]:
    if retrain is None:
        return
    if scheduler and scheduler.type == "pbt":
        if retrain.start == "scratch":
            rule = "cannot repeat what pbt does, which changes HParams in mid-training: use checkpoint"
            yield Problem(("retrain", "start"), rule, retrain.start)
        if retrain.seeds not in ("auto", 0):
            rule = "must be 0 with scheduler.type pbt, which changes HParams in mid-training: leave it out"
            yield Problem(("retrain", "seeds"), rule, retrain.seeds)
        if retrain.lr_schedule == "none":
            rule = "trains the HParams afresh alone, and pbt changes them in mid-training: use constant or cosine"
            yield Problem(("retrain", "lr_schedule"), rule, retrain.lr_schedule)
    if retrain.lr_schedule == "none":
        if retrain.average in ("swa", "ema"):
            rule = "has no epochs to average with retrain.lr_schedule none: use raw, or constant or cosine there"
            yield Problem(("retrain", "average"), rule, retrain.average)
        if retrain.start == "checkpoint":
            rule = "trains nothing with retrain.lr_schedule none: use scratch, or constant or cosine there"
            yield Problem(("retrain", "start"), rule, retrain.start)


def of_points(search: SearchConfig | None, scheduler: SchedulerConfig | None, space: Space) -> Iterator[Problem]:
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
        yield f"searches numbers only, and {names} in space chooses options: make it a constant, or use gp"
    numbers = len(varied) - len(choices)
    if numbers < 2:
        yield f"needs at least two numbers to search, and space has {numbers}: add a float or int domain, or use gp"


def _of_grid(space: Space, varied: Sequence[Numeric | Choice]) -> Iterator[str]:
    endless = [domain.name for domain in varied if isinstance(domain, Numeric) and domain.step is None]
    if endless:
        names = ", ".join(dict.fromkeys(endless))
        yield f"tries every point, and {names} in space takes any number: give it type int or categorical, or use gp"
    elif not varied:
        yield "tries every point, and space searches nothing: give it an int or categorical domain, or use gp"
    elif (size := grid_size(space) or 0) > MOST_TRIALS:
        yield f"tries every point, and space has {size:,}, more than {MOST_TRIALS:,}: search fewer values, or use gp"
