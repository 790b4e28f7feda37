"""Signals are sent to processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tune.errors import InterruptedSearchError
from tune.interrupts import Interrupted, Stopped, at_once, graceful, kept, resumable, unheard

GRACEFUL = """
import time
from tune.interrupts import Interrupted, graceful
try:
    with graceful(lambda: print("asked", flush=True), lambda line: print(line, flush=True)) as stopped:
        print("ready", flush=True)
        for _ in range(1000):
            time.sleep(0.01)
            if stopped.signal and input() == "end":
                break
    print("ended by itself after", stopped.signal, flush=True)
except Interrupted as error:
    print("interrupted by", error.number, flush=True)
"""

AT_ONCE = """
import time
from tune.interrupts import Interrupted, at_once
try:
    with at_once():
        print("ready", flush=True)
        try:
            time.sleep(30)
        except Exception:
            print("eaten by a handler of errors", flush=True)
except Interrupted as error:
    print("interrupted by", error.number, error, flush=True)
"""

EXITING = """
import os, signal
from tune.run import exit_status
from tune.interrupts import resumable
try:
    with exit_status(), resumable(begun=True):
        print("ready", flush=True)
        input()
finally:
    os.kill(os.getpid(), signal.SIGINT)
"""


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def words(child: subprocess.Popen[str], lines: int = 1) -> list[str]:
    return [child.stdout.readline().rstrip("\n") for _ in range(lines)]


STOPPING = "stopping: running trials finish and save their epoch; once more to stop now"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_work_goes_on(number):
    with process(GRACEFUL) as child:
        child.send_signal(number)
        assert words(child, 2) == ["asked", STOPPING]
        child.stdin.write("end\n")
        child.stdin.flush()
        assert words(child) == [f"ended by itself after {int(number)}"]
        assert child.wait() == 0


def test_the_second_signal_ends_at_once():
    with process(GRACEFUL) as child:
        child.send_signal(signal.SIGINT)
        assert words(child, 2) == ["asked", STOPPING]
        child.send_signal(signal.SIGTERM)
        assert words(child) == [f"interrupted by {int(signal.SIGTERM)}"]


def test_outside_a_search_one_signal_ends_at_once_past_all_handlers_of_errors():
    with process(AT_ONCE) as child:
        child.send_signal(signal.SIGTERM)
        assert words(child) == [f"interrupted by {int(signal.SIGTERM)} SIGTERM"]


def test_a_signal_while_the_process_exits_changes_nothing():
    with process(EXITING) as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 128 + signal.SIGTERM


def test_afterwards_signals_are_handled_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with at_once(), graceful(lambda: None, lambda line: None) as stopped:
        assert stopped == Stopped(0)
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_who_takes_a_signal_meanwhile_gives_it_back():
    before = signal.getsignal(signal.SIGTERM)
    with kept():
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_moment_may_be_deaf():
    with unheard():
        signal.raise_signal(signal.SIGTERM)


def test_an_interruption_is_no_error():
    assert not issubclass(Interrupted, Exception)
    assert str(Interrupted(2)) == "SIGINT"


@pytest.mark.parametrize("bare", [True, False])
def test_only_what_has_begun_can_be_resumed(bare):
    ours = Interrupted(signal.SIGTERM)
    error = KeyboardInterrupt() if bare else ours

    def interrupted(*, begins: bool) -> None:
        with resumable(begun=False) as work:
            work.begun = begins
            raise error

    with pytest.raises(KeyboardInterrupt):
        interrupted(begins=False)
    with pytest.raises(InterruptedSearchError) as caught:
        interrupted(begins=True)
    assert caught.value.number == Interrupted.latest == signal.SIGTERM
