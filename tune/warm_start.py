"""Warm start: trials of earlier experiments from which the sampler learns."""

from typing import Any

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from tune import spec
from tune.errors import ResumeError
from tune.points import fit
from tune.resume import reopen
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.study_storage import recorded

_NAMED = 3  # trials left out that are named


def warm_start(experiment: Experiment, record: StudyRecord, storage: str, fingerprint: str) -> list[str]:
    """Gives the trials of `search.warm_start` to the study, for its sampler. A line for each experiment says how many.

    Of a study that has them already nothing is added. Raises ResumeError if an experiment is missing, or ranks its
    trials by another metric.
    """
    return [_learn(source, experiment, record, storage, fingerprint) for source in experiment.search.warm_start]


def earlier(source: str, experiment: Experiment, storage: str) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """An experiment that `search.warm_start` names, by name in `storage` or by its path or URI: provenance and trials.

    Raises ResumeError if it is missing or ranks its trials by another metric, StorageError if it cannot be read.
    """
    path, mark, options = source.partition("?") if "://" in source else (source, "", "")
    folder, slash, name = path.rstrip("/").rpartition("/")
    directory = reopen(
        (folder or "/") + mark + options if slash else storage, name, "search.warm_start", read_only=True
    )
    theirs, mine = spec.load(directory.spec).search, experiment.search
    if theirs.objectives:
        raise ResumeError(f"search.warm_start: {source} has several objectives, this search one; leave it out")
    modes = ["max" if search.maximize else "min" for search in (theirs, mine)]
    if theirs.metric != mine.metric or modes[0] != modes[1]:
        raise ResumeError(
            f"search.warm_start: {source} ranks its trials by {theirs.metric} ({modes[0]}), this search by "
            f"{mine.metric} ({modes[1]}); leave it out"
        )
    provenance, study = recorded(directory, f"search.warm_start: {source}", advice="leave it out")
    return provenance, study.trials


def _learn(source: str, experiment: Experiment, record: StudyRecord, storage: str, fingerprint: str) -> str:
    provenance, trials = earlier(source, experiment, storage)
    known = record.learned_from(source)
    given, left_out = 0, []
    for trial in trials:
        if "from" in trial.user_attrs or not trial.intermediate_values:
            continue
        params = fit(experiment.space, trial.user_attrs["hparams"])
        if isinstance(params, str):
            left_out.append(f"trial {trial.number} ({params})")
            continue
        given += 1
        if trial.number not in known:
            record.teach(_translated(trial, dict(params), experiment, source))
    words = f"warm start from {source}: {given} trial{'s' * (given != 1)} given to the sampler"
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        words += f", {len(left_out)} left out: {', '.join(left_out[:_NAMED])}{more}"
    if provenance["data_fingerprint"] != fingerprint:
        words += "; its images are others, so its values may not compare"
    return words


def _translated(trial: FrozenTrial, params: dict[str, object], experiment: Experiment, source: str) -> FrozenTrial:
    """The same trial in this search's space; one shorter than this search's is like one that was stopped."""
    drawn = FixedTrial(params)
    experiment.space.draw(drawn)
    full = trial.state is TrialState.COMPLETE and max(trial.intermediate_values) >= experiment.scheduler.max_epochs
    diverged = trial.user_attrs.get("state") == "diverged"
    attributes = {name: value for name, value in trial.user_attrs.items() if name in {"hparams", "state"}}
    return create_trial(
        state=TrialState.COMPLETE if full else TrialState.FAIL if diverged else TrialState.PRUNED,
        value=trial.value if full else None,
        params=params,
        distributions=drawn.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs={**attributes, "from": [source, trial.number]},
    )
