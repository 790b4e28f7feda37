"""From the YAML of a search space to a Space, or to every problem in it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cifar.config import Section
from cifar.hparams import HParams, only_with
from tune.problems import Path, Problem, from_pydantic, nearest
from tune.space import Choice, Constant, Domain, Numeric, Scalar, Space, with_keys

Chosen = Mapping[Path, Scalar]  # the option taken at each choice


class FloatDomain(Section):
    """Numbers between two bounds, both included."""

    type: Literal["float"]
    lower: float
    upper: float
    log: Annotated[bool, Field(description="Draw the logarithm uniformly")] = False


class IntDomain(Section):
    """Whole numbers between two bounds, both included."""

    type: Literal["int"]
    lower: int
    upper: int
    log: Annotated[bool, Field(description="Draw the logarithm uniformly")] = False
    step: Annotated[int, Field(ge=1, description="Distance of two neighbours, from lower up")] = 1


class CategoricalDomain(Section):
    """One of several values; as a mapping, each value brings parameters of its own."""

    type: Literal["categorical"]
    options: list[Any] | dict[Any, Any]


@dataclass(frozen=True)
class _Scope:
    """Where in the file the parser stands, and what is known there."""

    path: Path
    possible: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)  # values other HParams can have here


def parse(raw: Any) -> tuple[Space, list[Problem]]:
    """The space a YAML section describes, with every problem found in it; paths start with `space`."""
    problems: list[Problem] = []
    space = _parse_space(raw, _Scope(("space",)), problems)
    problems += _clashes(raw)
    return with_keys(space), problems


def _parse_space(raw: Any, scope: _Scope, problems: list[Problem]) -> Space:
    if raw is None and len(scope.path) > 1:
        return Space()
    if not isinstance(raw, dict):
        problems.append(Problem(scope.path, "must be a section: lines of name: domain", raw))
        return Space()
    names = list(HParams.model_fields)
    scope = replace(scope, possible={**scope.possible, **{str(name): _values(raw[name]) for name in raw}})
    domains = []
    for name, value in raw.items():
        path = (*scope.path, name)
        if name not in names:
            rule = "unknown parameter" + (nearest(name, names) or f"; HParams has {', '.join(names)}")
            problems.append(Problem(path, rule, about_key=True))
            continue
        domain = _parse_domain(name, value, replace(scope, path=path), problems)
        if domain is not None:
            problems += _without_effect(domain, replace(scope, path=path))
            domains.append(domain)
    return Space(tuple(domains))


def _parse_domain(name: str, raw: Any, scope: _Scope, problems: list[Problem]) -> Domain | None:
    if not isinstance(raw, dict):
        problems += misfits(name, raw, scope.path)
        return Constant(name, raw)
    models: dict[str, type[Section]] = {"float": FloatDomain, "int": IntDomain, "categorical": CategoricalDomain}
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in models:
        rule = f"must be one of {', '.join(models)}{nearest(kind, models)}"
        missing = Problem(scope.path, "type is missing: float, int or categorical", about_key=True)
        problems.append(Problem((*scope.path, "type"), rule, kind) if "type" in raw else missing)
        return None
    try:
        domain = models[kind].model_validate(raw)
    except ValidationError as error:
        problems += from_pydantic(error, scope.path, models[kind])
        return None
    if isinstance(domain, CategoricalDomain):
        return _parse_choice(name, domain, scope, problems)
    assert isinstance(domain, FloatDomain | IntDomain)
    found = _numeric_problems(name, domain, scope.path)
    problems += found
    step = domain.step if isinstance(domain, IntDomain) else None
    return None if found else Numeric(name, name, domain.lower, domain.upper, domain.log, step)


def _numeric_problems(name: str, domain: FloatDomain | IntDomain, path: Path) -> list[Problem]:
    annotation = HParams.model_fields[name].annotation
    wanted = {float: ("float", "int"), int: ("int",)}.get(annotation, ()) if isinstance(annotation, type) else ()
    if domain.type not in wanted:
        takes, use = ("whole numbers", "int") if wanted else ("no numbers", "categorical")
        return [Problem((*path, "type"), f"{name} takes {takes}: use type: {use}", domain.type)]
    problems = [*misfits(name, domain.lower, (*path, "lower")), *misfits(name, domain.upper, (*path, "upper"))]
    if domain.lower >= domain.upper:
        problems.append(Problem((*path, "lower"), f"must be below upper, {domain.upper!r}", domain.lower))
    if domain.log and domain.lower <= 0:
        problems.append(Problem((*path, "lower"), "must be above 0 when log is true", domain.lower))
    if domain.log and isinstance(domain, IntDomain) and domain.step != 1:
        problems.append(Problem((*path, "step"), "must be 1 when log is true", domain.step))
    elif isinstance(domain, IntDomain) and domain.lower < domain.upper and (domain.upper - domain.lower) % domain.step:
        rule = f"must divide upper - lower, {domain.upper - domain.lower}"
        problems.append(Problem((*path, "step"), rule, domain.step))
    return problems


def _parse_choice(name: str, domain: CategoricalDomain, scope: _Scope, problems: list[Problem]) -> Domain | None:
    path = (*scope.path, "options")
    if not domain.options:
        problems.append(Problem(path, "must hold at least one option", domain.options))
        return None
    options, spaces = [], []
    for position, option in enumerate(domain.options):
        at = (*path, option if isinstance(domain.options, dict) else position)
        problems += misfits(name, option, at)
        if option in options:
            problems.append(Problem(at, "is given twice", option))
        options.append(option)
        parameters = domain.options[option] if isinstance(domain.options, dict) else None
        inside = _Scope(at, {**scope.possible, name: (option,)})
        spaces.append(_parse_space(parameters, inside, problems))
    return Choice(name, name, tuple(options), tuple(spaces))


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = HParams.model_fields[name]
    annotated: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotated, config=ConfigDict(strict=True))


def misfits(name: str, value: Any, path: Path) -> list[Problem]:
    """The problems of giving `value` to the HParam `name`."""
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        return [replace(problem, path=path, value=value) for problem in from_pydantic(error, path)]
    return []


def _values(raw: Any) -> tuple[Scalar, ...]:
    """The values an entry of the file can take, as far as conditions go: options, or the one constant."""
    if isinstance(raw, dict):
        options = raw.get("options", ())
        return tuple(options) if isinstance(options, list | dict) else ()
    return (raw,)


def _without_effect(domain: Domain, scope: _Scope) -> list[Problem]:
    """A searched parameter that some option beside it makes meaningless would only mislead the sampler."""
    if isinstance(domain, Constant):
        return []
    for other, allowed in only_with(domain.name).items():
        possible = scope.possible.get(other, (HParams.model_fields[other].default,))
        if idle := [str(value) for value in possible if value not in allowed and not misfits(other, value, ())]:
            rule = f"has no effect with {other} {', '.join(idle)}; search it under the option {' or '.join(allowed)}"
            return [Problem(scope.path, rule, about_key=True)]
    return []


def _occurrences(raw: Any, path: Path, chosen: Chosen) -> Iterator[tuple[str, Path, Chosen]]:
    for name, value in raw.items() if isinstance(raw, dict) else ():
        yield name, (*path, name), chosen
        options = value.get("options") if isinstance(value, dict) else None
        for option, inner in options.items() if isinstance(options, dict) else ():
            inside = {**chosen, (*path, name): option}
            yield from _occurrences(inner, (*path, name, "options", option), inside)


def _clashes(raw: Any) -> list[Problem]:
    """A parameter given in two places that can be drawn together has no one value."""
    problems, seen = [], list(_occurrences(raw, ("space",), {}))
    for index, (name, path, chosen) in enumerate(seen):
        for earlier, other_path, other_chosen in seen[:index]:
            exclusive = any(chosen.get(choice, option) != option for choice, option in other_chosen.items())
            if name == earlier and not exclusive:
                where = ".".join(str(part) for part in other_path)
                problems.append(Problem(path, f"is given already by {where}", about_key=True))
                break
    return problems
