"""The search space: domains of HParams, conditions among them, and how a point is drawn. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

Scalar = bool | int | float | str


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


def with_keys(space: Space) -> Space:
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
