"""Settings of a training that no search varies: where the images are, and how Lightning's Trainer runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SourceName = Literal["digits", "cifar10", "cifar100", "mnist", "fashion_mnist", "svhn", "image_folder"]

# What a training logs each epoch, and so what a search may optimise; each with its better direction.
METRICS: dict[str, Literal["min", "max"]] = {
    "train_loss": "min",
    "train_accuracy": "max",
    "val_loss": "min",
    "val_accuracy": "max",
}
Average = Literal["raw", "swa", "ema"]  # of the weights that a training passes through, as cifar.averaging has them
Metric = Literal["train_loss", "train_accuracy", "val_loss", "val_accuracy"]


def not_finite(values: Mapping[str, Any], epoch: int) -> str:
    """The first metric that was no number, in words; empty if all were.

    Accuracy stays a number when the loss no longer is, so every metric is looked at.
    """
    wrong = [f"{name} was {values[name]}" for name in METRICS if not math.isfinite(values.get(name, 0.0))]
    return f"{wrong[0]} at epoch {epoch}" if wrong else ""


Size = tuple[int, int]  # height and width of an image, in pixels
_LEAST, _MOST = 4, 1024
_Side = Annotated[int, Field(ge=_LEAST, le=_MOST)]


def as_size(image_size: int | Sequence[int]) -> Size:
    """(height, width), of a square's side too."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def shown_size(size: Size) -> int | list[int]:
    """A size as an experiment file has it: a square's side, or [height, width]."""
    height, width = size
    return height if height == width else [height, width]


def _checked(image_size: object) -> object:
    """Both forms have one rule, where pydantic would name one for each."""
    sides = image_size if isinstance(image_size, list) and len(image_size) == 2 else [image_size]
    if not all(type(side) is int and _LEAST <= side <= _MOST for side in sides):
        raise ValueError(f"must be a square's side, or [height, width] as in [48, 64]; a side is {_LEAST} to {_MOST}")
    return image_size


class Section(BaseModel):
    """A section of the experiment file: unknown names and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which images, and how they are split."""

    source: Annotated[SourceName, Field(description="Where the images come from")]
    root: Annotated[
        str | None, Field(description="Folder of the images (image_folder), or of the downloads (the others)")
    ] = None
    image_size: Annotated[
        Annotated[_Side | Annotated[list[_Side], Field(min_length=2, max_length=2)], BeforeValidator(_checked)] | None,
        Field(
            description="A square's side, or [height, width], in pixels; images of another shape are scaled to cover "
            "it, and their middle is kept; default: 32 for image_folder, else the source's own"
        ),
    ] = None
    limit: Annotated[
        int | None,
        Field(ge=2, description="Use at most so many training images, the same share of each class"),
    ] = None
    validation_fraction: Annotated[
        float, Field(gt=0, lt=1, description="Share of the training images held out, the same of each class")
    ] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**32, description="Fixes which images are held out")] = 0

    @property
    def size(self) -> Size | None:
        """`image_size` as (height, width)."""
        return None if self.image_size is None else as_size(self.image_size)


class EarlyStopping(Section):
    """End a training whose metric no longer improves (Lightning's EarlyStopping)."""

    monitor: Annotated[Metric, Field(description="The metric watched")] = "val_loss"
    patience: Annotated[int, Field(ge=1, description="Epochs without improvement before the end")] = 3


class TrainerConfig(Section):
    """How each training runs; names and meanings are those of Lightning's Trainer."""

    precision: Annotated[Literal[32, "32", "16-mixed", "bf16-mixed"], Field(description="Of the arithmetic")] = "32"
    accelerator: Annotated[Literal["auto", "cpu", "gpu", "cuda", "mps"], Field(description="Kind of device")] = "auto"
    devices: Annotated[int, Field(ge=1, description="Devices a training uses")] = 1
    log_every_n_steps: Annotated[int, Field(ge=1, description="Steps between two logged values")] = 50
    fast_dev_run: Annotated[
        bool | Annotated[int, Field(ge=1)],
        Field(description="Run so many batches of everything, to find bugs; true is one"),
    ] = False
    compile: Annotated[
        bool,
        Field(description="torch.compile each network; the first epoch then takes longer, as compile_seconds says"),
    ] = False
    early_stopping: Annotated[EarlyStopping | None, Field(description="Off unless given")] = None
    prediction_images: Annotated[
        int, Field(ge=0, le=256, description="Validation images logged as pictures with their predictions")
    ] = 0
