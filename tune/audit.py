"""The audit of early stopping: some stopped trials, drawn at random, run on to the end, outside of the search.

What they give is written to the study beside their trials, which end where they were stopped: neither the sampler nor
rungs, limits or the winner's choice see it. Only budgets of time and epochs count it.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tune.checkpoints import Checkpoints
from tune.limits import Limits
from tune.slots import Slots
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trials import ENDED, Report, Start, State, Trial, beyond

P = ParamSpec("P")
R = TypeVar("R")

STOPPED = "stopped at"  # how the reasons of the schedulers' own stops begin; those of limits do not


def drawn(seed: int, number: int, share: float) -> bool:
    """Whether trial `number` is audited if it is stopped: of many a share of about `share`, of one search the same."""
    return random.Random(f"{seed} audit {number}").random() < share


class Audits:
    """Is told by the conductor what Ray tells it, of the trainings in `live`.

    yields: whether the slots are wanted for something else: an audit then pauses after its epoch. guarded: catches
    what goes wrong in writing. say: hears a line of each that begins or ends. told: hears every change, by the trial.
    """

    def __init__(
        self,
        experiment: Experiment,
        record: StudyRecord,
        checkpoints: Checkpoints,
        limits: Limits,
        slots: Slots,
        guarded: Callable[[], AbstractContextManager[None]],
        yields: Callable[[], bool],
        say: Callable[[str], None],
        told: Callable[[Trial], None],
    ) -> None:
        self._experiment, self._record, self._checkpoints = experiment, record, checkpoints
        self._limits, self._slots, self._guarded, self._yields, self._say = limits, slots, guarded, yields, say
        self._told = told
        self.share = experiment.scheduler.audit
        self.live: dict[int, Trial] = {}  # those in a slot
        self._of: dict[int, Trial] = {}  # whose audit it is
        self._waiting: deque[Trial] = deque()
        self._outcome: dict[int, tuple[State, str]] = {}

    @property
    def left(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def recall(self, trials: Iterable[Trial]) -> None:
        """Takes over from an earlier session, after the checkpoints did."""
        for trial in trials:
            if trial.audit:
                self._limits.audited(sum(epoch > trial.epochs for epoch in trial.audit.saved_at))
                self._wait_for(trial)
        for audit in [audit for audit in self._waiting if self._experiment.scheduler.max_epochs in audit.checkpoints]:
            self._waiting.remove(audit)
            self._end(audit, "completed", "")

    def stopped(self, trial: Trial, reason: str) -> None:
        """A trial is about to end so; if it is drawn, its audit waits from now on. Before the end is written."""
        scheduled = reason.startswith(STOPPED) and trial.values
        if not scheduled or trial.audit or not drawn(self._experiment.search.seed, trial.number, self.share):
            return
        trial.audit = beyond(trial)
        with self._guarded():
            self._record.note_audit(trial.number, attempts=trial.attempts)
        self._checkpoints.hold(trial)
        self._wait_for(trial)

    def _wait_for(self, trial: Trial) -> None:
        if trial.audit and trial.audit.state not in ENDED:
            self._of[trial.number] = trial
            self._waiting.append(trial.audit)

    def next(self) -> Start | None:
        """The audit for a slot that nobody else wants."""
        if not self._waiting:
            return None
        audit = self._waiting.popleft()
        self._record.note_audit(audit.number, attempts=audit.attempts + 1)
        audit.attempts += 1
        audit.state = "running"
        self.live[audit.number] = audit
        self._slots.begin(audit)
        self._told(self._of[audit.number])
        first = "goes on" if audit.epochs == self._of[audit.number].epochs else "goes on again"
        self._say(f"audit: trial {audit.number}, stopped after epoch {self._of[audit.number].epochs}, {first}")
        return Start(audit, tuple(sorted(audit.checkpoints.items(), reverse=True)), is_audit=True)

    # -- what happened, as in the conductor

    def started(self, number: int) -> None:
        """It got its slot."""
        self._slots.heard(number)

    def result(self, number: int, report: Report) -> bool:
        """It has trained an epoch; whether it is to stop."""
        audit, epoch = self.live[number], report.epoch
        self._slots.reported(audit, report)
        if number in self._outcome:
            return True
        if report.broken:
            self._outcome[number] = ("diverged", report.broken)
            return True
        if epoch not in audit.values:
            with self._guarded():
                self._record.note_audit(number, **{f"value {epoch}": report.value})
                audit.values[epoch] = report.value
        self._told(self._of[number])
        if epoch < self._experiment.scheduler.max_epochs and (report.leaving or self._yields()):
            self._outcome[number] = ("paused", "")
        return number in self._outcome

    def checkpointed(self, number: int, path: str) -> None:
        """The checkpoint of the latest epoch is whole in the storage."""
        audit, epoch = self.live[number], self._slots.epoch(number)
        outcome, _ = self._outcome.get(number, (None, ""))
        if outcome == "diverged" or epoch not in audit.values:
            self._checkpoints.discard(path)
            return
        with self._guarded():
            new = epoch not in audit.saved_at and epoch > self._of[number].epochs
            self._record.note_audit(number, **audit.saved(epoch, path, self._limits.elapsed))
            audit.checkpoints[epoch] = path
            self._limits.audited(int(new))
            self._checkpoints.hold(self._of[number])

    def ended(self, number: int) -> None:
        """It left its slot, by itself or because it was told to."""
        audit = self._left(number)
        state, reason = self._outcome.pop(number, ("completed", ""))
        if state == "paused":
            self._pause(audit)
        else:
            self._end(audit, state, reason)

    def withdrawn(self, number: int) -> None:
        """It is not going to get its slot."""
        self._outcome[number] = ("paused", "")

    def lost(self, number: int, reason: str, *, counts: bool = True) -> None:
        """Its process or node was lost: it goes on from its checkpoint, `max_retries` times at most."""
        if self._outcome.get(number, ("paused", ""))[0] != "paused":
            self.ended(number)
            return
        told_to_pause = self._outcome.pop(number, None)
        reason = self._slots.cause(number, reason)
        audit = self._left(number)
        audit.lost += counts and told_to_pause is None
        with self._guarded():
            self._record.note_audit(number, lost=audit.lost)
        if audit.lost > self._experiment.search.max_retries:
            self._end(audit, "failed", f"lost: {reason}")
        else:
            self._pause(audit)

    def failed(self, number: int, reason: str, traceback: str = "", *, users_mistake: bool = False) -> None:
        """It raised an error."""
        self._outcome.pop(number, None)
        self._end(self._left(number), "failed", reason)

    def crowded_out(self, number: int) -> None:
        """It shared its GPU and had no memory left: it goes on alone."""
        self._outcome.pop(number, None)
        audit = self._left(number)
        audit.alone = True
        with self._guarded():
            self._record.note_audit(number, alone=True)
        self._pause(audit)

    def close(self) -> None:
        """The search is over: what is in a slot waits for another session, which may have a larger budget."""
        for number in list(self.live):
            state, reason = self._outcome.pop(number, ("paused", ""))
            audit = self._left(number)
            whole = self._experiment.scheduler.max_epochs in audit.checkpoints
            if state == "diverged" or whole:
                self._end(audit, "completed" if whole else state, reason)
            else:
                self._pause(audit)

    def _left(self, number: int) -> Trial:
        self._slots.leave(number)
        return self.live.pop(number)

    def _pause(self, audit: Trial) -> None:
        audit.state = "paused"
        self._waiting.append(audit)
        self._told(self._of[audit.number])

    def _end(self, audit: Trial, state: State, reason: str) -> None:
        audit.state, audit.reason = state, reason
        search = self._experiment.search
        best = audit.best(search.maximize)
        with self._guarded():
            self._record.note_audit(audit.number, reason=reason, state=state)
            self._checkpoints.hold(self._of[audit.number])
        self._told(self._of[audit.number])
        value = f", {search.metric} {best[1]:.4f} at epoch {best[0]}" if best else ""
        why = f" ({reason})" if reason else ""
        self._say(f"audit: trial {audit.number} {state} after {audit.epochs} epochs{value}{why}")


class _HasAudits(Protocol):
    @property
    def audits(self) -> Audits: ...


C = TypeVar("C", bound=_HasAudits)


def or_audit(method: Callable[Concatenate[C, int, P], R]) -> Callable[Concatenate[C, int, P], R]:
    """Of what is told of the trial by that number: while that is audited, its audit hears it instead."""

    @wraps(method)
    def told(conductor: C, number: int, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if number in conductor.audits.live:
            heard: R = getattr(conductor.audits, method.__name__)(number, *args, **kwargs)
            return heard
        return method(conductor, number, *args, **kwargs)

    return told
