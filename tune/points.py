"""Points of a search space that no sampler drew: starting points, trials of earlier experiments, a grid. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from cifar.hparams import MUTABLE as MUTABLE  # what pbt may change
from cifar.hparams import HParams, only_with
from tune.problems import Path, Problem, nearest
from tune.space import Choice, Constant, Domain, Numeric, Scalar, Space
from tune.space_parser import misfits


def in_effect(space: Space, values: Mapping[str, Any]) -> Iterator[Domain]:
    """The domains that hold for `values`: all but the parameters of options that they do not choose."""
    for domain in space.domains:
        yield domain
        if isinstance(domain, Choice):
            index = _index(domain, values.get(domain.name))
            if index is not None:
                yield from in_effect(domain.parameters[index], values)


def of_use(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """A training's HParams without those that its optimizer or lr_schedule does not have."""
    return {
        name: value
        for name, value in hparams.items()
        if all(hparams.get(other) in way for other, way in only_with(name).items())
    }


def searched(space: Space, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that were searched."""
    names = {domain.name for domain in in_effect(space, hparams) if not isinstance(domain, Constant)}
    return {name: value for name, value in of_use(hparams).items() if name in names}


def in_words(space: Space, hparams: Mapping[str, Any]) -> str:
    """The same in a line: 'learning_rate 0.01465, optimizer sgd'."""
    return ", ".join(f"{name} {shown(value)}" for name, value in searched(space, hparams).items()) or "fixed"


def shown(value: object) -> str:
    """A value of an HParam for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def to_params(space: Space, values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Values by HParam name as the study names them. `values` lies in the space, and may leave names out."""
    params: dict[str, Scalar] = {}
    for domain in in_effect(space, values):
        if domain.name not in values:
            continue
        value = values[domain.name]
        match domain:
            case Numeric():
                params[domain.key] = float(value) if domain.step is None else int(value)
            case Choice():
                params[domain.key] = domain.options[_index(domain, value) or 0]
    return params


def fit(space: Space, hparams: Mapping[str, Any]) -> dict[str, Scalar] | str:
    """The study's parameters of a training of `hparams` (the fields of an HParams), or why it is no point of `space`.

    A point's HParams that are not of the space must have their defaults. What has no effect with the point's optimizer
    or learning-rate schedule may differ.
    """
    for name in hparams:
        if name not in HParams.model_fields:
            return f"{name} is no HParam here"
    defaults = {name: field.default for name, field in HParams.model_fields.items()}
    values = {**defaults, **hparams}
    named = list(in_effect(space, values))
    names = {domain.name for domain in named}
    for domain in (*named, *(Constant(name, value) for name, value in defaults.items() if name not in names)):
        idle = any(values[other] not in allowed for other, allowed in only_with(domain.name).items())
        if not contains(domain, values[domain.name]) and not (idle and isinstance(domain, Constant)):
            return _misfit(domain, values[domain.name])
    return to_params(space, values)


def grid_size(space: Space) -> int | None:
    """How many points the space has; None if real numbers are searched."""
    sizes = [_size(domain) for domain in space.domains]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def _size(domain: Domain) -> int | None:
    match domain:
        case Constant():
            return 1
        case Numeric(step=None):
            return None
        case Numeric():
            return len(_whole_numbers(domain))
        case Choice():
            sizes = [grid_size(parameters) for parameters in domain.parameters]
            return None if None in sizes else sum(size for size in sizes if size is not None)


def grid(space: Space) -> list[dict[str, Scalar]]:
    """Every point of a space without real numbers, as the study names it; the last domain changes fastest."""
    points: list[dict[str, Scalar]] = [{}]
    for domain in space.domains:
        points = [point | more for point in points for more in _column(domain)]
    return points


def _column(domain: Domain) -> list[dict[str, Scalar]]:
    match domain:
        case Constant():
            return [{}]
        case Numeric():
            return [{domain.key: value} for value in _whole_numbers(domain)]
        case Choice():
            pairs = zip(domain.options, domain.parameters, strict=True)
            return [{domain.key: option} | inner for option, parameters in pairs for inner in grid(parameters)]


def _whole_numbers(domain: Numeric) -> range:
    if domain.step is None:
        raise ValueError(f"{domain.name} is searched over real numbers, a grid takes whole ones and options")
    return range(int(domain.lower), int(domain.upper) + 1, domain.step)


def contains(domain: Domain, value: Any) -> bool:
    """Whether `value` is one that the domain can give."""
    match domain:
        case Constant():
            return _same(domain.value, value)
        case Choice():
            return _index(domain, value) is not None
        case Numeric():
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            on_step = domain.step is None or (value - domain.lower) % domain.step == 0
            return on_step and domain.lower <= value <= domain.upper


def start_problems(space: Space, start: Sequence[Mapping[str, Scalar]]) -> Iterator[Problem]:
    """What keeps the entries of `search.start` from being points of the space."""
    right: list[tuple[int, dict[str, Scalar]]] = []
    for number, point in enumerate(start):
        path = ("search", "start", number)
        problems = list(_point_problems(space, point, path))
        yield from problems
        if not problems:
            params = to_params(space, point)
            if earlier := [str(other) for other, same in right if same == params]:
                yield Problem(path, f"is the same point as search.start.{earlier[0]}", about_key=True)
            right.append((number, params))


def _point_problems(space: Space, point: Mapping[str, Scalar], path: Path) -> Iterator[Problem]:
    if not point:
        yield Problem(path, "must name at least one HParam", dict(point))
    names = list(HParams.model_fields)
    domains = {domain.name: domain for domain in in_effect(space, point)}
    for name, value in point.items():
        at = (*path, name)
        if name not in names:
            rule = "unknown parameter" + (nearest(name, names) or f"; HParams has {', '.join(names)}")
            yield Problem(at, rule, about_key=True)
        elif found := misfits(name, value, at):
            yield from found
        elif name not in domains:
            yield from _out_of_effect(space, point, name, at)
        elif not contains(domains[name], value):
            yield Problem(at, _rule(domains[name], value), value)


def _rule(domain: Domain, value: Scalar) -> str:
    match domain:
        case Constant():
            return f"must be {_shown(domain.value)}: space.{domain.name} is a constant"
        case Choice():
            near = nearest(value, [option for option in domain.options if isinstance(option, str)])
            return f"must be {_shown_all(domain)}, as in space.{domain.name}{near}"
        case Numeric():
            return f"must be {_shown_all(domain)}, as in space.{domain.name}"


def _out_of_effect(space: Space, point: Mapping[str, Scalar], name: str, path: Path) -> Iterator[Problem]:
    """`name` is a parameter of options that the point does not choose, or not of the space at all."""
    ways = list(_ways(space, name))
    default = HParams.model_fields[name].default
    if not ways and not _same(default, point[name]):
        rule = f"must be {_shown(default)}, its default: it is not in the space; put it there, or leave it out here"
        yield Problem(path, rule, point[name])
    if not ways:
        return
    options = " or ".join(", ".join(f"{other} {_shown(option)}" for other, option in way) for way in ways)
    possible = [way for way in ways if all(_same(point.get(other, option), option) for other, option in way)]
    missing = [other for way in possible for other, _ in way if other not in point]
    what = f"give {missing[0]} too" if missing else "leave it out, or choose that"
    yield Problem(path, f"is in the space with {options} only; {what}", about_key=True)


def _ways(
    space: Space, name: str, way: tuple[tuple[str, Scalar], ...] = ()
) -> Iterator[tuple[tuple[str, Scalar], ...]]:
    """The options that must be chosen for `name` to be in effect, for each place that it has in the space."""
    for domain in space.domains:
        if domain.name == name:
            yield way
        if isinstance(domain, Choice):
            for option, parameters in zip(domain.options, domain.parameters, strict=True):
                yield from _ways(parameters, name, (*way, (domain.name, option)))


def _misfit(domain: Domain, value: Any) -> str:
    if isinstance(domain, Numeric) and isinstance(value, int | float) and not isinstance(value, bool):
        if value > domain.upper:
            return f"{domain.name} {value} is above {domain.upper}"
        if value < domain.lower:
            return f"{domain.name} {value} is below {domain.lower}"
    return f"{domain.name} is {_shown(value)}, here {_shown_all(domain)}"


def _shown_all(domain: Domain) -> str:
    match domain:
        case Constant():
            return _shown(domain.value)
        case Choice():
            return " or ".join(_shown(option) for option in domain.options)
        case Numeric():
            steps = f" in steps of {domain.step}" if domain.step and domain.step > 1 else ""
            kind = "" if domain.step is None else "a whole number "
            return f"{kind}from {domain.lower} to {domain.upper}{steps}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _index(choice: Choice, value: Any) -> int | None:
    return next((index for index, option in enumerate(choice.options) if _same(option, value)), None)


def _same(one: Any, other: Any) -> bool:
    """Equality to which true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
