"""The errors a user can cause, and those a training can end with.

UserError               a mistake of the user's, or of the world's: one clear message, exit status 2
├── DataError           images missing, broken or laid out wrong; a download that cannot be had
│   ├── DownloadError   the network said no
│   └── FormatError     bytes that are no image of a known format
└── NoTestImagesError   a training asked for test images
DivergedError           a training met a number that is none
CheckpointError         a file that no training can go on from

`tune.errors` continues the tree.
"""

from pathlib import Path


class UserError(Exception):
    """A mistake that its message lets the user repair. Shown without a traceback."""


class DataError(UserError):
    """The images are missing, broken, or not laid out as the source needs them."""


class DownloadError(DataError):
    """A data set or a file of weights could not be downloaded."""


class FormatError(DataError):
    """Bytes are no image of a format that is read."""


class NoTestImagesError(UserError):
    """A training asked for test images, which it is not to see."""


class DivergedError(Exception):
    """`what` was `value`, which is not finite, at `epoch` (from 1) and `step` (from 1, in the whole training)."""

    def __init__(self, epoch: int, step: int, value: float, what: str = "train_loss") -> None:
        super().__init__(epoch, step, value, what)  # as given, so that it can be pickled
        self.epoch, self.step, self.value, self.what = epoch, step, value, what

    def __str__(self) -> str:
        return f"{self.what} was {self.value} at epoch {self.epoch}, step {self.step}"


class CheckpointError(Exception):
    """No training can go on from `file`; `reason` is a line."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(file, reason)
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"{self.file} cannot be resumed from: {self.reason}"


def first_line(error: object) -> str:
    """Of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
