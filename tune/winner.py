"""The winner becomes the model: trained in the way that was chosen, measured and exported."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar.errors import first_line
from cifar.hparams import HParams
from tune.evaluation import Evaluation, evaluate
from tune.experiment import ExperimentDir, whole, write_text
from tune.last_mile import Winner
from tune.ledger import Reading, file_hash, read, readings, second_reading
from tune.spec import Experiment
from tune.tracking import Tracking, loggers, run_of
from tune.trainings import tail_learning_rate
from tune.wandb_runs import Begin, End, JobType

if TYPE_CHECKING:
    from cifar.classifier import ImageClassifier
    from cifar.datamodule import ImageDataModule
    from cifar.sources import TrainingData
    from cifar.train import Parallel

_ONNX_CHECKED = 256  # images

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """What the retrain gave. onnx_error: why there is no model.onnx, or empty."""

    test: Evaluation
    onnx_error: str


def already_made(experiment: Experiment, winner: Winner, directory: ExperimentDir) -> Made | None:
    """The model that an earlier session made of the same winner in the same way, if it did."""
    try:
        metrics = json.loads((directory.model / "metrics.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if metrics.get("made_from") != winner.made_from(experiment):
        return None
    if not _is_there(directory, metrics.get("model")):  # but the file of a retrain that was killed
        return None
    return Made(Evaluation(**metrics["test"]), metrics["onnx_error"])


def reading_of(experiment: Experiment, winner: Winner, directory: ExperimentDir) -> Reading | None:
    """The last reading of the test set, if its model is the one in model/, made of this winner in this way.

    So it is where a session was killed after the reading began. Raises LedgerError as `tune.ledger.read`.
    """
    known = read(directory.ledger)
    if not known or known[-1].made_from != winner.made_from(experiment):
        return None
    return known[-1] if _is_there(directory, known[-1].model) else None


def _is_there(directory: ExperimentDir, model: str | None) -> bool:
    """Whether the model in model/ is the one whose file has that hash."""
    file = directory.model / "model.ckpt"
    return file.exists() and file_hash(file) == model


def check_unread(
    experiment: Experiment,
    winner: Winner,
    directory: ExperimentDir,
    sealed: Mapping[str, Any],
    *,
    again: bool,
    anew: bool,
) -> int:
    """How often the test set was read for this experiment, as far as is known. sealed: as `tune.ledger.seal` gave it.

    anew: the model is made again, whatever is there. Raises LedgerError if the test set was read, another reading would
    be needed, and the user did not say `again`.
    """
    before = readings(directory.ledger, sealed)
    if before and not again and (anew or reading_of(experiment, winner, directory) is None):
        raise second_reading(directory.ledger, f"the model of trial {winner.trial.number}")
    return before


def train_model(
    experiment: Experiment,
    data: "TrainingData",
    winner: Winner,
    directory: ExperimentDir,
    tracking: Tracking | None,
    say: Say,
    parallel: "Parallel | None" = None,
) -> None:
    """Trains the winner in its way, and saves model.ckpt.

    parallel: where several processes do so together; the first of them saves. Raises what `cifar.train.fit` raises.
    """
    from cifar.callbacks import TellEpochs
    from cifar.datamodule import ImageDataModule
    from cifar.train import go_on, load, save

    directory.model.mkdir(parents=True, exist_ok=True)
    hparams, way, plan = HParams(**winner.trial.hparams), winner.way, experiment.retrain
    module = ImageDataModule(experiment.data, data, hparams.batch_size, everything=plan.on == "train+validation")
    if way.start == "scratch":
        model = _trained_afresh(experiment, winner, module, directory, tracking, say, parallel)
    else:
        with directory.place.opened(winner.trial.winning_file(experiment.search.maximize)) as file:
            model = load(file)
    if way.lr_schedule != "none":
        with loggers(tracking, _run("final", experiment, winner), directory.model / "tensorboard") as made:
            averages = go_on(
                model,
                module,
                experiment.trainer,
                epochs=plan.epochs,
                learning_rate=tail_learning_rate(plan, winner.trial.hparams),
                lr_schedule=way.lr_schedule,
                seed=experiment.search.seed,
                loggers=made,
                callbacks=[TellEpochs(f"{way.lr_schedule} tail", say)],
                parallel=parallel,
            )
        model = averages[way.average]
    if parallel and not parallel.first:
        return
    onnx = directory.model / "model.onnx"  # of an earlier one, if this cannot be exported
    onnx.unlink(missing_ok=True)
    directory.place.delete(onnx.relative_to(directory.path).as_posix())
    with whole(directory.model / "model.ckpt") as file:
        save(model, file)
    directory.publish(directory.model / "model.ckpt")


def _trained_afresh(
    experiment: Experiment,
    winner: Winner,
    module: "ImageDataModule",
    directory: ExperimentDir,
    tracking: Tracking | None,
    say: Say,
    parallel: "Parallel | None",
) -> "ImageClassifier":
    from cifar.callbacks import EndAfter, TellEpochs
    from cifar.train import fit

    run = _run("afresh", experiment, winner)
    with loggers(tracking, run, directory.model / "tensorboard" / "afresh") as made:
        model = fit(
            HParams(**winner.trial.hparams),
            module,
            experiment.trainer,
            max_epochs=experiment.scheduler.max_epochs,
            seed=experiment.search.seed,
            loggers=made,
            callbacks=[TellEpochs("training afresh", say), EndAfter(winner.epochs)],
            parallel=parallel,
        )
    if tracking is not None:
        tracking.tell(End(run.name, "completed", "", winner.epochs))
    return model


def _run(name: Literal["afresh", "final"], experiment: Experiment, winner: Winner) -> Begin:
    """A training of the winner, as W&B is told of it."""
    job: JobType = "final" if name == "final" else "retrain"
    return run_of(name, job, winner.trial.hparams, winner.trial.number, experiment.search.seed)


def finish_model(
    experiment: Experiment,
    data: "TrainingData",
    winner: Winner,
    directory: ExperimentDir,
    tracking: Tracking,
    before: int,
    say: Say,
) -> Made:
    """Reads the test set with model.ckpt, exports it, and leaves model/ complete.

    before: how often the test set was read for this experiment. Where the last time was for this very model, since
    a session was killed after it, it counts as one, and what came out is not asked for again. `say` hears what is
    being done. A network that ONNX cannot express costs the export only. Raises DataError if the images cannot be read.
    """
    from cifar import sources
    from cifar.train import load

    directory.fetch(directory.ledger, directory.model)
    model = load(directory.model / "model.ckpt")
    known = reading_of(experiment, winner, directory)
    if known and known.figures:
        figures = Evaluation(**known.figures)
    else:
        say("evaluating")
        unheard = replace(tracking, sink=None)  # W&B is told all of it at once, with the report
        with loggers(unheard, _run("final", experiment, winner), directory.model / "tensorboard") as made:
            figures = evaluate(experiment, model, data, directory, winner.made_from(experiment), before, made)
    say("exporting")
    difference, onnx_error = _export(model, data, directory.model / "model.onnx")
    sources.save_image(data.train.pixels[0], directory.model / "example.png")  # to try the model on
    training, validation = sources.counts(data, experiment.data)
    record = {
        "test": asdict(figures),
        "per_class": {name: asdict(row) for name, row in figures.per_class(data.classes).items()},
        "validation": _validated(experiment, model, data),
        "classes": list(data.classes),
        "image_shape": [data.channels, *data.image_size],
        "training_images": training,
        "validation_images": validation,
        "skipped": [*data.skipped, *figures.skipped],
        "parameters": model.size,
        "onnx_largest_difference": difference,
        "onnx_error": onnx_error,
        "made_from": winner.made_from(experiment),
        "model": file_hash(directory.model / "model.ckpt"),
    }
    write_text(directory.model / "metrics.json", json.dumps(record, indent=2) + "\n")
    directory.publish(directory.model)
    return Made(figures, onnx_error)


def _validated(experiment: Experiment, model: "ImageClassifier", data: "TrainingData") -> dict[str, float]:
    """Loss and accuracy on the images held out; nothing where the model was trained on them."""
    from cifar.datamodule import ImageDataModule
    from cifar.train import validate

    if experiment.retrain.on == "train+validation":
        return {}
    return validate(model, ImageDataModule(experiment.data, data, model.point.batch_size), experiment.trainer)


def _export(model: "ImageClassifier", data: "TrainingData", file: Path) -> tuple[float | None, str]:
    """The largest difference to torch's probabilities, or why there is no file."""
    import torch

    from cifar.export import to_onnx

    try:
        with whole(file) as beside:
            return to_onnx(model, beside, torch.from_numpy(data.train.pixels[:_ONNX_CHECKED].copy())), ""
    except Exception as error:  # the exporter and a user's network raise what they like
        return None, first_line(error)
