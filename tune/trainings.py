"""The trainings of the last mile, each on the training split, and what each leaves for the choice."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from cifar.errors import DivergedError
from cifar.hparams import HParams
from tune.averaging import Start
from tune.experiment import ExperimentDir
from tune.sections import AVERAGES, RetrainConfig, SearchConfig
from tune.spec import Experiment
from tune.tracking import Tracking, loggers, run_of
from tune.wandb_runs import Begin

if TYPE_CHECKING:
    from cifar.sources import TrainingData

AUTO_LEARNING_RATE = 0.1  # of the winner's: the published recipe averages at 0.01 after a one-cycle peak of 0.1
FINALISTS = "finalists"  # the folder in an experiment directory that has their weights
Result = dict[str, Any]


def _broken(result: Result) -> str:
    """Why there is nothing of it, in words; empty if there is."""
    return next((f"{how}, {result[how]}" for how in ("diverged", "failed") if how in result), "")


def tail_learning_rate(plan: RetrainConfig, hparams: Mapping[str, Any]) -> float:
    """The first learning rate of the epochs that are averaged."""
    return hparams["learning_rate"] * AUTO_LEARNING_RATE if plan.learning_rate == "auto" else plan.learning_rate


@dataclass(frozen=True)
class Repeat:
    """A trial's HParams at full length with another seed."""

    trial: int
    hparams: dict[str, Any]
    seed: int

    @property
    def key(self) -> str:
        """Of its result in the study."""
        return f"finalist {self.trial} seed {self.seed}"

    @property
    def name(self) -> str:
        """Of its folder among the trials', and in W&B."""
        return f"{self.trial:05d}-seed-{self.seed}"

    @property
    def run(self) -> Begin:
        """What W&B is told when it begins."""
        return run_of(self.name, "finalist", self.hparams, self.trial, self.seed)

    @property
    def title(self) -> str:
        """By which Ray shows it."""
        return f"finalist, trial {self.trial} again, seed {self.seed}"

    @property
    def file(self) -> str:
        """Its last weights, in the experiment directory."""
        return f"{FINALISTS}/{self.name}.ckpt"

    def train(
        self, experiment: Experiment, data: "TrainingData", directory: ExperimentDir, tracking: Tracking
    ) -> Result:
        """The metric after each epoch, and what the last weights give on the validation images."""
        from cifar.callbacks import KeepValues
        from cifar.datamodule import ImageDataModule
        from cifar.train import fit, save, validate

        began = time.monotonic()
        hparams = HParams(**self.hparams)
        module = ImageDataModule(experiment.data, data, hparams.batch_size)
        keep = KeepValues()
        try:
            with loggers(tracking, self.run, directory.trials / self.name) as made:
                model = fit(
                    hparams,
                    module,
                    experiment.trainer,
                    max_epochs=experiment.scheduler.max_epochs,
                    seed=self.seed,
                    loggers=made,
                    callbacks=[keep],
                )
        except DivergedError as error:
            return {"diverged": str(error), "seconds": time.monotonic() - began}
        if broken := keep.not_finite():
            return {"diverged": broken, "seconds": time.monotonic() - began}
        ended = validate(model, module, experiment.trainer)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "weights.ckpt"
            save(model, file)
            directory.place.upload(file, self.file)
        curve = [values[experiment.search.metric] for values in keep.values.values()]
        return {"curve": curve, "ended": ended, "seconds": time.monotonic() - began}

    def told(self, result: Result, search: SearchConfig) -> str:
        """In a line for the user."""
        became = _broken(result)
        if not became:
            curve = result["curve"]
            best = (max if search.maximize else min)(curve)
            became = f"{search.metric} {best:.4f} at epoch {curve.index(best) + 1} of {len(curve)}"
        return f"trial {self.trial} again, seed {self.seed}: {became}"


@dataclass(frozen=True)
class Tail:
    """A training that goes on from weights, averaging as it goes. file: those weights, in the experiment directory."""

    trial: int
    start: Start
    lr_schedule: Literal["constant", "cosine"]
    epochs: int
    learning_rate: float
    seed: int
    file: str

    @property
    def key(self) -> str:
        """Of its result in the study."""
        start = self.file if self.start == "checkpoint" else "scratch"
        return (
            f"tail of {self.trial} from {start}, {self.lr_schedule}, {self.epochs} epochs, "
            f"learning_rate {self.learning_rate:g}, seed {self.seed}"
        )

    @property
    def title(self) -> str:
        """By which Ray shows it."""
        return f"{self.lr_schedule} tail of trial {self.trial} from {self.start}, seed {self.seed}"

    def train(
        self, experiment: Experiment, data: "TrainingData", directory: ExperimentDir, tracking: Tracking
    ) -> Result:
        """val_loss and val_accuracy of each average."""
        from cifar.datamodule import ImageDataModule
        from cifar.train import go_on, load, validate

        began = time.monotonic()
        with directory.place.opened(self.file) as file:
            model = load(file)
        module = ImageDataModule(experiment.data, data, model.point.batch_size)
        try:
            models = go_on(
                model,
                module,
                experiment.trainer,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                lr_schedule=self.lr_schedule,
                seed=self.seed,
            )
        except DivergedError as error:
            return {"diverged": str(error), "seconds": time.monotonic() - began}
        figures: Result = {name: validate(each, module, experiment.trainer) for name, each in models.items()}
        return {**figures, "seconds": time.monotonic() - began}

    def told(self, result: Result, search: SearchConfig) -> str:
        """In a line for the user."""
        begun = "afresh" if self.start == "scratch" else "from the checkpoint"
        became = _broken(result) or ", ".join(
            f"{name} {result[name][validation_metric(search.metric)]:.4f}" for name in AVERAGES
        )
        return f"{self.lr_schedule} tail, {begun}, seed {self.seed}: {became}"


def validation_metric(metric: str) -> str:
    """The metric on the validation images, by which weights are chosen whatever the search looked at."""
    return f"val_{metric.partition('_')[2]}"


Job = Repeat | Tail
