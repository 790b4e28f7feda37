"""Population based training: who copies whom at each epoch of exchange, and how HParams are perturbed. Pure.

Jaderberg et al., "Population Based Training of Neural Networks", arXiv:1711.09846. Each trial of the first generation
founds a line. At an exchange the worst trials end, and in each one's line a new trial begins from the checkpoint of
one of the best, with perturbed HParams. All trials wait for the exchange, so that values of one length are compared.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune.points import MUTABLE, in_effect
from tune.space import Choice, Numeric, Scalar, Space
from tune.trials import DEAD, Trial

_FACTORS = (0.8, 1.2)  # of numbers
_RESAMPLED = 0.25  # of choices


@dataclass(frozen=True)
class Exchange:
    """What happens at `epoch`: loser -> donor, and of each trial that goes on, why."""

    epoch: int
    copies: dict[int, int]
    words: dict[int, str]


def standing_at(trials: Iterable[Trial], epoch: int) -> list[Trial]:
    """The trial of each line that trains towards `epoch`; one that begins there is of the next exchange."""
    trials = list(trials)
    successors = {trial.instead_of: trial for trial in trials if trial.instead_of is not None}
    members = []
    for founder in (trial for trial in trials if trial.instead_of is None and trial.replaces is None):
        tip = founder
        while (child := successors.get(tip.number)) and child.parent and child.parent[1] < epoch:
            tip = child
        members.append(tip)
    return members


def exchange(members: list[Trial], epoch: int, quantile: float, seed: int, *, maximize: bool) -> Exchange:
    """What the `members` do at `epoch`, which all have reached, or ended before.

    The worst `quantile`, and those that diverged or failed, copy one of the best `quantile` each that has a checkpoint.
    """
    there = [trial for trial in members if epoch in trial.values]
    dead = [trial for trial in members if trial.state in DEAD and epoch not in trial.values]
    there.sort(key=lambda trial: (-trial.values[epoch] if maximize else trial.values[epoch], trial.number))
    count = max(1, int(quantile * len(members)))
    losers = [*there[max(count, len(there) - count) :], *dead]
    donors = [trial for trial in there[:count] if epoch in trial.checkpoints]
    copies = {
        loser.number: random.Random(f"{seed} {loser.number} {epoch}").choice(donors).number
        for loser in losers
        if donors
    }
    ranks = {trial.number: rank for rank, trial in enumerate(there, start=1)}
    words = {}
    for number, rank in ranks.items():
        place = f"epoch {epoch}: ranks {rank} of {len(there)}"
        words[number] = (
            f"stopped at {place}, its line goes on as a copy of trial {copies[number]}"
            if number in copies
            else f"passes {place}"
        )
    return Exchange(epoch, copies, words)


def perturbed(space: Space, hparams: Mapping[str, Any], seed: str) -> dict[str, Scalar]:
    """Study parameters near `hparams`: those that may change in mid-training are moved, within their domains."""
    chance = random.Random(seed)
    params: dict[str, Scalar] = {}
    for domain in in_effect(space, hparams):
        if isinstance(domain, Numeric):
            value = hparams[domain.name]
            moved = _moved(domain, value, chance) if domain.name in MUTABLE else value
            params[domain.key] = moved
        elif isinstance(domain, Choice):
            resample = domain.name in MUTABLE and chance.random() < _RESAMPLED
            params[domain.key] = chance.choice(domain.options) if resample else hparams[domain.name]
    return params


def _moved(domain: Numeric, value: float, chance: random.Random) -> float:
    """0.8 or 1.2 times the number; a whole number moves by a step at least."""
    factor = chance.choice(_FACTORS)
    if domain.step is None:
        return min(max(value * factor, domain.lower), domain.upper)
    steps = max(1, round(abs(value * factor - value) / domain.step))
    moved = value + domain.step * steps * (1 if factor > 1 else -1)
    return int(moved if domain.lower <= moved <= domain.upper else value)


def is_past(trial: Trial, epoch: int) -> bool:
    """Whether a trial of a population went on from `epoch`, or ended there without a successor."""
    return trial.state in {"completed", "stopped"} or epoch in trial.judged
