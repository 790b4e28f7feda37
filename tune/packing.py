"""How many trials share a GPU: the space's largest and smallest trainings are tried on one, alone and side by side.

Side by side, one training uses what another leaves idle, until they only take turns; when that is depends on networks,
batches and the GPU, so it is measured. A GPU without CUDA (Ray may be told of any) is probed in the host's memory.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar.hparams import HParams
from tune import cluster
from tune.cluster import Node, Share
from tune.images import SharedImages
from tune.space import Space
from tune.spec import Experiment

if TYPE_CHECKING:
    from cifar.sources import TrainingData

_CANDIDATES = 32
_SETTLES_S = 3.0  # before steps are timed
_MEMORY_USED = 0.9  # at most, of a GPU's
_WORTHWHILE = 1.05  # what twice as many trials must gain in speed
_MOST = 16
_WAITED_S = 300


@dataclass(frozen=True)
class Pace:
    """What a training takes. memory and total: of the device, in bytes, the first at its peak."""

    step_seconds: float
    memory: int
    total: int


@dataclass(frozen=True)
class Packing:
    """How many trials share a GPU, and why. speeds: of so many at once together, where one alone has 1."""

    trials: int
    speeds: dict[int, float]
    largest: Pace
    seconds: float

    @property
    def gpus(self) -> float:
        """Of each trial."""
        return 1 / self.trials

    def __str__(self) -> str:
        share = f"{self.trials} trials share a GPU" if self.trials > 1 else "a trial has a GPU to itself"
        memory = f"the largest takes {self.largest.memory / 2**30:.2f} of {self.largest.total / 2**30:.1f} GiB"
        tried = ", ".join(f"{count} at once {speed:.2f}" for count, speed in self.speeds.items())
        return f"{share}: {memory}, speeds {tried} (probed in {self.seconds:.0f} s; resources.gpus_per_trial sets it)"


def most_that_fit(memory: float, total: float, cpus: float) -> int:
    """How many trials may share a GPU at all: by their memory, and with a CPU core each. Pure."""
    return max(1, min(_MOST, int(total * _MEMORY_USED // memory), int(cpus)))


def worthwhile(speeds: dict[int, float]) -> int:
    """The count beyond which more trials at once are hardly faster together. Pure."""
    best = 1
    for count, speed in sorted(speeds.items()):
        if speed >= _WORTHWHILE * speeds[best]:
            best = count
    return best


def extremes(space: Space, seed: int) -> list[dict[str, Any]]:
    """Points with every number at its upper or lower bound, and drawn options: among them are the largest and smallest.

    Pure.
    """
    chance = random.Random(seed)
    corners = [_Corner(chance, upper=bool(number % 2)) for number in range(_CANDIDATES)]
    points = {HParams(**space.draw(corner)).model_dump_json(): None for corner in corners}
    return [HParams.model_validate_json(point).model_dump() for point in points]


class _Corner:
    """As tune.space.Drawer."""

    def __init__(self, chance: random.Random, *, upper: bool) -> None:
        self._chance, self._upper = chance, upper

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return high if self._upper else low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return high if self._upper else low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._chance.choice(choices)


def packed(experiment: Experiment, images: SharedImages, nodes: Sequence[Node], share: Share) -> tuple[Share, str]:
    """`share`, of trials that have a GPU each, with as many of them on one as is measured to be best; and why.

    Nothing is measured where the experiment sets resources.gpus_per_trial, or has no more trials than there are slots.
    """
    import ray

    resources = experiment.resources
    alone = share.gpus != 1 or experiment.trainer.devices > 1 or experiment.trials <= share.slots
    if resources.gpus_per_trial != "auto" or alone:
        return share, ""
    try:
        packing = probe(experiment, images, nodes)
    except (ray.exceptions.RayError, TimeoutError) as error:  # the search itself tells what is wrong with a network
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[0]
        return share, f"a trial has a GPU to itself: how many could share one was not to be found out ({reason})"
    fraction = resources.model_copy(update={"gpus_per_trial": packing.gpus})
    return cluster.share(fraction, list(nodes)), str(packing)


def probe(experiment: Experiment, images: SharedImages, nodes: Sequence[Node]) -> Packing:
    """Tries on one GPU of the cluster, which it takes whole for half a minute or so.

    Raises ray.exceptions.RayError where even one training fails.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    began = time.monotonic()
    cpus = int(min(node.cpus // node.gpus for node in nodes if node.gpus >= 1))
    group = placement_group([{"GPU": 1, "CPU": max(1, cpus)}])
    within = PlacementGroupSchedulingStrategy(group)
    process: Any = ray.remote(num_cpus=0, num_gpus=1 / _MOST, scheduling_strategy=within)(_Process)
    processes: list[Any] = []

    def ready(count: int) -> list[Any]:
        more = [process.remote(experiment) for _ in range(count - len(processes))]
        processes.extend(more)
        ray.get([each.take.remote(images) for each in more], timeout=_WAITED_S)
        return processes[:count]

    def paces(points: Sequence[dict[str, Any]]) -> list[Pace]:
        some, threads = ready(len(points)), max(1, cpus // len(points))
        start = time.time() + _SETTLES_S
        asked = [each.pace.remote(point, start, threads) for each, point in zip(some, points, strict=True)]
        return list(ray.get(asked, timeout=_WAITED_S))

    try:
        (first,) = ready(1)
        candidates = extremes(experiment.space, experiment.search.seed)
        pair = ray.get(first.smallest_and_largest.remote(candidates), timeout=_WAITED_S)
        alone = [paces([point])[0] for point in pair]
        largest = alone[1]
        limit = most_that_fit(largest.memory, largest.total, cpus)
        speeds, count = {1: 1.0}, 2
        while count <= limit and worthwhile(speeds) == count // 2:
            try:
                together = paces([pair[number % 2] for number in range(count)])
            except ray.exceptions.RayTaskError:  # no memory, most likely
                break
            speeds[count] = sum(
                alone[number % 2].step_seconds / pace.step_seconds for number, pace in enumerate(together)
            )
            count *= 2
    finally:
        for each in processes:
            ray.kill(each)
        remove_placement_group(group)
    return Packing(worthwhile(speeds), speeds, largest, time.monotonic() - began)


class _Process:
    """An actor, which trains as a trial's process does."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def take(self, images: "TrainingData") -> None:
        self._images = images

    def smallest_and_largest(self, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """By the arithmetic of a step."""
        from tune.probe import cost

        costs = [cost(HParams(**point), self._images) for point in points]
        return [points[costs.index(min(costs))], points[costs.index(max(costs))]]

    def pace(self, point: dict[str, Any], start: float, threads: int) -> Pace:
        from tune.probe import pace

        return Pace(*pace(HParams(**point), self._experiment, self._images, start, threads))
