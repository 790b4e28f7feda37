"""Opens an experiment's study: a new one with its planned points and what it learns from, or the one that began."""

from tune.errors import ResumeError
from tune.experiment import ExperimentDir
from tune.points import grid, to_params
from tune.sampler import make_sampler
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.study_storage import check_unused, holds, journal_storage, shown_url, url_storage
from tune.trials import TRIALS
from tune.warm_start import earlier, warm_start


def check_study(experiment: Experiment, storage: str, url: str | None) -> None:
    """Raises StorageError if a new search could not open its study, or has nothing to start from where it says so.

    Before anything is made: what the user repairs should not have used the name up.
    """
    if url:
        check_unused(url, experiment.name)
    for source in experiment.search.warm_start:
        earlier(source, experiment, storage)


def levels(experiment: Experiment) -> tuple[int, ...]:
    """The epochs at which trials are compared: rungs and full length."""
    scheduler = experiment.scheduler
    return (*scheduler.rungs, scheduler.max_epochs) if scheduler.type != "none" else (scheduler.max_epochs,)


def open_study(
    experiment: Experiment,
    directory: ExperimentDir,
    storage: str,
    url: str | None,
    fingerprint: str,
    *,
    resume: bool = True,
) -> tuple[StudyRecord, list[str]]:
    """The study of `experiment`, in a file of its `directory` or at `url`, and lines for the user.

    storage: where earlier experiments are looked for. Raises StorageError if the study cannot be opened, ResumeError
    if one that began is not there any more.
    """
    search = experiment.search
    if resume and directory.place.exists(TRIALS) and not _is_there(experiment.name, directory, url):
        where = shown_url(url) if url else directory.journal
        raise ResumeError(
            f"{where}: the study of {experiment.name} is not there, and its trials are in {directory.trials}; "
            "put it back, or choose another --name"
        )
    record = StudyRecord(
        url_storage(url) if url else journal_storage(directory.journal),
        experiment.name,
        make_sampler(search, experiment.space, levels(experiment)),
        maximize=search.maximize,
        resume=resume,
        objectives=search.objectives or (),
    )
    record.mend(experiment.space)
    notes = warm_start(experiment, record, storage, fingerprint)
    if search.sampler == "grid":
        record.plan(grid(experiment.space)[: search.trials])
    else:
        record.plan([to_params(experiment.space, point) for point in search.start])
    return record, notes


def _is_there(name: str, directory: ExperimentDir, url: str | None) -> bool:
    return holds(url, name) if url else directory.journal.exists()
