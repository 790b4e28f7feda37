"""How many trials share a GPU: the space's largest and smallest trainings are tried on one, alone and side by side.

Side by side, one training uses what another leaves idle, until they only take turns; when that is depends on networks,
batches and the GPU, so it is measured. A GPU without CUDA (Ray may be told of any) is probed in the host's memory.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar.hparams import HParams
from tune import cluster
from tune.cluster import Node, Share
from tune.images import SharedImages
from tune.sections import ResourcesConfig
from tune.space import Space
from tune.spec import Experiment

if TYPE_CHECKING:
    from cifar.sources import TrainingData

_DRAWS, _CANDIDATES = 1024, 64
_SETTLES_S = 3.0  # from the last process's readiness to the timing
_MEMORY_USED = 0.9  # at most, of a device's or the host's
_WORTHWHILE = 1.05  # what twice as many trials must gain in speed
_MOST = 16
_FREE_S, _WAITED_S = 60, 300  # for a GPU to be free, and for a process's answer


@dataclass(frozen=True)
class Pace:
    """What a training takes: seconds a step, and of each memory (bytes taken, bytes there are), the device's first."""

    step_seconds: float
    memory: tuple[tuple[int, int], ...]


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
        taken, there = self.largest.memory[0]
        memory = f"the largest takes {taken / 2**30:.2f} of {there / 2**30:.1f} GiB"
        tried = ", ".join(f"{count} at once {speed:.2f}" for count, speed in self.speeds.items())
        return f"{share}: {memory}, speeds {tried} (probed in {self.seconds:.0f} s; resources.gpus_per_trial sets it)"


def most_that_fit(memory: Sequence[tuple[float, float]]) -> int:
    """How many trials the memories hold, each given as what one takes and what there is. Pure."""
    return max(1, min(int(there * _MEMORY_USED // taken) for taken, there in memory))


def most_of_use(resources: ResourcesConfig, trials: int, nodes: Sequence[Node]) -> int:
    """How many trials a GPU may get, so that `trials` occupy all GPUs, and each has its CPU cores. Pure."""
    gpus = max(1, int(min(sum(int(node.gpus) for node in nodes), resources.max_gpus or math.inf)))
    wanted = min(trials, resources.max_concurrent or trials)
    cores = 1.0 if resources.cpus_per_trial == "auto" else resources.cpus_per_trial
    return min(_MOST, math.ceil(wanted / gpus), int(_cores(nodes) / cores))


def _cores(nodes: Sequence[Node]) -> float:
    """A GPU's share of them."""
    return min(node.cpus // node.gpus for node in nodes if node.gpus >= 1)


def worthwhile(speeds: dict[int, float]) -> int:
    """The count beyond which more trials at once are hardly faster together. Pure."""
    best = 1
    for count, speed in sorted(speeds.items()):
        if speed >= _WORTHWHILE * speeds[best]:
            best = count
    return best


def extremes(space: Space, seed: int) -> list[dict[str, Any]]:
    """Points with every number at its upper or lower bound; options are drawn, so that of very many one may be missed.

    Those that differ in network, width or batch size; nothing else makes a step larger. Pure.
    """
    chance = random.Random(seed)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number in range(_DRAWS):
        hparams = HParams(**space.draw(_Corner(chance, upper=bool(number % 2))))
        found.setdefault((hparams.network, hparams.width, hparams.batch_size), hparams.model_dump())
    return list(found.values())[:_CANDIDATES]


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


def packed(
    experiment: Experiment, images: SharedImages, nodes: Sequence[Node], share: Share, trials: int
) -> tuple[Share, str]:
    """`share`, of trials that have a GPU each, with as many of them on one as is measured to be best; and why.

    trials: that are left. Nothing is measured where the experiment sets resources.gpus_per_trial, or there are GPUs
    enough for all.
    """
    import ray

    resources = experiment.resources
    if resources.gpus_per_trial != "auto" or share.gpus != 1 or experiment.trainer.devices > 1:
        return share, ""
    most = most_of_use(resources, trials, nodes)
    if most < 2:
        return share, ""
    try:
        packing = measure(experiment, images, nodes, most)
    except (ray.exceptions.RayError, TimeoutError) as error:  # the search itself tells what is wrong with a network
        words = str(getattr(error, "cause", None) or error).strip() or type(error).__name__
        return (
            share,
            f"a trial has a GPU to itself: how many could share one was not found out ({words.splitlines()[0]})",
        )
    fraction = resources.model_copy(update={"gpus_per_trial": packing.gpus})
    return cluster.share(fraction, list(nodes)), str(packing)


def measure(experiment: Experiment, images: SharedImages, nodes: Sequence[Node], most: int) -> Packing:
    """Tries on one GPU of the cluster, which it takes whole, for a minute or so. most: trials at once.

    Raises TimeoutError if no GPU is free, ray.exceptions.RayError where even one training fails, dies or hangs.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    began = time.monotonic()
    group = placement_group([{"GPU": 1}])
    within = PlacementGroupSchedulingStrategy(group)
    process: Any = ray.remote(num_cpus=0, num_gpus=1 / _MOST, scheduling_strategy=within)(_Process)
    processes: list[Any] = []

    def ready(count: int) -> list[Any]:
        more = [process.remote(experiment) for _ in range(count - len(processes))]
        processes.extend(more)
        ray.get([each.take.remote(images) for each in more], timeout=_WAITED_S)
        return processes[:count]

    def paces(points: Sequence[dict[str, Any]]) -> list[Pace]:
        pairs = list(zip(ready(len(points)), points, strict=True))
        own = experiment.resources.cpus_per_trial
        threads = int(_cores(nodes) / len(points) if own == "auto" else own)
        ray.get([each.warm.remote(point, max(1, threads)) for each, point in pairs], timeout=_WAITED_S)
        start = ray.get(processes[0].clock.remote()) + _SETTLES_S
        return list(ray.get([each.pace.remote(point, start) for each, point in pairs], timeout=_WAITED_S))

    try:
        if not group.wait(_FREE_S):
            raise TimeoutError(f"none was free for {_FREE_S} s")
        (first,) = ready(1)
        candidates = extremes(experiment.space, experiment.search.seed)
        pair = ray.get(first.smallest_and_largest.remote(candidates), timeout=_WAITED_S)
        single = [paces([point])[0] for point in pair]
        limit = min(most, most_that_fit(single[1].memory))
        speeds, count = {1: 1.0}, 2
        while count <= limit and worthwhile(speeds) == count // 2:
            try:
                together = paces([pair[number % 2] for number in range(count)])
            except ray.exceptions.RayError:  # no memory, most likely
                break
            speeds[count] = sum(
                single[number % 2].step_seconds / each.step_seconds for number, each in enumerate(together)
            )
            count *= 2
    finally:
        for each in processes:
            ray.kill(each)
        remove_placement_group(group)
    return Packing(worthwhile(speeds), speeds, single[1], time.monotonic() - began)


class _Process:
    """An actor, which trains as a trial's process does."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def take(self, images: "TrainingData") -> None:
        self._images = images

    def clock(self) -> float:
        """The node's."""
        return time.time()

    def smallest_and_largest(self, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """By the arithmetic of a step."""
        from tune.probe import cost

        costs = [cost(HParams(**point), self._images) for point in points]
        return [points[costs.index(min(costs))], points[costs.index(max(costs))]]

    def warm(self, point: dict[str, Any], threads: int) -> None:
        """Does what only a process's first steps have to: imports, the device's context, compiling."""
        from tune.probe import warm

        warm(HParams(**point), self._experiment, self._images, threads)

    def pace(self, point: dict[str, Any], start: float) -> Pace:
        from tune.probe import pace

        return Pace(*pace(HParams(**point), self._experiment, self._images, start))
