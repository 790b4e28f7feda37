"""What W&B keeps of the finished model: test figures, confusion matrix, mistakes, the model itself, the report."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.ledger import file_hash
from tune.tracking import run_of
from tune.wandb_runs import Begin

if TYPE_CHECKING:
    from tune.summary import Summary

_FILES = ("model.ckpt", "model.onnx", "metrics.json", "README.md")


@dataclass(frozen=True)
class FinalRun:
    """The final run. key: of the model, of which it is told once; figures: of the test, by name.

    per_class: name, recall, precision, F1 and images of each; confusion: rows of true, columns of predicted classes;
    mistakes: (file, caption) of each.
    """

    key: str
    begin: Begin
    figures: dict[str, Any]
    per_class: list[list[Any]]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    mistakes: list[tuple[Path, str]]
    model: Path
    report: Path
    artifact: str

    @property
    def name(self) -> str:
        """Of the run."""
        return self.begin.name

    def write(self, run: Any) -> None:
        """To a run of W&B's that is open."""
        import wandb

        run.summary.update(self.figures)
        pairs = [
            [true, predicted, count]
            for true, row in zip(self.classes, self.confusion, strict=True)
            for predicted, count in zip(self.classes, row, strict=True)
        ]
        names: list[str | int] = ["Actual", "Predicted", "nPredictions"]
        run.log(
            {
                "per_class": wandb.Table(["class", "recall", "precision", "f1", "images"], self.per_class),
                # as wandb.plot.confusion_matrix draws it, which wants every image's classes
                "confusion_matrix": wandb.plot_table(
                    "wandb/confusion_matrix/v1",
                    wandb.Table(names, pairs),
                    {str(name): name for name in names},
                    {"title": "Test images"},
                ),
                "mistakes": [wandb.Image(str(file), caption=caption) for file, caption in self.mistakes],
                "report": wandb.Html(self.report, inject=False),
            }
        )
        artifact = wandb.Artifact(self.artifact, "model", metadata={**self.figures, **self.begin.config})
        for file in (*(self.model / name for name in _FILES), self.report):
            if file.exists():
                artifact.add_file(str(file), file.name, skip_cache=True)
        run.log_artifact(artifact)


def final_run(summary: "Summary") -> FinalRun:
    """Of a finished experiment."""
    experiment, test, classes, model = summary.experiment, summary.test, summary.classes, summary.directory.model
    figures = {
        "test_accuracy": test.accuracy,
        "test_accuracy_low": test.low,
        "test_accuracy_high": test.high,
        "test_images": test.images,
        "test_loss": test.loss,
        "test_calibration_error": test.calibration_error,
        "test_accuracy_augmented": test.augmented and test.augmented.value,
        "test_reading": test.reading,
        f"best_{experiment.search.metric}": summary.best[1],
        "trials": len(summary.trials),
        "search_seconds": summary.search_seconds,
        "retrain_seconds": summary.retrain_seconds,
        "command": summary.again,
    }
    mistakes = []
    for one in test.mistakes:
        true, predicted = classes[one["true"]], classes[one["predicted"]]
        mistakes.append((model / one["file"], f"true {true}, predicted {predicted} ({one['probability']:.1%})"))
    return FinalRun(
        key=file_hash(model / "model.ckpt"),
        begin=run_of("final", "final", summary.trial.hparams, summary.trial.number, experiment.search.seed),
        figures={name: value for name, value in figures.items() if value is not None},
        per_class=[[name, row.recall, row.precision, row.f1, row.images] for name, row in summary.worst_first.items()],
        classes=classes,
        confusion=test.confusion,
        mistakes=mistakes,
        model=model,
        report=summary.directory.report,
        artifact=re.sub(r"[^a-zA-Z0-9_.-]", "-", experiment.name)[:100] + "-model",
    )
