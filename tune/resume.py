"""Going on with an experiment that began before: the same one, or an error for each field that differs."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tune import spec, yaml_file
from tune.errors import ResumeError
from tune.experiment import ExperimentDir, check_name, passing_copy, working_copy
from tune.problems import nearest
from tune.spec import RECORD, Experiment
from tune.storage import Storage, open_storage, probe
from tune.study_storage import shown_url


def has_begun(storage: str, name: str) -> bool:
    """Whether there is an experiment of that name. If not, what a beginning cut short left of it goes.

    Raises StorageError where that cannot be found out: what has begun must not begin anew.
    """
    check_name(name)
    where = open_storage(storage)
    try:
        where.read_text(f"{name}/experiment.yaml")
    except (FileNotFoundError, NotADirectoryError):
        _clear(where, name)
        return False
    except Exception as error:
        raise where.complaint(error) from None
    return True


def _clear(where: Storage, name: str) -> None:
    """Deletes what a beginning cut short left of an experiment: its folder, with nothing whole in it."""
    if where.local:
        with suppress(OSError):  # a folder with anything else in it is somebody's, and stays
            for litter in (where.local / name).glob(".experiment.yaml.*"):
                litter.unlink()
            (where.local / name).rmdir()


def reopen(
    storage: str, name: str, setting: str = "--resume", *, read_only: bool = False, light: bool = False
) -> ExperimentDir:
    """The directory of an experiment that has begun. Raises ResumeError if there is none of that name.

    setting: what asks for it, to be named in the error. read_only: for one who only looks, while it may be running;
    light: and needs no model.
    """
    check_name(name)
    where = open_storage(storage)
    if where.local is None:
        probe(where)
    if not where.exists(f"{name}/experiment.yaml"):
        known = (
            [other for other in where.list("") if where.exists(f"{other}/experiment.yaml")] if where.exists("") else []
        )
        there = nearest(name, known) or (f"; there are {', '.join(sorted(known)[:5])}" if known else "")
        raise ResumeError(f"{setting}: there is no experiment {name} in {where.uri}{there or '; none has begun there'}")
    if where.local is None:
        return passing_copy(where, name, light=light) if read_only else working_copy(where, name, fresh=False)
    path = where.local / name
    if path.is_symlink():
        raise ResumeError(
            f"{setting}: {path} is a link, which may lead out of {where.uri}; name the folder that {path.resolve()} "
            "lies in, as --storage"
        )
    return ExperimentDir(path)


# What a resumed search may change; everything else would make its earlier trials those of another search.
_FREE: dict[str, set[str] | None] = {
    "data": {"root"},  # the fingerprint says whether they are the same images
    "search": {
        "trials", "time_budget_s", "epoch_budget", "patience", "min_improvement", "target",
        "max_retries", "trial_timeout", "keep_checkpoints", "choose",
    },
    "resources": None,
    "trainer": {"accelerator", "compile", "log_every_n_steps", "prediction_images"},
    "retrain": None,
    "tracking": None,
}  # fmt: skip


def check_retrain(overrides: Sequence[str]) -> None:
    """Raises ResumeError where one would change more than how the model is made."""
    may = ("retrain", "resources", "tracking")
    for override in overrides:
        if override.partition(".")[0].strip() not in may:
            raise ResumeError(
                f"retrain: --set {override}: the search is as it was, so only {', '.join(may)} can be set; "
                "to search otherwise, begin another experiment"
            )


def check_same(
    directory: ExperimentDir, experiment: Experiment, fingerprint: str, study: str | None = None
) -> dict[str, Any]:
    """The provenance of the experiment in `directory`, of which `experiment` is a continuation.

    study: the database of the study, if it is in one.

    Raises ResumeError, with a line for each field, if it is none.
    """
    record, _ = yaml_file.read(directory.spec)
    provenance = record[RECORD]
    began, now = spec.load(directory.spec).to_dict(), experiment.to_dict()
    problems = []
    for section in now:
        free = _FREE.get(section, set())
        if free is None:
            continue
        for field in [field for field in {**began[section], **now[section]} if field not in free]:
            before, after = began[section].get(field), now[section].get(field)
            if before != after:
                problems.append(f"{section}.{field}: the search began with {before!r}, and now it is {after!r}")
    same_order = _names(began["space"]) == _names(now["space"])  # as grids and samplers see it
    if began["space"] == now["space"] and not same_order:
        problems.append("space: the search began with its parameters and options in another order")
    if provenance["data_fingerprint"] != fingerprint:
        problems.append("data: these are not the images that the search began with")
    if (database := provenance.get("study")) != (shown := study and shown_url(study)):
        problems.append(f"--study: the search began with {database or 'none'}, and now it is {shown or 'none'}")
    if problems:
        advice = f"{directory.path.name} can be resumed only as it began: set it back, or choose another --name"
        raise ResumeError("\n".join([*problems, advice]))
    return dict(provenance)


def _names(value: Any) -> list[str]:
    """Every name in nested settings, in order."""
    if not isinstance(value, dict):
        return []
    return [name for key, inner in value.items() for name in (str(key), *_names(inner))]
