"""A search space as a cube of sides 1, for samplers that reckon with distances."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune.space import Choice, Constant, Numeric, Scalar, Space


@dataclass(frozen=True)
class _Side:
    """A searched domain, and where it is in effect: at which option of which other side."""

    domain: Numeric | Choice
    parent: int | None = None
    option: int = 0


class UnitCube:
    """Each searched domain is a side, whose position in [0, 1) gives its value; those of options not chosen too.

    Whole numbers and options have a cell each, and cells are of one size (for whole numbers searched by their
    logarithms, cells reach half a step to either side). Arrays of points are float64 of shape (points, sides).
    """

    def __init__(self, space: Space) -> None:
        self._sides = list(_sides(space))

    def __len__(self) -> int:
        return len(self._sides)

    def positions(self, params: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Points by the study's parameters, in the middles of their cells; what a point lacks is 0.5."""
        found = np.full((len(params), len(self)), 0.5)
        for column, side in enumerate(self._sides):
            key = side.domain.key
            rows = [row for row, point in enumerate(params) if key in point]
            found[rows, column] = _positions(side.domain, [params[row][key] for row in rows])
        return found

    def sides(self, params: Mapping[str, Any]) -> np.ndarray:
        """Which sides the study's parameters name, (sides,) of bool."""
        return np.array([side.domain.key in params for side in self._sides], bool)

    def params(self, points: np.ndarray) -> list[dict[str, Scalar]]:
        """The study's parameters at points (points, sides): those that are in effect."""
        chosen = self._chosen(points)
        columns = [_values(side.domain, points[:, column]) for column, side in enumerate(self._sides)]
        keys = [side.domain.key for side in self._sides]
        return [
            {key: values[row] for key, values, there in zip(keys, columns, chosen[row], strict=True) if there}
            for row in range(len(points))
        ]

    def features(self, points: np.ndarray) -> np.ndarray:
        """Points as a model sees them, of shape (points, features).

        A number is one feature, an option too, 1 where it is chosen. What is not in effect is 0.5 or 0.
        """
        chosen = self._chosen(points)
        columns = []
        for column, side in enumerate(self._sides):
            position, there = points[:, column], chosen[:, column]
            if isinstance(side.domain, Choice):
                options = _cells(position, len(side.domain.options))
                columns += [there & (options == option) for option in range(len(side.domain.options))]
            else:
                columns.append(np.where(there, _middle(side.domain, position), 0.5))
        return np.array(columns, np.float64).T

    def near(self, points: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Each point with about half of its sides moved, numbers by steps of a size drawn for the point.

        Steps end at the bounds, where an optimum often is.
        """
        size = 0.1 * np.exp(chance.normal(size=(len(points), 1)))
        moved = np.clip(points + size * chance.normal(size=points.shape), 0.0, np.nextafter(1.0, 0.0))
        choices = [isinstance(side.domain, Choice) for side in self._sides]
        moved[:, choices] = chance.random((len(points), sum(choices)))
        return np.where(chance.random(points.shape) < 0.5, moved, points)

    def _chosen(self, points: np.ndarray) -> np.ndarray:
        """Which sides are in effect, (points, sides) of bool. A parent stands before its sides."""
        chosen = np.ones(points.shape, bool)
        for column, side in enumerate(self._sides):
            if side.parent is not None:
                parent = self._sides[side.parent].domain
                assert isinstance(parent, Choice)
                option = _cells(points[:, side.parent], len(parent.options))
                chosen[:, column] = chosen[:, side.parent] & (option == side.option)
        return chosen


def _sides(space: Space, parent: int | None = None, option: int = 0, before: int = 0) -> Iterator[_Side]:
    for domain in space.domains:
        if isinstance(domain, Constant):
            continue
        yield _Side(domain, parent, option)
        here, before = before, before + 1
        if isinstance(domain, Choice):
            for index, inner in enumerate(domain.parameters):
                sides = list(_sides(inner, here, index, before))
                yield from sides
                before += len(sides)


def _cells(position: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(np.minimum((position * count).astype(int), count - 1))


def _range(domain: Numeric) -> tuple[float, float]:
    """The values at positions 0 and 1; logarithms where these are searched evenly."""
    half = 0.0 if domain.step is None else domain.step / 2
    lower, upper = domain.lower - half, domain.upper + half
    return (math.log(lower), math.log(upper)) if domain.log else (lower, upper)


def _positions(domain: Numeric | Choice, values: Sequence[Any]) -> np.ndarray:
    if isinstance(domain, Choice):
        places = [domain.options.index(value) for value in values]
        return (np.array(places, float) + 0.5) / len(domain.options)
    return _places(domain, np.array(values, float))


def _values(domain: Numeric | Choice, positions: np.ndarray) -> list[Scalar]:
    if isinstance(domain, Choice):
        return [domain.options[cell] for cell in _cells(positions, len(domain.options)).tolist()]
    values: list[float] = _numbers(domain, positions).tolist()
    return [*values] if domain.step is None else [round(value) for value in values]


def _numbers(domain: Numeric, position: np.ndarray) -> np.ndarray:
    lower, upper = _range(domain)
    at = lower + position * (upper - lower)
    values = np.exp(at) if domain.log else at
    if domain.step is not None:
        values = domain.lower + domain.step * np.round((values - domain.lower) / domain.step)
    return np.clip(values, domain.lower, domain.upper)


def _middle(domain: Numeric, position: np.ndarray) -> np.ndarray:
    """The position of the value that `position` gives."""
    return _places(domain, _numbers(domain, position))


def _places(domain: Numeric, values: np.ndarray) -> np.ndarray:
    lower, upper = _range(domain)
    at = np.log(values) if domain.log else values
    return (at - lower) / (upper - lower) if upper > lower else np.full_like(values, 0.5)
