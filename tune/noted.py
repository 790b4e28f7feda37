"""What a study says, as `tune.study` wrote it: the names of its attributes, and the trials that they tell of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from tune.trials import Trial, beyond

DROPPED = "dropped"  # state of a trial that was never begun
RESULT = "last mile: "  # attributes of the study: results of the trainings after the search
AUDIT = "audit"  # attributes of the study, since a trial that ended takes no more: "audit 7 value 3"
FROM = "from"  # attribute of a trial of an earlier experiment: which
# Attributes by epoch of a study with several objectives, in which Optuna takes no intermediate values.
VALUE, FIGURES = "value", "figures"


@dataclass(frozen=True)
class Noted:
    """What a study's own attributes say of its search."""

    attributes: Mapping[str, Any]

    def elapsed(self, trials: Iterable[Trial]) -> float:
        """Seconds that the search has run in all its sessions; as far as its trials tell where one was killed."""
        return max([float(self.attributes.get("elapsed_s", 0.0)), *(trial.last_heard for trial in trials)])

    @property
    def retrain_seconds(self) -> float:
        """Seconds that the last mile took, in whichever session."""
        return float(self.attributes.get("retrain_s", 0.0))

    @property
    def slots(self) -> int | None:
        """How many trials fitted at once, when that was looked at last."""
        return self.attributes.get("slots")

    def slot_seconds(self, elapsed: float) -> float:
        """Seconds of all slots together, after so many of the search; slots come and go with nodes."""
        seconds, since = self.attributes.get("slot_s", (0.0, 0.0))
        return float(seconds + (self.slots or 0) * max(0.0, elapsed - since))

    @property
    def ended_because(self) -> str:
        """Which limit ended the search before its last trial; empty where none did."""
        return str(self.attributes.get("ended_because", ""))

    @property
    def results(self) -> dict[str, Any]:
        """What the trainings of the last mile gave, by the key that each was noted under."""
        noted = self.attributes.items()
        return {name.removeprefix(RESULT): value for name, value in noted if name.startswith(RESULT)}


def own_trials(trials: Sequence[FrozenTrial], attributes: Mapping[str, Any]) -> list[Trial]:
    """Of a study's trials those that its experiment proposed and did not drop; one without an end is paused.

    attributes: the study's, which have what audits gave.
    """
    mine = [trial for trial in trials if FROM not in trial.user_attrs]
    own = [trial_of(trial) for trial in mine if "hparams" in trial.user_attrs and not dropped(trial)]
    audits: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        what, _, rest = name.partition(" ")
        number, _, field = rest.partition(" ")
        if what == AUDIT and number.isdecimal():
            audits.setdefault(int(number), {})[field] = value
    for trial in own:
        if trial.number in audits and trial.state == "stopped":
            trial.audit = beyond(trial)
            _fill(trial.audit, audits[trial.number])
    return own


def values_of(frozen: FrozenTrial) -> dict[int, float]:
    """The metric after each epoch."""
    return dict(sorted((_noted_values(frozen.user_attrs) or frozen.intermediate_values).items()))


def _noted_values(known: Mapping[str, Any]) -> dict[int, float]:
    return {int(name.split()[1]): value for name, value in known.items() if name.startswith(f"{VALUE} ")}


def dropped(frozen: FrozenTrial) -> bool:
    """Whether it was proposed here and never begun, so that nobody counts it."""
    return bool(frozen.user_attrs.get("state") == DROPPED)


def trial_of(frozen: FrozenTrial) -> Trial:
    """A trial as its attributes tell it."""
    known = frozen.user_attrs
    trial = Trial(frozen.number, known["hparams"], state="paused", values=values_of(frozen))
    _fill(trial, known)
    if not frozen.state.is_finished():  # its end was about to be written
        trial.state = "paused"
    trial.replaces = known.get("replaces")
    trial.instead_of = known.get("instead_of")
    trial.parent = tuple(known["parent"]) if "parent" in known else None
    trial.ended_at = known.get("elapsed")
    return trial


def _fill(trial: Trial, known: Mapping[str, Any]) -> None:
    """What attributes tell of a trial or of an audit, beside what the trial has already."""
    trial.values |= dict(sorted(_noted_values(known).items()))
    trial.state, trial.reason = known.get("state", trial.state), known.get("reason", "")
    trial.attempts = known.get("attempts", trial.attempts)
    trial.lost, trial.alone = known.get("lost", trial.lost), known.get("alone", trial.alone)
    trial.seconds = max(trial.seconds, known.get("seconds", 0.0))
    for name, value in known.items():
        what, _, epoch = name.partition(" ")
        if what == "rung" and epoch:
            trial.judged[int(epoch)] = value
        elif what == FIGURES and epoch and int(epoch) in trial.values:
            trial.figures[int(epoch)] = value
        elif what == "epoch" and epoch:
            trial.checkpoints[int(epoch)] = value["checkpoint"]
            trial.saved_at[int(epoch)] = value["elapsed"]
            trial.seconds = max(trial.seconds, value["seconds"])
            trial.busy = max(trial.busy, value.get("busy", 0.0))
    trial.checkpoints = dict(sorted(trial.checkpoints.items()))
