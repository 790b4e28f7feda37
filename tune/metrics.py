"""The figures of a running search as metrics of Ray's, which Prometheus scrapes and Grafana shows.

Ray puts `ray_` before each name, and `_total` behind that of a counter. docker/README.md shows how to look at them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args

from ray.util.metrics import Counter, Gauge

from tune.standing import Standing
from tune.trials import EPOCH_SECONDS, GPU_MEMORY, State

_EVERY_S = 1.0
_WINDOW_S = 60.0  # over which epochs a second are counted
_LONGEST = 200  # of a label
# name -> (what it is, its labels beside the experiment)
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cifar_tune_trials": ("Trials by state.", ("state",)),
    "cifar_tune_best_value": ("The best value of the search's metric so far.", ("metric",)),
    "cifar_tune_best_trial": ("The number of the trial with that value.", ()),
    "cifar_tune_epochs_per_second": (f"Epochs that ended in the last {_WINDOW_S:g} s, a second.", ()),
    "cifar_tune_slots": ("Trials that fit on the cluster at once.", ()),
    "cifar_tune_slot_utilisation": ("Share of the slots in which a trial trains, 0 to 1.", ()),
    "cifar_tune_epoch_seconds": (
        "Seconds of the latest epoch of the trial in a slot; 0 where there is none.",
        ("slot",),
    ),
    "cifar_tune_gpu_memory_bytes": (
        "The most GPU memory that torch had allocated in the latest epoch of the trial in a slot; 0 on CPUs.",
        ("slot",),
    ),
}
COUNTERS = {"cifar_tune_epochs": "Epochs trained in all sessions of the experiment, each counted once."}


def label(name: str) -> str:
    """A name as a label: Ray takes ASCII only, so that other letters become their codes, as in `\\xe9`. Pure."""
    return name.encode("ascii", "backslashreplace").decode()[:_LONGEST]


class Metrics:
    """Publishes how a search stands, once a second at most. What goes wrong with it costs no trial.

    standing: is kept up to date by others. slots: how many trials fit at once now.
    """

    def __init__(self, standing: Standing, slots: Callable[[], int]) -> None:
        self.standing, self.slots = standing, slots
        self._next = 0.0
        self._epochs = 0  # that the counter has
        self._pace = deque[tuple[float, int]]()  # when there were how many epochs
        self._places: dict[int, int] = {}  # of each trial that has reported: its slot, from 1
        self._reports: dict[int, tuple[float, float]] = {}  # by slot: seconds and bytes of the latest epoch
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        with suppress(Exception):
            experiment = {"experiment": label(standing.experiment.name)}
            for name, (words, tags) in GAUGES.items():
                self._gauges[name] = Gauge(name, words, ("experiment", *tags)).set_default_tags(experiment)
            for name, words in COUNTERS.items():
                self._counters[name] = Counter(name, words, ("experiment",)).set_default_tags(experiment)

    def reported(self, number: int, report: Mapping[str, Any]) -> None:
        """What a trial said of its latest epoch."""
        if EPOCH_SECONDS in report and number in self.standing.trials:
            place = self._places.get(number) or self._free_place()
            self._places[number] = place
            self._reports[place] = (float(report[EPOCH_SECONDS]), float(report.get(GPU_MEMORY, 0.0)))

    def publish(self, *, last: bool = False) -> None:
        """Tells Ray, if it was not told in this second, or this is the last time."""
        now = time.monotonic()
        if now >= self._next or last:
            self._next = now + _EVERY_S
            with suppress(Exception):
                self._publish(now)

    def _publish(self, now: float) -> None:
        for name, labels, value in self.figures(now):
            self._gauges[name].set(value, labels)
        if (more := self.standing.epochs - self._epochs) > 0:
            self._counters["cifar_tune_epochs"].inc(more)
            self._epochs = self.standing.epochs

    def figures(self, now: float) -> Iterator[tuple[str, dict[str, str], float]]:
        """What the gauges are at a time of the monotonic clock: their names, their labels, their values."""
        standing, slots = self.standing, max(1, self.slots())
        for state in get_args(State):
            yield "cifar_tune_trials", {"state": state}, standing.counts[state]
        if standing.best and (best := standing.best_value):
            yield "cifar_tune_best_value", {"metric": label(standing.experiment.search.metric)}, best[1]
            yield "cifar_tune_best_trial", {}, standing.best.number
        yield "cifar_tune_slots", {}, slots
        yield "cifar_tune_slot_utilisation", {}, min(1.0, standing.busy / slots)
        yield "cifar_tune_epochs_per_second", {}, self._per_second(now)
        for place, (seconds, memory) in self._by_place().items():
            yield "cifar_tune_epoch_seconds", {"slot": str(place)}, seconds
            yield "cifar_tune_gpu_memory_bytes", {"slot": str(place)}, memory

    def _per_second(self, now: float) -> float:
        self._pace.append((now, self.standing.epochs))
        while len(self._pace) > 2 and self._pace[1][0] <= now - _WINDOW_S:
            self._pace.popleft()
        since, before = self._pace[0]
        return (self.standing.epochs - before) / (now - since) if now > since else 0.0

    def _free_place(self) -> int:
        self._by_place()
        taken = set(self._places.values())
        return next(place for place in range(1, len(taken) + 2) if place not in taken)

    def _by_place(self) -> dict[int, tuple[float, float]]:
        """What to show of each slot, those that trials have left included."""
        trials = self.standing.trials
        for number in [number for number in self._places if (one := trials.get(number)) and not one.in_slot]:
            self._reports[self._places.pop(number)] = (0.0, 0.0)
        return self._reports
