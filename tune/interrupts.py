"""Ctrl-C and SIGTERM: the first asks for a gentle end, the second ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from types import FrameType
from typing import Any, ClassVar

from tune.errors import InterruptedSearchError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the work now.

    latest: the signal of the last one raised; Ray's compiled code turns any into a bare KeyboardInterrupt.
    """

    latest: ClassVar[int] = signal.SIGINT

    def __init__(self, number: int) -> None:
        self.number = Interrupted.latest = number
        super().__init__(signal.Signals(number).name)


@dataclass
class Stopped:
    """signal: the number of the signal that asked for the end, or 0."""

    signal: int = 0


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[dict[int, Any]]:
    """Gives who handles each signal afterwards: who did before."""
    after: dict[int, Any] = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield after
    finally:
        for number, old in after.items():
            signal.signal(number, old)


@contextmanager
def at_once() -> Iterator[None]:
    """Both signals raise Interrupted. Once that has ended the work they do nothing: the process is about to exit."""

    def handler(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(handler) as after:
        try:
            yield
        except (KeyboardInterrupt, InterruptedSearchError):
            after.update(dict.fromkeys(SIGNALS, signal.SIG_IGN))
            raise


@contextmanager
def unheard() -> Iterator[None]:
    """Both signals do nothing: for a moment whose end comes by itself and that must not be cut short."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Whoever handles the signals now does so afterwards: Ray takes SIGTERM for itself when it starts."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Work:
    """begun: whether anything stays of it."""

    begun: bool


@contextmanager
def resumable(*, begun: bool) -> Iterator[Work]:
    """What is interrupted in here, once it has begun, can be gone on with: raises InterruptedSearchError then."""
    work = Work(begun)
    try:
        yield work
    except KeyboardInterrupt as error:
        if not work.begun:
            raise
        raise InterruptedSearchError(getattr(error, "number", Interrupted.latest)) from None


@contextmanager
def graceful(interrupt: Callable[[], None], say: Callable[[str], None]) -> Iterator[Stopped]:
    """The first signal calls `interrupt`, and tells the user; the second raises Interrupted."""
    stopped = Stopped()

    def handler(number: int, frame: FrameType | None) -> None:
        if stopped.signal:
            raise Interrupted(number)
        stopped.signal = number
        interrupt()
        # not from here, where a line of the display may be half written
        Thread(target=say, args=["stopping: running trials finish and save their epoch; once more to stop now"]).start()

    with _handled(handler):
        yield stopped
