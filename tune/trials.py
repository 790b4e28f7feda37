"""What is known of a trial, whoever asks: the conductor, the display, the winner, the report. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

TRIALS = "trials"  # the folder in an experiment directory that has each trial's
CHECKPOINT_FILE = "checkpoint.ckpt"  # in the folder of each checkpoint
EPOCH = "epoch"  # what a trial reports besides its metrics: the epoch just finished,
BUSY = "busy_s"  # how many seconds its slot was busy with it, so far
EPOCH_SECONDS = "epoch_seconds"  # and with this epoch,
GPU_MEMORY = "gpu_memory_bytes"  # the most that torch had allocated on its GPU in it, where it has one,
NODE = "node"  # the id of its node,
DIVERGED = "diverged"  # or in words what was no number, and when

# paused: has a checkpoint and no slot, because it waits at a rung, or because its process or the search was interrupted
State = Literal["running", "paused", "completed", "stopped", "diverged", "failed"]
DEAD: frozenset[State] = frozenset({"diverged", "failed"})
ENDED: frozenset[State] = frozenset({"completed", "stopped", "diverged", "failed"})


@dataclass
class Trial:
    """One training of one HParams. values: the metric after each epoch, by epoch from 1."""

    number: int
    hparams: dict[str, Any]
    state: State = "running"
    values: dict[int, float] = field(default_factory=dict)
    reason: str = ""  # why it ended, unless completed
    seconds: float = 0.0
    checkpoints: dict[int, str] = field(default_factory=dict)  # by epoch, as paths in the experiment directory
    judged: dict[int, str] = field(default_factory=dict)  # what was decided at each rung, by epoch
    attempts: int = 0  # times it was given a slot
    lost: int = 0  # of them, times its process or node was lost
    saved_at: dict[int, float] = field(default_factory=dict)  # by epoch, the search's seconds when it was saved
    ended_at: float | None = None  # the search's seconds then
    replaces: int | None = None  # the failed trial that this one repeats
    parent: tuple[int, int] | None = None  # number and epoch of the trial whose checkpoint it began from
    instead_of: int | None = None  # the trial whose place in the population it took
    users_mistake: bool = False  # it failed with an error that the user can repair
    busy: float = 0.0  # of its seconds, those in which it trained, validated or saved
    alone: bool = False  # it ran out of memory beside others, and has a GPU to itself
    figures: dict[int, dict[str, float]] = field(default_factory=dict)  # by epoch, of several objectives each, by name
    audit: "Trial | None" = None  # the same training beyond its stop, outside of the search: its values go on there

    @property
    def begun(self) -> bool:
        """Whether it was given a slot, or a checkpoint to begin from."""
        return self.attempts > 0 or self.parent is not None

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.values, default=0)

    @property
    def trained(self) -> int:
        """Epochs that it cost, with its audit: those of the trial whose checkpoint it began from are not its own."""
        return self.epochs - (self.parent[1] if self.parent and self.values else 0) + self.audited

    @property
    def audited(self) -> int:
        """Of them, those of its audit."""
        return self.audit.epochs - self.epochs if self.audit else 0

    @property
    def spent(self) -> float:
        """Seconds in a slot that it cost, with its audit, whose seconds go on from its own."""
        return self.audit.seconds if self.audit else self.seconds

    @property
    def in_slot(self) -> bool:
        """Whether it trains, or its audit does."""
        return self.state == "running" or (self.audit is not None and self.audit.state == "running")

    @property
    def last_heard(self) -> float:
        """The search's seconds when anything of it was recorded last, its audit included."""
        return max([*self.saved_at.values(), self.ended_at or 0.0, self.audit.last_heard if self.audit else 0.0])

    def saved(self, epoch: int, path: str, elapsed: float) -> dict[str, Any]:
        """The checkpoint of an epoch is whole, after so many seconds of the search; as the study is to note it."""
        at = self.saved_at[epoch] = round(elapsed, 3)
        told = {"checkpoint": path, "seconds": round(self.seconds, 3), "busy": round(self.busy, 3), "elapsed": at}
        return {f"epoch {epoch}": told}

    def waits_after(self, epoch: int) -> bool:
        """Whether it is paused, and can go on from its checkpoint of `epoch`."""
        return self.state == "paused" and epoch in self.checkpoints

    def waits_at(self, pauses: Iterable[int]) -> bool:
        """Whether it waits for others at one of the epochs at which trials pause."""
        epoch = self.epochs
        return epoch in pauses and self.waits_after(epoch) and epoch not in self.judged

    def best(self, maximize: bool) -> tuple[int, float] | None:
        """(epoch, value) of the best finite value; the latest of equal ones, whose checkpoint is the one kept."""
        return _best(self.values, maximize)

    def best_kept(self, maximize: bool) -> tuple[int, float] | None:
        """The same among the epochs that have a checkpoint."""
        return _best({epoch: self.values[epoch] for epoch in self.checkpoints if epoch in self.values}, maximize)

    def winning(self, maximize: bool) -> tuple[int, float]:
        """The same of a trial that may win, and so has one."""
        best = self.best_kept(maximize)
        assert best is not None, "what may win has a checkpoint"
        return best

    def winning_file(self, maximize: bool) -> str:
        """That checkpoint's file, in the experiment directory."""
        return f"{self.checkpoints[self.winning(maximize)[0]]}/{CHECKPOINT_FILE}"


@dataclass(frozen=True)
class Report:
    """What a trial says after an epoch. seconds: of this attempt so far; busy: of them, spent in training.

    broken: what was no number, in words. figures: of several objectives each, by name. leaving: whether its node is
    about to go.
    """

    epoch: int
    value: float
    seconds: float
    busy: float = 0.0
    broken: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    leaving: bool = False


@dataclass(frozen=True)
class Start:
    """A trial to be started. checkpoints: (epoch, path in the experiment directory), the one to go on from first.

    is_audit: it ended for the search, and runs on to show what it would have given.
    """

    trial: Trial
    checkpoints: tuple[tuple[int, str], ...]
    is_audit: bool = False

    @property
    def folder(self) -> str:
        """Where this attempt's checkpoints go: never where an earlier attempt's are."""
        name = f"{self.trial.number:05d}"
        return name if self.trial.attempts == 1 else f"{name}.{self.trial.attempts}"


def beyond(trial: Trial) -> Trial:
    """The audit of a trial that was stopped: it waits where that ended, with its values and its checkpoints."""
    return replace(
        trial,
        state="paused",
        values=dict(trial.values),
        checkpoints=dict(trial.checkpoints),
        reason="",
        judged={},
        saved_at={},
        ended_at=None,
        lost=0,
        audit=None,
    )


def _best(values: dict[int, float], maximize: bool) -> tuple[int, float] | None:
    finite = [(epoch, value) for epoch, value in list(values.items()) if math.isfinite(value)]
    if not finite:
        return None
    return max(finite, key=lambda item: (item[1] if maximize else -item[1], item[0]))


def states_in_words(states: Mapping[str, int]) -> str:
    """How many trials are in each state: '5 completed, 11 stopped'."""
    return ", ".join(f"{count:,} {state}" for state, count in states.items())


def by_value(trials: Iterable[Trial], maximize: bool) -> list[Trial]:
    """The trials with a value that neither failed nor diverged, the best value first.

    Of equal ones the one that reached it in fewer epochs, then the earlier.
    """
    sound = [trial for trial in trials if trial.state not in DEAD]
    valued = [(trial, best) for trial in sound if (best := trial.best(maximize)) is not None]
    valued.sort(key=lambda pair: (-pair[1][1] if maximize else pair[1][1], pair[1][0], pair[0].number))
    return [trial for trial, _ in valued]


def best_trial(trials: Iterable[Trial], maximize: bool) -> Trial | None:
    """The first of them."""
    return next(iter(by_value(trials, maximize)), None)
