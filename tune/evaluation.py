"""The test set, read once: its only reader, and the ledger of its readings."""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tune.experiment import ExperimentDir, git_commit, versions
from tune.spec import Experiment

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cifar.classifier import ImageClassifier
    from cifar.sources import TrainingData

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation:
    """What one reading of the test set gave. confusion: rows of true, columns of predicted classes."""

    accuracy: float
    low: float
    high: float
    images: int
    loss: float
    confusion: list[list[int]]
    skipped: list[str]


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
    loggers: list["Logger"],
) -> Evaluation:
    """Reads the test set with `model`, and notes the reading in the ledger."""
    from cifar.datamodule import ImageDataModule
    from cifar.train import test

    module = ImageDataModule(experiment.data, data, model.point.batch_size)
    metrics, confusion = test(model, module, experiment.trainer, loggers=loggers)
    right, total = int(confusion.trace()), int(confusion.sum())
    low, high = wilson_interval(right, total)
    figures = Evaluation(
        accuracy=right / total,
        low=low,
        high=high,
        images=total,
        loss=metrics["test_loss"],
        confusion=confusion.tolist(),
        skipped=list(module.test_skipped),
    )
    _note(directory.ledger, directory.model / "model.ckpt", figures)
    return figures


def _note(ledger: Path, checkpoint: Path, figures: Evaluation) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": hashlib.blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "git_commit": git_commit(),
        "version": versions().get("cifar-tune", ""),
        "accuracy": figures.accuracy,
        "images": figures.images,
    }
    with ledger.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
