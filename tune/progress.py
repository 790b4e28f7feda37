"""The display of a running search and of its last mile: one live view in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tune.display import ended, ends_table, in_a_line, mile_rows, panel, search_rows
from tune.errors import SearchFailedError
from tune.limits import Limits
from tune.mile import few, seconds_left, stages
from tune.spec import Experiment
from tune.standing import Standing, duration
from tune.trainings import Result
from tune.trials import Trial

_SHOWN_ENDS = 6
_SHOWN_LINES = 4
_OTHER_LINES = 18  # of a terminal, beside two for each end
_SILENCE_S = 60.0


class _Display:
    """A live view in a terminal; elsewhere lines, one of them after each `silence_s` without any."""

    def __init__(self, console: Console, silence_s: float) -> None:
        self.console, self.silence_s = console, silence_s
        self._live: Live | None = None
        self._said = time.monotonic()
        self._over = Event()
        self._watch = Thread(target=self._break_silence, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._view, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        else:
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            self._over.set()
            self._watch.join()

    def say(self, line: str) -> None:
        """A line about the whole."""
        self._said = time.monotonic()
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _plain(self, line: str) -> None:
        """A line where there is no live view."""
        if not self.console.is_terminal:
            _Display.say(self, line)

    def _break_silence(self) -> None:
        while not self._over.wait(max(0.01, self._said + self.silence_s - time.monotonic())):
            if time.monotonic() - self._said >= self.silence_s and (line := self._line()):
                _Display.say(self, line)

    def _view(self) -> Group:
        raise NotImplementedError

    def _line(self) -> str:
        raise NotImplementedError


class Progress(_Display):
    """Is told of every change of a trial, and shows them."""

    def __init__(self, experiment: Experiment, slots: int, console: Console, silence_s: float = _SILENCE_S) -> None:
        super().__init__(console, silence_s)
        self.experiment = experiment
        self.standing = Standing(experiment, slots, Limits(experiment.search, 0.0))

    def recall(self, trials: Iterable[Trial], limits: Limits) -> None:
        """What earlier sessions of a resumed search left, and the limits that hear of this one."""
        self.standing.limits = limits
        self.standing.recall(trials)

    def update(self, trial: Trial) -> None:
        """A trial started, finished an epoch, or ended."""
        self.standing.update(trial)
        search = self.experiment.search
        if trial.state not in {"running", "paused"}:
            self._plain(f"[{self.standing.ended}/{self.standing.planned}] {ended(trial, search)}")
        elif self.experiment.trials == 1 and trial.state == "running" and trial.epochs:
            self._plain(f"epoch {trial.epochs}: {search.metric} {trial.values[trial.epochs]:.4f}")

    def _view(self) -> Group:
        most = max(2, min(_SHOWN_ENDS, (self.console.height - _OTHER_LINES) // 2))
        last = ends_table(self.standing.ends[-most:], self.experiment.search, self.console.width)
        return panel(self.experiment.name, search_rows(self.standing), last)

    def _line(self) -> str:
        return in_a_line(self.standing)


class MileProgress(_Display):
    """The last mile: what is being trained, and how far that is. `results` are those that are known, by key."""

    def __init__(
        self,
        experiment: Experiment,
        trials: Sequence[Trial],
        slots: int,
        before: float,
        console: Console,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """trials: of the search; before: seconds that earlier sessions took."""
        super().__init__(console, silence_s)
        self.experiment, self.slots = experiment, slots
        self.results: Mapping[str, Result] = {}
        self._lines: list[str] = []
        self._few: list[Trial] = []
        self._began = time.monotonic() - before
        self._changed = 0, time.monotonic()  # how many results there were, and since when
        search = Standing(experiment, slots, Limits(experiment.search, 0.0))
        search.recall(trials)
        self._epoch_seconds = search.epoch_seconds
        with suppress(SearchFailedError):  # which ends the last mile, too
            self._few = few(experiment, trials)

    def say(self, line: str) -> None:
        """What is being done now, or has been."""
        same = self._lines and line.partition(":")[0] == self._lines[-1].partition(":")[0]
        self._lines = [*self._lines[-_SHOWN_LINES:][: -1 if same else None], line]
        self._plain(line)

    def _view(self) -> Group:
        plan = stages(self.experiment, self._few, self.results, made=False)
        if len(self.results) != self._changed[0]:
            self._changed = len(self.results), time.monotonic()
        left = seconds_left(plan, self.results, self.slots, self._epoch_seconds)
        if left is not None:  # what runs now has come nearer to its end since the last one ended
            left = max(0.0, left - (time.monotonic() - self._changed[1])) or None
        rows = mile_rows(plan, left, time.monotonic() - self._began)
        lines = [Text(line, overflow="fold") for line in self._lines[-_SHOWN_LINES:]]
        return panel(f"{self.experiment.name}: the last mile", rows, *lines)

    def _line(self) -> str:
        plan = stages(self.experiment, self._few, self.results, made=False)
        told = ", ".join(f"{stage.name} {stage.done}/{stage.of}" for stage in plan)
        return f"the last mile: {told}; {duration(time.monotonic() - self._began)} gone"
