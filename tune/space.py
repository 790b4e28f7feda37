"""The search space: domains of HParams, conditions among them, and how a point is drawn. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cifar.config import Section
from cifar.hparams import HParams, only_with
from tune.problems import Path, Problem, from_pydantic, nearest

Scalar = bool | int | float | str


class FloatDomain(Section):
    """Numbers between two bounds, both included."""

    type: Literal["float"]
    lower: Annotated[float, Field(allow_inf_nan=False)]
    upper: Annotated[float, Field(allow_inf_nan=False)]
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
class Numeric:
    """An interval of one HParam. `key` is its name in the study."""

    name: str
    key: str
    lower: float
    upper: float
    log: bool
    step: int | None  # None for real numbers


@dataclass(frozen=True)
class Choice:
    """A categorical HParam; each of its options has a space of its own, empty for most."""

    name: str
    key: str
    options: tuple[Scalar, ...]
    parameters: tuple["Space", ...]


@dataclass(frozen=True)
class Constant:
    """An HParam that is not searched."""

    name: str
    value: Scalar


Domain = Numeric | Choice | Constant


class Drawer(Protocol):
    """What draws from a space: an Optuna trial, or anything with its three methods."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Space:
    """Domains by the order of the file; a parameter of an option is drawn only when the option is."""

    domains: tuple[Domain, ...] = ()

    def draw(self, drawer: Drawer) -> dict[str, Any]:
        """The values of one point, by HParam name. Names not in the space keep HParams' defaults."""
        values: dict[str, Any] = {}
        for domain in self.domains:
            match domain:
                case Constant():
                    values[domain.name] = domain.value
                case Numeric(step=None):
                    values[domain.name] = drawer.suggest_float(domain.key, domain.lower, domain.upper, log=domain.log)
                case Numeric():
                    values[domain.name] = drawer.suggest_int(
                        domain.key,
                        int(domain.lower),
                        int(domain.upper),
                        step=domain.step or 1,
                        log=domain.log,
                    )
                case Choice():
                    value = drawer.suggest_categorical(domain.key, list(domain.options))
                    values[domain.name] = value
                    values |= domain.parameters[domain.options.index(value)].draw(drawer)
        return values

    def searched(self) -> Iterator[Numeric | Choice]:
        """Every domain with more than one value, those of options included."""
        for domain in self.domains:
            if isinstance(domain, Choice):
                for parameters in domain.parameters:
                    yield from parameters.searched()
            if not isinstance(domain, Constant):
                yield domain


@dataclass(frozen=True)
class _Scope:
    """Where in the file the parser stands, and what is known there."""

    path: Path
    chosen: Mapping[Path, Scalar] = field(default_factory=dict)  # the options taken on the way here
    possible: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)  # values other HParams can have here


def parse(raw: Any) -> tuple[Space, list[Problem]]:
    """The space a YAML section describes, with every problem found in it; paths start with `space`."""
    problems: list[Problem] = []
    space = _parse_space(raw, _Scope(("space",)), problems)
    if not problems:
        problems += _clashes(raw)
    return _with_keys(space) if not problems else space, problems


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
        problems += _misfits(name, raw, scope.path)
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
        problems += from_pydantic(error, scope.path, list(models[kind].model_fields))
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
        rule = (
            f"{name} takes whole numbers: use type: int"
            if wanted
            else f"{name} takes no numbers: use type: categorical"
        )
        return [Problem((*path, "type"), rule, domain.type)]
    problems = [
        *_misfits(name, domain.lower, (*path, "lower")),
        *_misfits(name, domain.upper, (*path, "upper")),
    ]
    if domain.lower >= domain.upper:
        problems.append(Problem((*path, "lower"), f"must be below upper, {domain.upper!r}", domain.lower))
    if domain.log and domain.lower <= 0:
        problems.append(Problem((*path, "lower"), "must be above 0 when log is true", domain.lower))
    if domain.log and isinstance(domain, IntDomain) and domain.step != 1:
        problems.append(Problem((*path, "step"), "must be 1 when log is true", domain.step))
    return problems


def _parse_choice(name: str, domain: CategoricalDomain, scope: _Scope, problems: list[Problem]) -> Domain | None:
    path = (*scope.path, "options")
    if not domain.options:
        problems.append(Problem(path, "must hold at least one option", domain.options))
        return None
    options, spaces = [], []
    for position, option in enumerate(domain.options):
        at = (*path, option if isinstance(domain.options, dict) else position)
        problems += _misfits(name, option, at)
        if option in options:
            problems.append(Problem(at, "is given twice", option))
        options.append(option)
        parameters = domain.options[option] if isinstance(domain.options, dict) else None
        inside = _Scope(at, {**scope.chosen, scope.path: option}, {**scope.possible, name: (option,)})
        spaces.append(_parse_space(parameters, inside, problems))
    return Choice(name, name, tuple(options), tuple(spaces))


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = HParams.model_fields[name]
    annotated: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotated, config=ConfigDict(strict=True))


def _misfits(name: str, value: Any, path: Path) -> list[Problem]:
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
        if idle := [str(value) for value in possible if value not in allowed]:
            rule = f"has no effect with {other} {', '.join(idle)}; search it under the option {' or '.join(allowed)}"
            return [Problem(scope.path, rule, about_key=True)]
    return []


def _occurrences(
    raw: Any, path: Path, chosen: Mapping[Path, Scalar]
) -> Iterator[tuple[str, Path, Mapping[Path, Scalar]]]:
    for name, value in (raw or {}).items():
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


def _with_keys(space: Space) -> Space:
    """Names each domain for the study: by its HParam, with its condition where two options search the same one."""
    names = [domain.name for domain in space.searched()]
    return _rename(space, {name for name in names if names.count(name) > 1}, "")


def _rename(space: Space, shared: set[str], condition: str) -> Space:
    domains: list[Domain] = []
    for domain in space.domains:
        if isinstance(domain, Constant):
            domains.append(domain)
            continue
        key = f"{domain.name}[{condition}]" if domain.name in shared and condition else domain.name
        if isinstance(domain, Choice):
            conditions = [f"{condition},{domain.name}={option}".lstrip(",") for option in domain.options]
            parameters = tuple(
                _rename(inner, shared, where) for inner, where in zip(domain.parameters, conditions, strict=True)
            )
            domain = replace(domain, parameters=parameters)
        domains.append(replace(domain, key=key))
    return Space(tuple(domains))
