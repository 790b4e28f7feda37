"""The display of a running search: one live view in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from tune.objectives import best_figures, in_digits, in_order
from tune.spec import Experiment
from tune.trials import Trial

_SHOWN_ENDS = 6


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 20 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Is told of every change of a trial, and shows them."""

    def __init__(self, experiment: Experiment, slots: int, console: Console) -> None:
        self.experiment, self.slots, self.console = experiment, slots, console
        self.trials: dict[int, Trial] = {}
        self._epochs: dict[int, int] = {}
        self._ended: list[str] = []  # a line for each
        self._started = time.monotonic()
        self._live = Live(get_renderable=self._view, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def update(self, trial: Trial, *, told: bool = True) -> None:
        """A trial started, finished an epoch, or ended. Not `told`: in an earlier session of a resumed search."""
        self.trials[trial.number] = trial
        self._epochs[trial.number] = trial.trained
        if trial.state in {"running", "paused"}:
            if told and self.experiment.trials == 1 and trial.epochs:
                self._plain(f"epoch {trial.epochs}: {self.experiment.search.metric} {trial.values[trial.epochs]:.4f}")
            return
        self._ended.append(self._line(trial))
        if told:
            self._plain(self._ended[-1])

    def say(self, line: str) -> None:
        """A line about the search as a whole."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _plain(self, line: str) -> None:
        """A line where there is no live view."""
        if not self.console.is_terminal:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _line(self, trial: Trial) -> str:
        search = self.experiment.search
        done = f"[{len(self._ended) + 1}/{self._total}]"
        best = trial.best(search.maximize)
        value = f"{search.metric} {best[1]:.4f}" if best else "no value"
        reason = f" ({trial.reason})" if trial.reason else ""
        plural = "s" * (trial.epochs != 1)
        return f"{done} trial {trial.number} {trial.state} after {trial.epochs} epoch{plural}, {value}{reason}"

    @property
    def _total(self) -> int:
        return max(self.experiment.trials, len(self.trials))

    def _view(self) -> Group:
        """What the terminal shows now."""
        search = self.experiment.search
        name = TextColumn("{task.description}", markup=False)
        bar = Bar(name, BarColumn(), TextColumn("{task.completed}/{task.total} trials"))
        bar.add_task(self.experiment.name, total=self._total, completed=len(self._ended))
        table = Table.grid(padding=(0, 2))
        table.add_row("trials", self._counts())
        table.add_row("epochs", f"{sum(list(self._epochs.values()))}")
        table.add_row("time", self._time())
        for best in in_order(search, list(self.trials.values()))[:1]:
            epoch, value = best.best(search.maximize) or (0, 0.0)
            others = best_figures(search, best).items()
            costs = "".join(f", {name} {in_digits(one)}" for name, one in others if name != search.metric)
            table.add_row("best", Text(f"{search.metric} {value:.4f}{costs} (trial {best.number}, epoch {epoch})"))
        lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._ended[-_SHOWN_ENDS:]]
        return Group(bar, table, *lines)

    def _counts(self) -> str:
        states = [trial.state for trial in list(self.trials.values())]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states) - {"running"}))
        return f"{states.count('running')} running in {self.slots} slots" + (f", {counts}" if counts else "")

    def _time(self) -> str:
        gone = time.monotonic() - self._started
        if not self._ended:
            return f"{duration(gone)} gone"
        left = (self.experiment.trials - len(self._ended)) * gone / len(self._ended)
        if budget := self.experiment.search.time_budget_s:
            left = min(left, max(0.0, budget - gone))
        return f"{duration(gone)} gone, about {duration(left)} left"
