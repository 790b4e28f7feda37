"""What is known of a trial, whoever asks: the display, the winner, the report. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

CHECKPOINT_FILE = "checkpoint.ckpt"  # in the folder of each checkpoint

State = Literal["running", "completed", "stopped", "diverged", "failed"]


@dataclass
class Trial:
    """One training of one HParams. values: the metric after each epoch, by epoch from 1."""

    number: int
    hparams: dict[str, Any]
    state: State = "running"
    values: dict[int, float] = field(default_factory=dict)
    reason: str = ""  # why it ended, unless completed
    seconds: float = 0.0
    checkpoint: str = ""  # of the best epoch
    users_mistake: bool = False  # it failed with an error that the user can repair

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.values, default=0)

    def best(self, maximize: bool) -> tuple[int, float] | None:
        """(epoch, value) of the best finite value; the latest of equal ones, whose checkpoint is the one kept."""
        finite = [(epoch, value) for epoch, value in list(self.values.items()) if math.isfinite(value)]
        if not finite:
            return None
        return max(finite, key=lambda item: (item[1] if maximize else -item[1], item[0]))


def best_trial(trials: Iterable[Trial], maximize: bool) -> Trial | None:
    """The trial with the best value of all that neither failed nor diverged.

    Of equal ones the one that reached it in fewer epochs, then the earlier.
    """
    sound = [trial for trial in trials if trial.state not in {"failed", "diverged"}]
    valued = [(trial, best) for trial in sound if (best := trial.best(maximize)) is not None]
    if not valued:
        return None
    return max(valued, key=lambda pair: (pair[1][1] * (1 if maximize else -1), -pair[1][0], -pair[0].number))[0]
