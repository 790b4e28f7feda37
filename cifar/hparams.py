"""HParams: one point of a search space, and the only contract between a search and a training."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cifar.network_names import checked_name

Optimizer = Literal["sgd", "adam", "adamw"]
LRSchedule = Literal["one_cycle", "cosine", "step", "constant"]

# What a training can go on with otherwise than it began (`fit(..., changed=True)`): what each step reads afresh. The
# rest shaped the weights, the optimizer's state or the count of steps, and is fixed by them.
MUTABLE = (
    "dropout",
    "label_smoothing",
    "learning_rate",
    "weight_decay",
    "momentum",
    "nesterov",
    "beta1",
    "beta2",
    "warmup_fraction",
    "div_factor",
    "final_div_factor",
    "min_lr_fraction",
    "step_epochs",
    "gamma",
    "translate",
    "flip",
    "cutout",
    "color_jitter",
)


def _only_with(**conditions: list[str]) -> dict[str, Any]:
    """Marks a field that has an effect only while others have one of the given values."""
    return {"only_with": conditions}


class HParams(BaseModel):
    """What one training is told to do. Frozen; every field has a default, a range and a unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    network: Annotated[
        str,
        Field(
            description="cnn, resnet9, resnet18, resnet34, a torchvision classifier, or package.module:factory",
        ),
        AfterValidator(checked_name),
    ] = "resnet18"
    pretrained: Annotated[bool, Field(description="Start from ImageNet weights, with a new head")] = False
    width: Annotated[float, Field(gt=0, le=16, description="Multiplier of the channels of every layer")] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Probability of zeroing a feature before the head")] = 0.0

    batch_size: Annotated[int, Field(ge=1, le=65536, description="Images a step")] = 128
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="Probability spread over all classes")] = 0.0

    optimizer: Annotated[Optimizer, Field(description="The rule of the weights' update")] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, le=100, description="The schedule's highest learning rate")] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1, description="L2 penalty (sgd, adam) or decay (adamw)")] = 5e-4
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="Momentum", json_schema_extra=_only_with(optimizer=["sgd"]))
    ] = 0.9
    nesterov: Annotated[
        bool, Field(description="Nesterov's momentum", json_schema_extra=_only_with(optimizer=["sgd"]))
    ] = False
    beta1: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Decay of the mean of gradients",
            json_schema_extra=_only_with(optimizer=["adam", "adamw"]),
        ),
    ] = 0.9
    beta2: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Decay of the mean of squared gradients",
            json_schema_extra=_only_with(optimizer=["adam", "adamw"]),
        ),
    ] = 0.999

    lr_schedule: Annotated[LRSchedule, Field(description="Course of the learning rate over a training")] = "one_cycle"
    warmup_fraction: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of the training in which the learning rate rises",
            json_schema_extra=_only_with(lr_schedule=["one_cycle"]),
        ),
    ] = 0.3
    div_factor: Annotated[
        float,
        Field(
            ge=1,
            le=1e6,
            description="Highest learning rate / first",
            json_schema_extra=_only_with(lr_schedule=["one_cycle"]),
        ),
    ] = 25.0
    final_div_factor: Annotated[
        float,
        Field(
            ge=1,
            le=1e8,
            description="First learning rate / last",
            json_schema_extra=_only_with(lr_schedule=["one_cycle"]),
        ),
    ] = 1e4
    min_lr_fraction: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Last learning rate / highest",
            json_schema_extra=_only_with(lr_schedule=["cosine"]),
        ),
    ] = 0.0
    step_epochs: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Epochs between two drops of the learning rate",
            json_schema_extra=_only_with(lr_schedule=["step"]),
        ),
    ] = 30
    gamma: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Factor of each drop",
            json_schema_extra=_only_with(lr_schedule=["step"]),
        ),
    ] = 0.1

    translate: Annotated[int, Field(ge=0, le=512, description="Random shift of up to so many pixels")] = 0
    flip: Annotated[
        bool | Literal["alternating"],
        Field(description="Horizontal flip, at random; alternating: of each image in every second epoch"),
    ] = False
    cutout: Annotated[int, Field(ge=0, le=512, description="Side of a random blank square, in pixels")] = 0
    color_jitter: Annotated[
        float, Field(ge=0, le=1, description="Brightness, contrast, saturation each times a factor from 1 - x to 1 + x")
    ] = 0.0


def only_with(name: str) -> dict[str, list[str]]:
    """The values of other fields under which the field `name` has an effect; empty if it always has one."""
    extra = HParams.model_fields[name].json_schema_extra
    conditions = extra.get("only_with", {}) if isinstance(extra, dict) else {}
    return dict(conditions) if isinstance(conditions, dict) else {}  # type: ignore[arg-type]
