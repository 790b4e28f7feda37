"""Settings of a training that no search varies: where the images are, and how Lightning's Trainer runs."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SourceName = Literal["digits", "cifar10", "cifar100", "mnist", "fashion_mnist", "svhn", "image_folder"]

# What a training logs each epoch, and so what a search may optimise; each with its better direction.
METRICS: dict[str, Literal["min", "max"]] = {
    "train_loss": "min",
    "train_accuracy": "max",
    "val_loss": "min",
    "val_accuracy": "max",
}
Metric = Literal["train_loss", "train_accuracy", "val_loss", "val_accuracy"]


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
        int | None,
        Field(ge=4, le=1024, description="Side in pixels; default: 32 for image_folder, else the source's own"),
    ] = None
    limit: Annotated[
        int | None,
        Field(ge=2, description="Use at most so many training images, the same share of each class"),
    ] = None
    validation_fraction: Annotated[
        float, Field(gt=0, lt=1, description="Share of the training images held out, the same of each class")
    ] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**32, description="Fixes which images are held out")] = 0


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
