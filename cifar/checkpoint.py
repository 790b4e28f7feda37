"""Checkpoints of trainings: whole and of the right training, or an error that says what is wrong."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from cifar.errors import CheckpointError
from cifar.hparams import MUTABLE, HParams

_PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step", "hyper_parameters")


def check_checkpoint(file: Path) -> None:
    """Raises CheckpointError unless `file` is a whole checkpoint that a training can go on from.

    Reads every byte, since torch.load does not look at checksums, and builds no model: 0.1 s for 100 MB.
    """
    read_checkpoint(file)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """As `read_file`, of a checkpoint that a training can go on from. Raises CheckpointError as `check_checkpoint`."""
    content = read_file(file)
    missing = [part for part in _PARTS if not isinstance(content, dict) or part not in content]
    if missing:
        raise CheckpointError(file, f"it holds no {', '.join(missing)}, so is not of a training")
    return dict(content)


def read_file(file: Path) -> Any:
    """What torch saved in `file`, on the CPU. Only tensors and plain values are unpickled.

    Raises CheckpointError if it is missing or damaged, or holds anything else.
    """
    if not file.is_file():
        raise CheckpointError(file, "it is not a file" if file.exists() else "there is no such file")
    if file.stat().st_size == 0:
        raise CheckpointError(file, "it is empty")
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        content: Any = None if broken else torch.load(file, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile:
        raise CheckpointError(file, "it is cut short, damaged, or no checkpoint") from None
    except Exception as error:  # a broken file makes zipfile and torch raise nearly anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(file, f"it is damaged ({reason})") from None
    if broken:
        raise CheckpointError(file, f"it is damaged (the checksum of {broken} is wrong)")
    return content


def check_hparams(file: Path, content: dict[str, Any], hparams: HParams, *, changed: bool) -> None:
    """Raises ValueError, naming them, if HParams differ from those of the checkpoint `file` that must not.

    Those of MUTABLE may, if `changed`. Raises CheckpointError where the file's are none that this version knows.
    """
    try:
        theirs = HParams(**content["hyper_parameters"]["hparams"])
    except (KeyError, TypeError, ValidationError):
        raise CheckpointError(file, "it is of another program, or of another version of this one") from None
    different = [name for name in HParams.model_fields if getattr(theirs, name) != getattr(hparams, name)]
    wrong = [name for name in different if name not in MUTABLE] if changed else different
    if wrong:
        found = ", ".join(f"{name} is {getattr(hparams, name)!r}, was {getattr(theirs, name)!r}" for name in wrong)
        allowed = f"only {', '.join(MUTABLE)} can change" if changed else "must be the checkpoint's unless `changed`"
        raise ValueError(f"{found}; {allowed}")
