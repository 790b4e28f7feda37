"""The trials that wait at a rung with their checkpoints: which one goes on, and which have no hope left. Pure."""

from collections.abc import Iterable

from tune.rungs import Rungs, Verdict
from tune.sections import SchedulerConfig
from tune.trials import Trial


class AtRungs:
    """By number, with the rung. rungs: of a scheduler that promotes; else nobody goes on by rank."""

    def __init__(self, scheduler: SchedulerConfig, rungs: Rungs | None) -> None:
        self._scheduler, self._rungs = scheduler, rungs
        self.waiting: dict[int, int] = {}

    def pauses_at(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial waits there for others. In a population, one that repeats a failed trial has no part."""
        return epoch in self._scheduler.pauses and not (self._scheduler.type == "pbt" and trial.replaces is not None)

    def recall(self, trials: Iterable[Trial]) -> None:
        """Takes over from an earlier session."""
        for trial in trials:
            self.note(trial)

    def note(self, trial: Trial) -> None:
        """After each change of a trial: whether it waits at a rung."""
        if self.pauses_at(trial, trial.epochs) and trial.waits_at(self._scheduler.pauses):
            self.waiting[trial.number] = trial.epochs
        else:
            self.waiting.pop(trial.number, None)

    def promotable(self, *, finishing: bool = False) -> tuple[int, Verdict] | None:
        """The trial that may go on, and why; finishing: as in Rungs."""
        return self._rungs.promotable(self.waiting, finishing=finishing) if self._rungs else None

    def hopeless(self, trials: int) -> list[tuple[int, Verdict]]:
        """Those that will not go on, though all of `trials` came."""
        return self._rungs.hopeless(self.waiting, trials) if self._rungs else []

    def standing(self, trial: Trial) -> Verdict | None:
        """Where a trial that paused at a rung stands there; None where nobody is ranked."""
        ranked = self._rungs is not None and trial.epochs in self._scheduler.pauses
        return self._rungs.standing(trial.number, trial.epochs) if self._rungs and ranked else None

    def all_standing(self) -> list[tuple[int, Verdict]]:
        """Every one that waits by rank, and where it stands."""
        if self._rungs is None:
            return []
        return [(number, self._rungs.standing(number, epoch)) for number, epoch in self.waiting.items()]
