"""The test set, read once: its only reader."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tune.experiment import ExperimentDir, git_commit, versions
from tune.ledger import Reading, complete, file_hash, note, read
from tune.spec import Experiment

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cifar.callbacks import Mistake
    from cifar.classifier import ImageClassifier
    from cifar.sources import Images, TrainingData

CONFIDENCE = 0.95
MISTAKES = "mistakes"  # the folder in model/ with the images that the model was most sure of, and wrong
_MISTAKES = 24


@dataclass(frozen=True)
class Accuracy:
    """The share of images that were classified rightly, and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2%} (95 % interval {self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True)
class ClassFigures:
    """How a class of the test images fared; None where there was nothing to take a share of.

    precision: the share of the images named so that are of it; recall: the share of its images that were named so;
    f1: the harmonic mean of both. images: how many are of it.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    images: int


@dataclass(frozen=True)
class Evaluation:
    """What one reading of the test set gave. confusion: rows of true, columns of predicted classes.

    with_views: with test-time augmentation; None where training neither mirrored nor shifted images. reading: the
    how manyth it was of the experiment; only the first is blind. calibration_error: as cifar.classifier has it; None
    in a ledger from before it was measured. mistakes: the surest ones first, each image (its place in the test), file
    (in model/), true and predicted (class indices) and probability.
    """

    accuracy: float
    low: float
    high: float
    images: int
    loss: float
    confusion: list[list[int]]
    skipped: list[str]
    with_views: dict[str, float] | None = None
    reading: int = 1
    calibration_error: float | None = None
    mistakes: list[dict[str, Any]] = field(default_factory=list)

    def in_words(self) -> str:
        """The accuracy, with its interval."""
        return f"{Accuracy(self.accuracy, self.low, self.high)}"[:-1] + f", {self.images} images)"

    @property
    def augmented(self) -> Accuracy | None:
        """With test-time augmentation, if there is any."""
        return Accuracy(**self.with_views) if self.with_views else None

    def per_class(self, classes: Sequence[str]) -> dict[str, ClassFigures]:
        """By the names of the classes, which are in label order."""
        named = [sum(column) for column in zip(*self.confusion, strict=True)]
        return {
            name: ClassFigures(
                precision=_share(row[label], named[label]),
                recall=_share(row[label], sum(row)),
                f1=_share(2 * row[label], named[label] + sum(row)),
                images=sum(row),
            )
            for label, (name, row) in enumerate(zip(classes, self.confusion, strict=True))
        }


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, JASA 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def evaluate(
    experiment: Experiment,
    model: "ImageClassifier",
    data: "TrainingData",
    directory: ExperimentDir,
    made_from: dict[str, Any],
    before: int,
    loggers: list["Logger"],
) -> Evaluation:
    """Reads the test set with `model`, which is saved in `directory` already; the ledger knows before it begins.

    A reading of the same model that was cut short is the same reading: no other figures can come of it.
    made_from: what the model was made from; before: how often the test set was read for this experiment.
    """
    from cifar.testset import EvaluationDataModule
    from cifar.train import test

    reading = Reading(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        model=file_hash(directory.model / "model.ckpt"),
        git_commit=git_commit(),
        version=versions().get("cifar-tune", ""),
        made_from=made_from,
    )
    known = read(directory.ledger)
    number = max(before, len(known))
    if not (known and known[-1].model == reading.model and not known[-1].figures):  # else that one goes on
        note(directory.ledger, reading)
        directory.publish(directory.ledger)
        number += 1
    module = EvaluationDataModule(experiment.data, data, model.point.batch_size)
    tested = test(model, module, experiment.trainer, loggers=loggers, mistakes=_MISTAKES)
    metrics, confusion = tested.metrics, tested.confusion
    total = int(confusion.sum())
    plain, with_views = (_accuracy(int(matrix.trace()), total) for matrix in (confusion, tested.confusion_of_views))
    figures = Evaluation(
        accuracy=plain.value,
        low=plain.low,
        high=plain.high,
        images=total,
        loss=metrics["test_loss"],
        confusion=confusion.tolist(),
        skipped=list(module.test.skipped),
        with_views=asdict(with_views) if model.augment.has_views else None,
        reading=number,
        calibration_error=metrics["test_calibration_error"],
        mistakes=_saved(tested.mistakes, module.test, directory),
    )
    complete(
        directory.ledger,
        replace(reading, accuracy=figures.accuracy, images=figures.images, figures=asdict(figures)),
    )
    directory.publish(directory.ledger)
    return figures


def _saved(mistakes: Sequence["Mistake"], images: "Images", directory: ExperimentDir) -> list[dict[str, Any]]:
    """What is told of each mistake, its image among the files of the model; those of an earlier model go."""
    from cifar.sources import save_image

    folder = directory.model / MISTAKES
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = []
    for one in mistakes:
        file = folder / f"{one.image:06d}.png"
        save_image(images.pixels[one.image], file)
        told.append({**asdict(one), "file": f"{MISTAKES}/{file.name}"})
    if directory.remote is not None:
        directory.remote.delete(folder.relative_to(directory.path).as_posix())
    if told:
        directory.publish(folder)
    return told


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _accuracy(right: int, total: int) -> Accuracy:
    return Accuracy(right / total, *wilson_interval(right, total))
