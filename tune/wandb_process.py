"""The process that writes W&B's runs: an actor of Ray beside the driver, to which trainings on any node hand on."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cifar.errors import first_line
from tune.tracking import Tracking
from tune.wandb_runs import Picture, Row, Runs

_SETTLE_S = 0.5
_PATIENCE_S = 60.0  # at the end, without a message handled
_MOST_WAITING = 50_000


class _Writer:
    """Takes messages at once, and writes them on a thread of its own."""

    def __init__(self, tracking: Tracking, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._handled, self._line, self._said = 0, "", Event()
        self._runs = Runs(tracking, self._say)
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def _say(self, line: str) -> None:
        self._line = line
        self._said.set()

    def _work(self) -> None:
        self._runs.prepare()
        while True:
            try:
                message = self._queue.get(timeout=_SETTLE_S)
            except Empty:
                self._runs.settle()
                continue
            if message is None:
                break
            self._runs.tell(message)
            self._handled += 1
        for _ in self._runs.close():
            self._handled += 1
        self._said.set()

    def put(self, message: Any) -> None:
        """Takes it, or drops a value or a picture where W&B is hopelessly behind."""
        if self._queue.qsize() < _MOST_WAITING or not isinstance(message, Row | Picture):
            self._queue.put(message)

    def handled(self) -> int:
        """How many messages were, so far, and at the end runs."""
        return self._handled

    def trouble(self) -> str:
        """Waits for what is to be said, or for the end of all without that."""
        self._said.wait()
        return self._line

    def join(self) -> None:
        """Waits until everything before None is written."""
        self._thread.join()


class _Handle:
    """The writer as trainings know it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def put(self, message: Any) -> None:
        with suppress(Exception):  # W&B costs no training
            self.actor.put.options(concurrency_group="in").remote(message)


@contextmanager
def writing(tracking: Tracking, say: Callable[[str], None]) -> Iterator[Tracking]:
    """The same tracking with a process that writes it; at the end all is written, or was waited for long enough.

    say: hears at most one line, of what goes wrong.
    """
    if tracking.mode is None:
        yield tracking
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote
    known = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    writer = remote(concurrency_groups={"in": 1, "out": 3})(_Writer)
    actor = writer.options(num_cpus=0, scheduling_strategy=here).remote(tracking, known)
    handle = _Handle(actor)
    hears = Thread(target=_hear, args=[actor, say], daemon=True)
    hears.start()
    at_once = False
    try:
        yield replace(tracking, sink=handle)
    except KeyboardInterrupt:
        at_once = True
        raise
    finally:
        if not at_once:
            handle.put(None)
            _wait(actor, tracking, say)
            hears.join(1)
        ray.kill(actor)


def _hear(actor: Any, say: Callable[[str], None]) -> None:
    try:
        line = ray.get(actor.trouble.options(concurrency_group="out").remote())
    except Exception:
        return  # the end
    if line:
        say(line)


def _wait(actor: Any, tracking: Tracking, say: Callable[[str], None]) -> None:
    """For the writer, as long as it gets on."""
    ended, before = actor.join.options(concurrency_group="out").remote(), -1
    try:
        while not ray.wait([ended], timeout=_PATIENCE_S)[0]:
            handled = ray.get(actor.handled.options(concurrency_group="out").remote(), timeout=_PATIENCE_S)
            if handled == before:
                raise TimeoutError("gets no further")
            before = handled
        ray.get(ended)
    except Exception as error:
        lacks = f"its runs in {tracking.directory} may lack something"
        say(f"W&B: {first_line(error)}; {lacks}")
