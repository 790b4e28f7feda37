"""The errors of the service.

cifar.errors.UserError      exit status 2
├── SpecError               problems in the experiment file or in --set
├── StorageError            the experiment directory cannot be made or written
│   ├── NameTakenError      an experiment of that name exists, or is being run
│   └── ResumeError         an experiment cannot go on as it is asked to
├── LedgerError             the test set was read before, or the ledger of its readings is broken
├── ResourcesError          the cluster has not what a trial asks for, or cannot be reached
└── ClusterError            jobs of a cluster: it refuses, or has no such job
    └── LostError           it does not answer, for now
FailedError                 exit status 1, since the fault may be ours
├── SearchFailedError       no trial gave a value
└── RetrainFailedError      the winner stands, the model was not made
InterruptedSearchError      exit status 128 + signal: Ctrl-C or SIGTERM, everything saved
"""

import re

from cifar.errors import UserError
from tune.problems import Problem


class SpecError(UserError):
    """One or more problems in what the user wrote. The message has a line for each."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class StorageError(UserError):
    """The place for the experiment directory cannot be used."""


class NameTakenError(StorageError):
    """An experiment of that name exists; it is never overwritten."""


class ResumeError(StorageError):
    """There is no such experiment to go on with, or it began as another one."""


class LedgerError(UserError):
    """The test set was read before, and nobody said to read it again; or the ledger of its readings was changed."""


class ResourcesError(UserError):
    """The cluster has not what a trial asks for, or cannot be reached."""


class ClusterError(UserError):
    """The cluster that jobs are sent to refuses, is none, or has no such job."""


class LostError(ClusterError):
    """The cluster that jobs are sent to does not answer, for now."""


class FailedError(Exception):
    """The work failed. `traceback` is where, or empty."""

    def __init__(self, message: str, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(message)


class SearchFailedError(FailedError):
    """No trial gave a value; the traceback is the first trial's."""


class RetrainFailedError(FailedError):
    """The winner could not be made into a model; the search's results are untouched."""


class InterruptedSearchError(Exception):
    """The user, or a machine that is about to go, ended the search; it can be resumed. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device had none left, as torch, CUDA, cuBLAS or cuDNN tell it. By words, as the driver has no torch."""
    return isinstance(error, RuntimeError) and bool(re.search("out of memory|ALLOC_FAILED", str(error)))
