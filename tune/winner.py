"""The winner: the best trial becomes the model, trained on with averaged weights, measured and exported."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cifar.hparams import HParams
from tune.errors import LedgerError
from tune.evaluation import Evaluation, evaluate
from tune.experiment import ExperimentDir, to_yaml, whole, write_text
from tune.ledger import Reading, file_hash, read, readings
from tune.spec import Experiment
from tune.tracking import Tracking, loggers
from tune.trials import CHECKPOINT_FILE, Trial

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cifar.classifier import ImageClassifier
    from cifar.datamodule import ImageDataModule
    from cifar.sources import TrainingData

AUTO_LEARNING_RATE = 0.1  # of the winner's: the published recipe averages at 0.01 after a one-cycle peak of 0.1
_ONNX_CHECKED = 256  # images

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """What the retrain gave. onnx_error: why there is no model.onnx, or empty."""

    test: Evaluation
    onnx_error: str


def choose(experiment: Experiment, trials: list[Trial], directory: ExperimentDir) -> Trial | None:
    """Of the trials that neither failed nor diverged the one with the best checkpoint, written to winner.yaml."""
    search = experiment.search
    sign = -1 if search.maximize else 1
    sound = [trial for trial in trials if trial.state in {"completed", "stopped"}]
    kept = [(trial, best) for trial in sound if (best := trial.best_kept(search.maximize))]
    if not kept:
        return None
    winner, (epoch, value) = min(kept, key=lambda pair: (sign * pair[1][1], pair[1][0], pair[0].number))
    record: dict[str, Any] = {
        "trial": winner.number,
        "hparams": winner.hparams,
        "epoch": epoch,
        search.metric: value,
        "why": f"the {'highest' if search.maximize else 'lowest'} {search.metric} of {len(trials)} trials",
        "checkpoint": winner.checkpoints[epoch],
    }
    to_yaml(record, directory.winner)
    directory.publish(directory.winner)
    return winner


def already_made(experiment: Experiment, winner: Trial, directory: ExperimentDir) -> Made | None:
    """The model that an earlier session made of the same winner in the same way, if it did."""
    try:
        metrics = json.loads((directory.model / "metrics.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if metrics.get("made_from") != _made_from(experiment, winner):
        return None
    if not _is_there(directory, metrics.get("model")):  # but the file of a retrain that was killed
        return None
    return Made(Evaluation(**metrics["test"]), metrics["onnx_error"])


def reading_of(experiment: Experiment, winner: Trial, directory: ExperimentDir) -> Reading | None:
    """The last reading of the test set, if its model is the one in model/, made of this winner in this way.

    So it is where a session was killed after the reading began. Raises LedgerError as `tune.ledger.read`.
    """
    known = read(directory.ledger)
    if not known or known[-1].made_from != _made_from(experiment, winner):
        return None
    return known[-1] if _is_there(directory, known[-1].model) else None


def _is_there(directory: ExperimentDir, model: str | None) -> bool:
    """Whether the model in model/ is the one whose file has that hash."""
    file = directory.model / "model.ckpt"
    return file.exists() and file_hash(file) == model


def check_unread(
    experiment: Experiment, winner: Trial, directory: ExperimentDir, sealed: Mapping[str, Any], again: bool
) -> int:
    """How often the test set was read for this experiment, as far as is known. sealed: as `tune.ledger.seal` gave it.

    Raises LedgerError if it was read, another reading would be needed, and the user did not say `again`.
    """
    before = readings(directory.ledger, sealed)
    if before and not again and reading_of(experiment, winner, directory) is None:
        last = read(directory.ledger)[-1:]
        trial = f" for the model of trial {last[0].made_from['trial']}" if last and last[0].made_from else ""
        of = f" on {last[0].time}{trial}" if last else ""
        raise LedgerError(
            f"the test set was read{of}, and the model of trial {winner.number} is to be made anew: what is chosen "
            "after the first reading is not blind to it; to read it once more, and have the report say so, add --again"
        )
    return before


def _made_from(experiment: Experiment, winner: Trial) -> dict[str, Any]:
    best = winner.best_kept(experiment.search.maximize)
    return {"trial": winner.number, "epoch": best and best[0], "retrain": experiment.retrain.model_dump()}


@contextmanager
def _checkpoint(experiment: Experiment, winner: Trial, directory: ExperimentDir) -> Iterator[Path]:
    """The checkpoint of the winner's best epoch, on this machine."""
    best = winner.best_kept(experiment.search.maximize)
    assert best is not None, "a winner has a checkpoint"
    name = f"{winner.checkpoints[best[0]]}/{CHECKPOINT_FILE}"
    if directory.place.local is not None:
        yield directory.place.local / name
        return
    with TemporaryDirectory() as folder:
        directory.place.download(name, Path(folder) / CHECKPOINT_FILE)
        yield Path(folder) / CHECKPOINT_FILE


def make_model(
    experiment: Experiment,
    data: "TrainingData",
    winner: Trial,
    directory: ExperimentDir,
    tracking: Tracking,
    before: int,
    say: Say,
) -> Made:
    """Retrains the winner, saves the model, reads the test set, exports, and leaves model/ complete.

    before: how often the test set was read for this experiment. Where the last time was for this very model, since
    a session was killed after it, it counts as one, and what came out is not asked for again. `say` hears what is
    being done. A network that ONNX cannot express costs the export only. Raises DataError if the images cannot be read.
    """
    from cifar.train import load

    directory.fetch(directory.ledger, directory.model)
    directory.model.mkdir(parents=True, exist_ok=True)
    known = reading_of(experiment, winner, directory)
    model = load(directory.model / "model.ckpt") if known else None
    if known and known.figures:
        figures = Evaluation(**known.figures)
    else:
        hparams = HParams(**winner.hparams)
        with loggers(tracking, "final", directory.model / "tensorboard", hparams) as made:
            if model is None:
                model = _retrain(experiment, data, winner, directory, tracking, made, say)
            say("evaluating")
            figures = evaluate(experiment, model, data, directory, _made_from(experiment, winner), before, made)
    assert model is not None, "loaded or trained"
    say("exporting")
    difference, onnx_error = _export(model, data, directory.model / "model.onnx")
    _save_example(data, directory.model / "example.png")
    record = {
        "test": asdict(figures),
        "per_class": {name: asdict(row) for name, row in figures.per_class(data.classes).items()},
        "validation": _validated(experiment, model, data),
        "classes": list(data.classes),
        "parameters": model.size,
        "onnx_largest_difference": difference,
        "onnx_error": onnx_error,
        "made_from": _made_from(experiment, winner),
        "model": file_hash(directory.model / "model.ckpt"),
    }
    write_text(directory.model / "metrics.json", json.dumps(record, indent=2) + "\n")
    directory.publish(directory.model)
    return Made(figures, onnx_error)


def _retrain(
    experiment: Experiment,
    data: "TrainingData",
    winner: Trial,
    directory: ExperimentDir,
    tracking: Tracking,
    made: list["Logger"],
    say: Say,
) -> "ImageClassifier":
    """The model, saved."""
    from cifar.datamodule import ImageDataModule
    from cifar.train import load, save

    hparams = HParams(**winner.hparams)
    everything = experiment.retrain.on == "train+validation"
    module = ImageDataModule(experiment.data, data, hparams.batch_size, everything=everything)
    if experiment.retrain.start == "checkpoint":
        with _checkpoint(experiment, winner, directory) as file:
            model = load(file)
    else:
        with loggers(tracking, "afresh", directory.model / "tensorboard" / "afresh", hparams) as afresh:
            model = _train_afresh(experiment, hparams, module, afresh, say)
    model = _average(experiment, model, module, made, say)
    (directory.model / "model.onnx").unlink(missing_ok=True)  # of an earlier one, if this cannot be exported
    with whole(directory.model / "model.ckpt") as file:
        save(model, file)
    directory.publish(directory.model / "model.ckpt")
    return model


def _validated(experiment: Experiment, model: "ImageClassifier", data: "TrainingData") -> dict[str, float]:
    """Loss and accuracy on the images held out; nothing where the model was trained on them."""
    from cifar.datamodule import ImageDataModule
    from cifar.train import validate

    if experiment.retrain.on == "train+validation":
        return {}
    return validate(model, ImageDataModule(experiment.data, data, model.point.batch_size), experiment.trainer)


def _train_afresh(
    experiment: Experiment, hparams: HParams, module: "ImageDataModule", made: list["Logger"], say: Say
) -> "ImageClassifier":
    from cifar.callbacks import TellEpochs
    from cifar.train import fit

    return fit(
        hparams,
        module,
        experiment.trainer,
        max_epochs=experiment.scheduler.max_epochs,
        seed=experiment.search.seed,
        loggers=made,
        callbacks=[TellEpochs("training afresh", say)],
    )


def _average(
    experiment: Experiment, model: "ImageClassifier", module: "ImageDataModule", made: list["Logger"], say: Say
) -> "ImageClassifier":
    from cifar.callbacks import TellEpochs
    from cifar.train import average

    plan = experiment.retrain
    rate = model.point.learning_rate * AUTO_LEARNING_RATE if plan.learning_rate == "auto" else plan.learning_rate
    return average(
        model,
        module,
        experiment.trainer,
        epochs=plan.epochs,
        learning_rate=rate,
        seed=experiment.search.seed,
        loggers=made,
        callbacks=[TellEpochs("averaging weights", say)],
    )


def _export(model: "ImageClassifier", data: "TrainingData", file: Path) -> tuple[float | None, str]:
    """The largest difference to torch's probabilities, or why there is no file."""
    import torch

    from cifar.export import to_onnx

    try:
        with whole(file) as beside:
            return to_onnx(model, beside, torch.from_numpy(data.train.pixels[:_ONNX_CHECKED].copy())), ""
    except Exception as error:  # the exporter and a user's network raise what they like
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0]


def _save_example(data: "TrainingData", file: Path) -> None:
    """An image to try the model on."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(data.train.pixels[0])
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file)
