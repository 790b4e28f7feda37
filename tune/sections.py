"""The sections of the experiment file that belong to the service: what each field means, and its bounds. Pure."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cifar.config import METRICS, Average, DataConfig, Metric, Section, TrainerConfig
from tune.rungs import rung_epochs
from tune.space import Scalar

Auto = Literal["auto"]
AVERAGES: tuple[Average, ...] = get_args(Average)
Mode = Literal["min", "max"]
Sampler = Literal["gp", "tpe", "plain_gp", "plain_tpe", "cmaes", "nsga2", "qmc", "random", "grid"]
Point = dict[Annotated[str, BeforeValidator(str)], Scalar]  # a name that is no text is unknown, as another would be
MOST_TRIALS = 1_000_000

# What a trial costs, and so what a search may optimise beside a metric; each with its better direction.
COSTS: dict[str, Mode] = {"parameters": "min", "flops": "min", "epoch_seconds": "min", "inference_ms": "min"}
Measure = Literal[Metric, "parameters", "flops", "epoch_seconds", "inference_ms"]
LEAST_OBJECTIVES, MOST_OBJECTIVES = 2, 4


class Objective(Section):
    """One of several numbers that are optimised together."""

    metric: Annotated[
        Measure,
        Field(
            description="What a training logs, at the trial's best epoch; or parameters: how many numbers are trained; "
            "flops: floating-point operations of a forward of one image; epoch_seconds: median busy seconds of an "
            "epoch; inference_ms: median milliseconds of a forward of one image on the trial's device"
        ),
    ]
    mode: Annotated[
        Mode,
        Field(
            default_factory=lambda given: (METRICS | COSTS)[given["metric"]],
            description="Default: the metric's better direction",
        ),
    ]

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.mode == "max"


class Bounds(Section):
    """What a value may be, the bounds included."""

    lower: Annotated[float | None, Field(description="The least that it may be")] = None
    upper: Annotated[float | None, Field(description="The most that it may be")] = None


class WinnerRule(Section):
    """By which objective the winner is taken, the first one unless said, and of which trials."""

    max: Annotated[Measure | None, Field(description="The objective whose highest value wins")] = None
    min: Annotated[Measure | None, Field(description="The objective whose lowest value wins")] = None
    subject_to: dict[Measure, Bounds] = Field(
        default_factory=dict, description="Objective: what it may be of a trial that can win"
    )


def _main_metric(given: dict[str, Any]) -> Metric:
    """Where there are objectives, the first that a training logs stands for the metric."""
    trained: list[Metric] = [each.metric for each in given["objectives"] or () if each.metric in METRICS]
    return trained[0] if trained else "val_accuracy"


def _main_mode(given: dict[str, Any]) -> Mode | None:
    return next((each.mode for each in given["objectives"] or () if each.metric == given["metric"]), None)


def _first_wins(given: dict[str, Any]) -> WinnerRule | None:
    first: Objective | None = next(iter(given["objectives"] or ()), None)
    return WinnerRule.model_validate({first.mode: first.metric}) if first else None


class SearchConfig(Section):
    """What is optimised, and how long for."""

    objectives: Annotated[
        list[Objective] | None,
        Field(
            description="In place of metric: 2 to 4 numbers to be optimised together, at least one that trainings log",
            json_schema_extra={"minItems": LEAST_OBJECTIVES, "maxItems": MOST_OBJECTIVES},
        ),
    ] = None
    choose: Annotated[
        WinnerRule | None,
        Field(
            default_factory=_first_wins,
            description="With objectives: which trial wins. Default: the best by the first objective, without bounds",
        ),
    ]
    metric: Annotated[
        Metric,
        Field(default_factory=_main_metric, description="The number that ranks trials; default val_accuracy"),
    ]
    mode: Annotated[
        Mode | None, Field(default_factory=_main_mode, description="Default: the metric's better direction")
    ]
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS, description="How many trials to start")] = 16
    time_budget_s: Annotated[
        float | None,
        Field(gt=0, description="Seconds after which the search ends; trials then running are stopped"),
    ] = None
    epoch_budget: Annotated[
        int | None, Field(ge=1, description="Epochs of all trials together after which no more is trained")
    ] = None
    target: Annotated[float | None, Field(description="The search ends when the metric reaches it")] = None
    patience: Annotated[
        int | None,
        Field(
            ge=1,
            description="The search ends when so many ended trials in a row improved by no more than min_improvement",
        ),
    ] = None
    min_improvement: Annotated[
        float, Field(ge=0, description="In the metric's unit; what patience takes for an improvement is more")
    ] = 0.0
    sampler: Annotated[
        Sampler,
        Field(
            description="What proposes HParams. gp: a Gaussian process over all rungs; tpe: Parzen estimators at the "
            "highest rung that enough trials passed; plain_gp and plain_tpe are Optuna's own; cmaes: numbers only, "
            "without early stopping; nsga2: breeds the best, of several objectives only; qmc: evenly spread; grid: "
            "every point of a space without float domains. Default: gp, with objectives tpe",
            default_factory=lambda given: "gp" if given["objectives"] is None else "tpe",
        ),
    ]
    start: list[Point] = Field(
        default_factory=list,
        description="Starting points, HParam: value; tried first, in order. What one leaves out is drawn",
    )
    warm_start: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Names or paths of earlier experiments whose trials the sampler learns from",
    )
    max_retries: Annotated[
        int, Field(ge=0, description="How often a trial is started again after its worker or node was lost")
    ] = 3
    trial_timeout: Annotated[
        float | None,
        Field(gt=0, description="Seconds without a report after which a trial is taken for hung, killed and retried"),
    ] = None
    keep_checkpoints: Annotated[
        int,
        Field(
            ge=1,
            description="How many of the best ended trials keep their best checkpoint; at least retrain.finalists",
        ),
    ] = 10
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the sampler and of every training")] = 0

    @model_serializer(mode="wrap")
    def _without_what_objectives_say(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        return {name: told[name] for name in told if not (self.objectives and name in {"metric", "mode"})}

    @property
    def maximize(self) -> bool:
        """Whether a higher value of the metric is better."""
        return (self.mode or METRICS[self.metric]) == "max"


class SchedulerConfig(Section):
    """Which trials are stopped early."""

    type: Annotated[
        Literal["asha", "hyperband", "median", "pbt", "none"],
        Field(
            description="asha: rungs; hyperband: asha in brackets of different grace periods; median: stops below the "
            "median of the others; pbt: replaces the worst by changed copies of the best; none: trains all to the end"
        ),
    ] = "asha"
    mode: Annotated[
        Literal["stop", "promote"] | None,
        Field(
            description="Of asha. promote (default) pauses every trial at its rung with a checkpoint, and the best go "
            "on when a slot is free; stop ends a trial below its rung's cutoff",
        ),
    ] = None
    max_epochs: Annotated[int, Field(ge=1, le=100_000, description="Length of a full training")] = 30
    grace_period: Annotated[
        int, Field(ge=1, description="Epochs before the first comparison; with pbt, between two")
    ] = 1
    min_peers: Annotated[
        int | None,
        Field(ge=1, description="Values before any is judged at a rung; default: reduction_factor, of median 3"),
    ] = None
    reduction_factor: Annotated[
        int,
        Field(ge=2, le=1000, description="One in so many trials passes a rung; rungs lie this factor apart"),
    ] = 4
    quantile: Annotated[float, Field(gt=0, le=0.5, description="Of pbt: share of the population replaced")] = 0.25
    audit: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the stopped trials, drawn at random, that run on to max_epochs unseen by sampler, "
            "rungs and winner, when no trial of the search wants the slot, so that the report can say what stopping "
            "cost; a limit that ends the search ends them too",
        ),
    ] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _promote_by_default(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("type", "asha") == "asha" and given.get("mode") is None:
            return {**given, "mode": "promote"}
        return given

    @property
    def promotes(self) -> bool:
        """Whether trials pause at rungs, and the best go on."""
        return self.mode == "promote"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs before max_epochs at which trials are compared."""
        return rung_epochs(self.grace_period, self.reduction_factor, self.max_epochs)

    @property
    def pauses(self) -> tuple[int, ...]:
        """The epochs at which a trial waits for others, with its checkpoint."""
        if self.type == "pbt":
            return tuple(range(self.grace_period, self.max_epochs, self.grace_period))
        return self.rungs if self.promotes else ()


class ResourcesConfig(Section):
    """What each trial takes of the cluster."""

    cpus_per_trial: Annotated[
        Annotated[float, Field(gt=0)] | Auto,
        Field(description="CPU cores; auto: 1 without GPUs, else the cores each GPU's share has"),
    ] = "auto"
    gpus_per_trial: Annotated[
        Annotated[float, Field(ge=0)] | Auto,
        Field(
            description="GPUs, or a fraction of one; auto: as many trials share one as are fastest together, measured "
            "with the space's smallest and largest; 0 without GPUs"
        ),
    ] = "auto"
    max_concurrent: Annotated[int | None, Field(ge=1, description="Trials at once at most; default: what fits")] = None
    max_gpus: Annotated[
        float | None,
        Field(gt=0, description="GPUs that all trials together take at most, of a shared cluster; default: all"),
    ] = None


class RetrainConfig(Section):
    """How the winner is chosen of the best few, and how it becomes the model."""

    finalists: Annotated[
        int, Field(ge=1, le=100, description="How many of the best trials are trained again before one is chosen")
    ] = 3
    seeds: Annotated[
        Annotated[int, Field(ge=0, le=100)] | Auto,
        Field(
            description="How many fresh seeds each finalist is trained with, at full length; auto: 3, with pbt 0, "
            "where the search's best wins as it is, and nothing that is auto below is compared"
        ),
    ] = "auto"
    start: Annotated[
        Literal["auto", "checkpoint", "scratch"],
        Field(
            description="From the winner's best checkpoint, or its HParams afresh at full length first; auto: what is "
            "better on the validation images"
        ),
    ] = "auto"
    average: Annotated[
        Literal["auto", "raw", "swa", "ema"],
        Field(
            description="The model's weights: raw, the last ones; swa, the average of those after each epoch; ema, an "
            "exponential average over the steps; auto: what is best on the validation images"
        ),
    ] = "auto"
    lr_schedule: Annotated[
        Literal["auto", "none", "constant", "cosine"],
        Field(
            description="Course of the learning rate over the epochs that are averaged; none: no such epochs; auto: "
            "what is best on the validation images"
        ),
    ] = "auto"
    on: Annotated[Literal["train+validation", "train"], Field(description="The images trained on")] = "train+validation"
    epochs: Annotated[int, Field(ge=1, le=100_000, description="Epochs whose weights are averaged")] = 20
    learning_rate: Annotated[
        Annotated[float, Field(gt=0, le=100)] | Auto,
        Field(description="The first one, while averaging; auto: a tenth of the winner's"),
    ] = "auto"
    devices: Annotated[
        int, Field(ge=1, le=4096, description="Processes that train the model together, each on its share of a batch")
    ] = 1


class TrackingConfig(Section):
    """Where curves go besides TensorBoard files, which are always written."""

    wandb: Annotated[Literal["off", "online", "offline"] | None, Field(description="Default: WANDB_MODE, or off")] = (
        None
    )
    project: Annotated[str, Field(min_length=1, max_length=128, description="W&B project")] = "cifar-tune"


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
    "trainer": TrainerConfig,
    "retrain": RetrainConfig,
    "tracking": TrackingConfig,
}
