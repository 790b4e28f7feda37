"""How the winner becomes the model: how it starts, how its weights are averaged, and what is best by evidence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, sqrt
from statistics import mean
from typing import Any, Literal

from cifar.config import Average
from tune.finalists import mean_interval
from tune.sections import AVERAGES, RetrainConfig

Start = Literal["scratch", "checkpoint"]
Schedule = Literal["none", "constant", "cosine"]


@dataclass(frozen=True)
class Way:
    """One way to the model.

    start: the HParams afresh at full length, or the best trial's checkpoint. lr_schedule: of the epochs that follow, or
    none. average: of the weights in those.
    """

    start: Start
    lr_schedule: Schedule
    average: Average

    def __str__(self) -> str:
        begun = "trained afresh" if self.start == "scratch" else "from the checkpoint"
        weights = {"raw": "its last weights", "swa": "SWA", "ema": "EMA"}[self.average]
        return begun if self.lr_schedule == "none" else f"{begun}, {self.lr_schedule} tail, {weights}"

    def resolved(self, plan: RetrainConfig) -> dict[str, Any]:
        """What the model depends on: this way, and of the plan what it uses."""
        used: dict[str, Any] = {"on": plan.on}
        if self.lr_schedule != "none":
            used |= {"epochs": plan.epochs, "learning_rate": plan.learning_rate}
        return {**asdict(self), **used}


PLAIN = Way("scratch", "none", "raw")  # a training as the trials were, without more
UNCOMPARED = Way("checkpoint", "constant", "swa")  # where nothing says which is better


def ways(plan: RetrainConfig) -> list[Way]:
    """Those that the plan leaves open, the simplest first. A checkpoint as it is has seen no validation image."""
    tailed = [
        Way(start, tail, average)
        for start in ("scratch", "checkpoint")
        for tail in ("constant", "cosine")
        for average in AVERAGES
    ]
    asked = {"start": plan.start, "lr_schedule": plan.lr_schedule, "average": plan.average}
    return [
        way for way in (PLAIN, *tailed) if all(value in ("auto", getattr(way, name)) for name, value in asked.items())
    ]


def uncompared(plan: RetrainConfig) -> Way:
    """The way where the plan, or a search that cannot be repeated, leaves nothing to compare by."""
    expected = asdict(UNCOMPARED)
    return max(ways(plan), key=lambda way: sum(expected[name] == value for name, value in asdict(way).items()))


@dataclass(frozen=True)
class Evidence:
    """What a way gave on the validation images: the metric, and its loss, of each seed's training; NaN if diverged.

    open: whether it could be chosen. against_raw: by how much the metric is above that of the same training's last
    weights; against_plain: above that of a training without a tail, of the same seed, which those afresh start from.
    """

    way: Way
    values: tuple[float, ...]
    losses: tuple[float, ...]
    open: bool
    against_raw: tuple[float, ...] = ()
    against_plain: tuple[float, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether none diverged."""
        return all(isfinite(number) for number in (*self.values, *self.losses))

    @property
    def mean(self) -> float:
        """Of the metric."""
        return mean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean, 95 %."""
        return mean_interval(self.values)

    @property
    def loss(self) -> float:
        """The mean of the losses."""
        return mean(self.losses)


def compared(plan: RetrainConfig, results: Mapping[Way, Sequence[tuple[float, float]]]) -> tuple[Evidence, ...]:
    """The table of evidence. results: (metric, loss) of each seed, in one order for all ways."""
    open_ = ways(plan)

    def against(values: Sequence[float], other: Way) -> tuple[float, ...]:
        others = [value for value, _ in results.get(other, ())]
        return tuple(a - b for a, b in zip(values, others, strict=True)) if len(others) == len(values) else ()

    table = []
    for way, pairs in results.items():
        values, losses = (tuple(column) for column in zip(*pairs, strict=True))
        raw = () if way.average == "raw" else against(values, replace(way, average="raw"))
        plain = () if way.start == "checkpoint" or way == PLAIN else against(values, PLAIN)
        table.append(Evidence(way, values, losses, way in open_, raw, plain))
    return tuple(table)


def best_way(table: Sequence[Evidence], maximize: bool) -> Way | None:
    """The best by its mean, of equal ones that with the lower loss, then the simpler; None if all diverged.

    The checkpoint was chosen for its value on the same images, which flatters what comes of it, and all that comes of
    it shares its luck: it is taken only where it is better by more than trainings afresh differ by chance from seed to
    seed (95 %, Student's t of their spread).
    """
    sign = -1 if maximize else 1
    sound = [row for row in table if row.sound]

    def best_of(start: Start) -> Evidence | None:
        rows = [row for row in sound if row.open and row.way.start == start]
        return min(rows, key=lambda row: (sign * row.mean, row.loss), default=None)

    afresh, continued = best_of("scratch"), best_of("checkpoint")
    if afresh is None or continued is None:
        return (afresh or continued).way if afresh or continued else None  # type: ignore[union-attr]
    spread = max(_noise(row.values) for row in sound if row.way.start == "scratch")
    return continued.way if sign * (afresh.mean - continued.mean) > spread else afresh.way


def _noise(values: Sequence[float]) -> float:
    """By how much two means of so many such values differ by chance."""
    interval = mean_interval(values)
    return sqrt(2) * (interval[1] - interval[0]) / 2 if interval else inf
