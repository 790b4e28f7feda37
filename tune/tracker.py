"""What only the driver knows of trials, told to TensorBoard and to W&B: which there are, their best values, their ends.

On a thread of its own: nothing here takes the driver's time, and nothing that goes wrong here costs a trial.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from cifar.errors import first_line
from tune import hparams_tab
from tune.spec import Experiment
from tune.tracking import Tracking, run_of
from tune.trainings import Job, Repeat, Result
from tune.trials import DEAD, ENDED, State, Trial
from tune.wandb_runs import End

_CLOSING_S = 30.0


@dataclass(frozen=True)
class _Told:
    """A trial as it stood. recalled: since an earlier session."""

    number: int
    hparams: dict[str, Any]
    state: State
    reason: str
    epochs: int
    best: tuple[int, float] | None
    recalled: bool

    @property
    def name(self) -> str:
        return f"{self.number:05d}"


class Tracker:
    """Hears every change of a trial. folder: that of all trials' curves; say: hears of trouble, once."""

    def __init__(self, experiment: Experiment, folder: Path, tracking: Tracking, say: Callable[[str], None]) -> None:
        self.experiment, self.folder, self.tracking, self.say = experiment, folder, tracking, say
        self._queue: SimpleQueue[_Told | None] = SimpleQueue()
        self._last: dict[int, tuple[State, int]] = {}
        self._begun: set[int] = set()  # trials that were told of before
        self._tab_works = True
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def update(self, trial: Trial, *, recalled: bool = False) -> None:
        """A trial started, finished an epoch, paused or ended; recalled: in an earlier session."""
        now = (trial.state, trial.epochs)
        if not trial.begun or self._last.get(trial.number) == now:
            return
        self._last[trial.number] = now
        best = trial.best(self.experiment.search.maximize)
        told = (trial.number, trial.hparams, trial.state, trial.reason, trial.epochs, best, recalled)
        self._queue.put(_Told(*told))

    def close(self) -> None:
        """Waits until all is told, but not for ever."""
        self._queue.put(None)
        self._thread.join(_CLOSING_S)

    def _work(self) -> None:
        self._in_tab(lambda: hparams_tab.write_experiment(self.folder, self.experiment.search, self.experiment.space))
        while (trial := self._queue.get()) is not None:
            first = trial.number not in self._begun
            self._tell_wandb(trial, first)
            self._in_tab(lambda trial=trial, first=first: self._tell_tensorboard(trial, first))  # type: ignore[misc]
            self._begun.add(trial.number)

    def _in_tab(self, write: Callable[[], None]) -> None:
        if not self._tab_works:
            return
        try:
            write()
        except Exception as error:
            self._tab_works = False
            self.say(f"TensorBoard's HParams tab gets no further: {first_line(error)}")

    def _tell_tensorboard(self, trial: _Told, first: bool) -> None:
        folder = self.folder / trial.name
        begun, ended = hparams_tab.known(folder) if first else (True, False)
        if not begun:
            hparams_tab.begin(folder, trial.hparams, trial.name, self.experiment.space)
        if ended or (trial.recalled and trial.state not in ENDED):
            return
        if trial.best:
            hparams_tab.note_best(folder, trial.epochs, trial.best[1])
        if trial.state in ENDED:
            hparams_tab.end(folder, trial.state, trial.reason)

    def _tell_wandb(self, trial: _Told, first: bool) -> None:
        search = self.experiment.search
        if first and not trial.recalled:
            self.tracking.tell(run_of(trial.name, "trial", trial.hparams, trial.number, search.seed))
        if trial.state in ENDED:
            summary = _summary(search.metric, trial.best)
            self.tracking.tell(End(trial.name, trial.state, trial.reason, trial.epochs, summary, trial.recalled))


def _summary(metric: str, best: tuple[int, float] | None) -> dict[str, Any]:
    return {"best_epoch": best[0], f"best_{metric}": best[1]} if best else {}


def note_ended(job: Job, result: Result, experiment: Experiment, folder: Path, tracking: Tracking) -> None:
    """Tells of a training of the last mile that ended, if it is one that is shown. folder: that of all curves."""
    if not isinstance(job, Repeat):
        return
    states: list[State] = [state for state in DEAD if state in result] or ["completed"]
    state = states[0]
    curve = dict(enumerate(result.get("curve", []), 1))
    trial = Trial(job.trial, job.hparams, state, curve, str(result.get(state, "")))
    best = trial.best(experiment.search.maximize)
    tracking.tell(End(job.name, state, trial.reason, trial.epochs, _summary(experiment.search.metric, best)))
    with suppress(Exception):  # a full disk is told by who has more to lose
        where = folder / job.name
        if hparams_tab.known(where) == (False, False):
            hparams_tab.begin(where, job.hparams, f"{job.trial:05d} over seeds", experiment.space)
            if best:
                hparams_tab.note_best(where, trial.epochs, best[1])
            hparams_tab.end(where, state, trial.reason)
