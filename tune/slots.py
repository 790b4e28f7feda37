"""What is known of the trainings that have a slot, or were given one: when each was heard of, and what it reported."""

import math
import time
from dataclasses import dataclass

from tune.trials import Report, Trial


@dataclass
class Attempt:
    """One stay in a slot. before: the trial's seconds and busy seconds of earlier ones."""

    before: tuple[float, float]
    takes: int = 1  # slots
    heard: float = math.inf  # until it has its slot
    epoch: int = 0  # that it reported last
    hung: bool = False


class Slots:
    """By the trial's number. timeout: seconds of silence after which a training is overdue; None for no such limit.

    alone: slots that a training takes which has a GPU to itself, where others share one.
    """

    def __init__(self, timeout: float | None, alone: int = 1) -> None:
        self._timeout, self._alone = timeout, alone
        self._live: dict[int, Attempt] = {}
        self._last: dict[int, Attempt] = {}  # of those that have left, too: a checkpoint may be told of later

    def __contains__(self, number: int) -> bool:
        return number in self._live

    def __len__(self) -> int:
        return len(self._live)

    @property
    def pending(self) -> list[int]:
        """Those that were begun and have no slot yet."""
        return [number for number, attempt in self._live.items() if attempt.heard == math.inf]

    def room(self, slots: int, trial: Trial | None = None) -> bool:
        """Whether `trial`, or any other, may begin where there are so many slots; where none is taken, in any case."""
        takes = self._alone if trial and trial.alone else 1
        return not self._live or sum(attempt.takes for attempt in self._live.values()) + takes <= slots

    def begin(self, trial: Trial) -> None:
        """A training asks for a slot."""
        takes = self._alone if trial.alone else 1
        self._live[trial.number] = self._last[trial.number] = Attempt((trial.seconds, trial.busy), takes)

    def heard(self, number: int) -> None:
        """It got its slot, or reported."""
        if attempt := self._live.get(number):
            attempt.heard, attempt.hung = time.monotonic(), False

    def reported(self, trial: Trial, report: Report) -> None:
        """It finished an epoch."""
        self.heard(trial.number)
        attempt = self._last.setdefault(trial.number, Attempt((0.0, 0.0)))
        attempt.epoch = report.epoch
        trial.seconds, trial.busy = attempt.before[0] + report.seconds, attempt.before[1] + report.busy

    def epoch(self, number: int) -> int:
        """The one it reported last."""
        return self._last[number].epoch

    def cause(self, number: int, reason: str) -> str:
        """Why it was lost: for its silence, if it was killed for that, else for the `reason`."""
        hung = number in self._live and self._live[number].hung
        return f"it reported nothing for {self._timeout:g} s (search.trial_timeout)" if hung else reason

    def leave(self, number: int) -> None:
        """Its slot is free."""
        self._live.pop(number, None)

    def clear(self) -> list[int]:
        """All leave; their numbers."""
        numbers = list(self._live)
        self._live.clear()
        return numbers

    def overdue(self) -> list[int]:
        """Those that have said nothing for longer than the timeout; each is told once."""
        if self._timeout is None:
            return []
        late = [
            number
            for number, attempt in self._live.items()
            if not attempt.hung and time.monotonic() - attempt.heard > self._timeout
        ]
        for number in late:
            self._live[number].hung = True
        return late
