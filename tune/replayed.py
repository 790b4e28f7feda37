"""What `python -m tune what-if` asks of an experiment: its curves, and the settings to replay them under."""

from collections.abc import Mapping
from dataclasses import replace

from cifar.errors import UserError
from tune import spec
from tune.errors import SpecError
from tune.objectives import in_order
from tune.recorded import Recorded, read_experiment
from tune.what_if import WhatIf, what_if


def replay_with(
    name: str, storage: str, settings: Mapping[str, int | str], study: str | None = None
) -> tuple[Recorded, WhatIf]:
    """The experiment `name`, and what it would have been with these fields of its scheduler.

    study: the database of its study, where that is behind a password. Raises ResumeError if there is none of that
    name, SpecError where a setting is wrong, UserError where its curves cannot be replayed.
    """
    known = read_experiment(storage, name, "what-if", study)
    experiment = known.experiment
    before = experiment.scheduler
    if before.type == "pbt":
        raise UserError(
            f"what-if: {name} changed HParams in mid-training (scheduler.type pbt): its curves are no trial's"
        )
    if experiment.search.objectives:
        raise UserError(f"what-if: {name} has several objectives, and asha stops trials by one metric")
    if not any(trial.values for trial in known.trials):
        raise UserError(f"what-if: no trial of {name} has a value yet")
    given = {"type": "asha", "audit": 0, "mode": before.mode or "promote", **settings}
    try:
        overridden = spec.load(known.directory.spec, [f"scheduler.{field}={value}" for field, value in given.items()])
    except SpecError as error:
        raise SpecError([replace(problem, place=_option(problem.place)) for problem in error.problems]) from None
    ranked = in_order(experiment.search, known.trials)
    winner = known.winner.trial if known.winner else next(iter(ranked), None)
    told = what_if(known.trials, winner, before, overridden.scheduler, maximize=experiment.search.maximize)
    return known, told


def _option(place: str) -> str:
    """The option that a problem came from, as the user wrote it."""
    setting = place.removeprefix("--set scheduler.")
    field, _, value = setting.partition("=")
    return f"--{field.replace('_', '-')} {value}" if setting != place else place
