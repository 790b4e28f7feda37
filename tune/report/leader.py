"""Which trial an experiment has to show for itself."""

from tune.objectives import in_order
from tune.recorded import Recorded
from tune.trials import Trial


def leader(known: Recorded) -> Trial | None:
    """The winner, else the best trial so far; None before the first value."""
    if known.winner is not None:
        return known.winner.trial
    return next(iter(in_order(known.experiment.search, known.trials)), None)
