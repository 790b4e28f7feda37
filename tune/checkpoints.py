"""Which checkpoints of an experiment are kept: those that a trial may go on from, and those that may win."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from tune.objectives import in_order
from tune.spec import Experiment
from tune.storage import Storage
from tune.trials import ENDED, Trial, by_value

_LATEST = 2  # kept of a running trial besides its best: a damaged newest falls back to the one before


class Checkpoints:
    """Deletes what is not needed. Of the ended trials, only the `limit` best keep one: that of their best epoch.

    in_order: gives trials that may win, the best first; by their best values unless said.
    """

    def __init__(
        self,
        place: Storage,
        limit: int,
        *,
        maximize: bool,
        in_order: Callable[[Iterable[Trial]], list[Trial]] | None = None,
    ) -> None:
        self.place, self.limit, self.maximize = place, limit, maximize
        self._in_order = in_order or partial(by_value, maximize=maximize)
        self._best: list[Trial] = []
        self._held: dict[int, Trial] = {}  # audits, by number

    def recall(self, trials: Iterable[Trial]) -> None:
        """Takes over from an earlier session: forgets what it deleted, or what never became whole."""
        trials = list(trials)
        for trial in trials:
            if trial.audit:
                trial.audit.checkpoints = {e: p for e, p in trial.audit.checkpoints.items() if self.place.exists(p)}
                self.hold(trial)
        for trial in trials:
            trial.checkpoints = {e: path for e, path in trial.checkpoints.items() if self.place.exists(path)}
            if trial.state in ENDED and trial.checkpoints:
                self._best.append(trial)
        self._keep_best(self._best)

    def added(self, trial: Trial) -> None:
        """A running trial has one more."""
        best = trial.best_kept(self.maximize)
        self._keep(trial, {*sorted(trial.checkpoints)[-_LATEST:], *(best[:1] if best else ())})

    def hold(self, trial: Trial) -> None:
        """Keeps what the audit of `trial` goes on from, whatever becomes of the trial's own; once it ended, nothing."""
        audit = trial.audit
        assert audit is not None, "what is audited has an audit"
        if audit.state in ENDED:
            self._held.pop(audit.number, None)
            gone = list(audit.checkpoints)
        else:
            self._held[audit.number] = audit
            gone = sorted(audit.checkpoints)[:-_LATEST]
        for path in [audit.checkpoints.pop(epoch) for epoch in gone]:
            if path not in trial.checkpoints.values():
                self.discard(path)

    def ended(self, trial: Trial) -> None:
        """A trial trains no more."""
        self._keep_best([*self._best, trial])

    def _keep_best(self, trials: list[Trial]) -> None:
        best = self._in_order(trials)[: self.limit]
        for each in trials:
            chosen = each.best_kept(self.maximize) if each in best else None
            self._keep(each, {chosen[0]} if chosen else set())
        self._best = [each for each in best if each.checkpoints]

    def discard(self, path: str) -> None:
        """Deletes a checkpoint that belongs to no epoch of the study's."""
        with suppress(OSError):  # a leftover costs space only
            self.place.delete(path)

    def copy(self, source: Trial, target: Trial, epoch: int, path: str) -> None:
        """Gives `target` the checkpoint that `source` has of `epoch`."""
        self.place.copy(source.checkpoints[epoch], path)
        target.checkpoints[epoch] = path

    def _keep(self, trial: Trial, epochs: set[int]) -> None:
        held = self._held[trial.number].checkpoints.values() if trial.number in self._held else ()
        for path in [trial.checkpoints.pop(epoch) for epoch in list(trial.checkpoints) if epoch not in epochs]:
            if path not in held:
                self.discard(path)


def checkpoints_of(experiment: Experiment, place: Storage) -> Checkpoints:
    """Those of an experiment, whose directory is `place`."""
    search = experiment.search
    order = partial(in_order, search)
    return Checkpoints(place, experiment.kept_checkpoints, maximize=search.maximize, in_order=order)
