"""The closing words of a run: what won, how good it is, what it cost, and what to do next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tune.errors import StorageError
from tune.evaluation import ClassFigures, Evaluation
from tune.experiment import ExperimentDir
from tune.finalists import Finalist, mean_interval
from tune.last_mile import Winner
from tune.next_experiment import next_command
from tune.objectives import best_figures, front, in_digits
from tune.points import in_words, of_use, searched
from tune.recorded import Recorded
from tune.spec import Experiment
from tune.standing import duration
from tune.trainings import validation_metric
from tune.trials import Trial, states_in_words


@dataclass(frozen=True)
class Summary:
    """Everything the closing table, the report and the model card tell of one finished experiment."""

    experiment: Experiment
    directory: ExperimentDir
    trials: list[Trial]
    winner: Winner
    test: Evaluation
    study: str  # the journal's path, or the database's URL
    ended: str  # why, if before the last trial
    search_seconds: float
    retrain_seconds: float
    classes: tuple[str, ...]
    onnx_error: str
    skipped: tuple[str, ...]  # broken image files left out
    shape: tuple[int, int, int]  # of an image: channels, height, width
    images: tuple[int, int]  # how many a trial was trained on, and how many validated on

    @property
    def trial(self) -> Trial:
        """The winner's."""
        return self.winner.trial

    @property
    def best(self) -> tuple[int, float]:
        """(epoch, value) of the winner in the search."""
        return self.trial.winning(self.experiment.search.maximize)

    @property
    def estimate(self) -> tuple[float, str]:
        """What is known of the model's metric without the test set, and what it is."""
        metric, winner = self.experiment.search.metric, self.winner
        if winner.chosen:
            models, open_ = len(winner.chosen.values), sum(row.open for row in winner.evidence)
            made = f"{models} model{'s' * (models != 1)} made so, the best of {open_} ways"
            return winner.chosen.mean, f"the mean {validation_metric(metric)} of {made}"
        if winner.finalist:
            seeds = len(winner.finalist.values)
            return winner.finalist.mean, f"the mean {metric} over {seeds} fresh seed{'s' * (seeds != 1)}"
        return self.best[1], f"the winner's {metric}"

    @property
    def again(self) -> str:
        """The command that repeats all of it."""
        return again(self.experiment.name, self.directory)

    @property
    def objectives(self) -> dict[str, str]:
        """What the winner has of the other objectives, by name; nothing where there is one metric."""
        search = self.experiment.search
        told = best_figures(search, self.trial, kept=True)
        return {name: in_digits(value) for name, value in told.items() if name != search.metric}

    @cached_property
    def front(self) -> list[Trial]:
        """The trials that none beats in all objectives; none where there is one metric."""
        return front(self.experiment.search, self.trials)

    @property
    def hparams_in_effect(self) -> dict[str, object]:
        """The winner's HParams without those that its optimizer or schedule does not have."""
        return of_use(self.trial.hparams)

    @property
    def searched_hparams(self) -> dict[str, object]:
        """Those of them that were searched."""
        return self.searched_of(self.trial)

    def searched_of(self, trial: Trial) -> dict[str, object]:
        """A trial's HParams that were searched."""
        return searched(self.experiment.space, trial.hparams)

    def in_words(self, trial: Trial) -> str:
        """The same in a line."""
        return in_words(self.experiment.space, trial.hparams)

    @property
    def worst_first(self) -> dict[str, ClassFigures]:
        """What the test said of each class, that of the lowest recall first; at the end those without test images."""
        figures = self.test.per_class(self.classes)
        return dict(sorted(figures.items(), key=lambda item: (item[1].recall is None, item[1].recall)))

    def counts(self) -> str:
        """How the trials ended: '16 trials: 5 completed, 11 stopped'."""
        return counts(self.trials)

    def interval(self) -> str:
        """Test accuracy in words, with its interval."""
        return self.test.in_words()

    def about_the_test(self) -> dict[str, str]:
        """What belongs to the test accuracy, by name: what is not there is left out."""
        test, search = self.test, self.experiment.search
        told = {}
        if test.augmented:
            told["with augmentation"] = f"{test.augmented}: flips and shifts as in training, averaged"
        if search.metric == "val_accuracy":
            value, of = self.estimate
            told["gap"] = f"{100 * (test.accuracy - value):+.2f} points from {of}"
        if test.calibration_error is not None:
            points = f"{100 * test.calibration_error:.2f} points between the probability given"
            told["calibration error"] = f"{points} and the share that is right (ECE, 15 bins)"
        if test.reading > 1:
            told["readings"] = f"{test.reading} of the test set: what was chosen since the first is not blind to it"
        return told

    def about_the_winner(self) -> dict[str, str]:
        """What the last mile found, by name: what was not trained is left out."""
        told = {}
        if (finalist := self.winner.finalist) is not None:
            value = with_interval(finalist.mean, finalist.interval, self.experiment.search.metric)
            seeds = f"{len(finalist.values)} fresh seed{'s' * (len(finalist.values) != 1)}"
            broken = f", {finalist.broken} more diverged or failed" if finalist.broken else ""
            told["over seeds"] = f"{value}, {seeds}{broken}"
            told["drop"] = f"{self._flattered(finalist)}, over {self.trial.epochs} epochs as the trial had"
        told["made"] = f"{self.winner.way}{self._averaged()}"
        return told

    def _flattered(self, finalist: Finalist) -> str:
        drop = finalist.drop(self.experiment.search.maximize)
        if abs(drop) < 5e-5:
            return "the search's score was as those with fresh seeds"
        return f"the search's score was {abs(drop):.4f} {'better' if drop > 0 else 'worse'} than with fresh seeds"

    def _averaged(self) -> str:
        """What the average brought, in words."""
        row = self.winner.chosen
        if row is None:
            return ""
        told = f": {validation_metric(self.experiment.search.metric)} {row.mean:.4f}"
        if row.against_raw:
            return f"{told}, {difference(row.against_raw)} than the last weights"
        averages = [other for other in self.winner.evidence if other.open and other.way.average != "raw"]
        if averages:
            return f"{told}; no average was better, so none is used"
        return f"{told}; no average is used, as retrain.average says"


def summary_of(known: Recorded) -> Summary:
    """What there is to tell of an experiment that has its model. Raises StorageError if it has none yet."""
    metrics, winner, test = known.metrics, known.winner, known.test
    if metrics is None or winner is None or test is None:
        raise StorageError(f"{known.directory.place.uri}: there is no model yet")
    return Summary(
        experiment=known.experiment,
        directory=known.directory,
        trials=known.trials,
        winner=winner,
        test=test,
        study=known.provenance.get("study") or str(known.directory.journal),
        ended=known.ended_because,
        search_seconds=known.search_seconds,
        retrain_seconds=known.retrain_seconds,
        classes=tuple(metrics["classes"]),
        onnx_error=metrics["onnx_error"],
        skipped=tuple(metrics["skipped"]),
        shape=tuple(metrics["image_shape"]),
        images=(metrics["training_images"], metrics["validation_images"]),
    )


def with_interval(value: float, interval: tuple[float, float] | None, metric: str) -> str:
    """A metric's mean, with its interval if there is one, as far as the metric goes."""
    if interval is None:
        return f"{value:.4f}"
    most = 1.0 if metric.endswith("_accuracy") else float("inf")
    return f"{value:.4f} (95 % interval {max(0.0, interval[0]):.4f} to {min(most, interval[1]):.4f})"


def difference(paired: tuple[float, ...]) -> str:
    """The mean of paired differences in words, with its interval."""
    value, interval = mean(paired), mean_interval(paired)
    within = f" (95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}, {len(paired)} pairs)" if interval else ""
    return f"{abs(value):.4f} {'more' if value >= 0 else 'less'}{within}"


def again(name: str, directory: ExperimentDir) -> str:
    """The command that repeats an experiment."""
    return f"python -m tune.run --space {quoted(directory.spec)} --name {shlex.quote(f'{name}-again')}"


def counts(trials: Sequence[Trial]) -> str:
    """How trials ended: '16 trials: 5 completed, 11 stopped'."""
    states = dict(sorted(Counter[str](trial.state for trial in trials).items()))
    return f"{len(trials):,} trial{'s' * (len(trials) != 1)}: {states_in_words(states) or 'none was begun'}"


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def dashboard_command(directory: ExperimentDir, study: str) -> str:
    """What opens optuna-dashboard on a study. study: the journal's path, or the database's URL less its password."""
    database = f" --study {shlex.quote(study)}" if ":***@" in study else ""
    where = f"{shlex.quote(directory.path.name)} --storage {shlex.quote(directory.storage)}"
    return f"python -m tune dashboard {where}{database}"


def print_closing(summary: Summary, console: Console) -> None:
    """What a run prints last."""
    experiment, directory = summary.experiment, summary.directory
    epoch, value = summary.best
    epochs = sum(trial.trained for trial in summary.trials)
    model = f"{directory.model}" + (f" (without ONNX: {summary.onnx_error})" if summary.onnx_error else "")
    rows = {
        "winner": f"trial {summary.trial.number}, {summary.winner.why(len(summary.trials), experiment.search)}",
        "HParams": summary.in_words(summary.trial),
        experiment.search.metric: f"{value:.4f} in the search, epoch {epoch}",
        **summary.objectives,
        "front": f"{len(summary.front)} of {len(summary.trials)} trials" if summary.front else "",
        **summary.about_the_winner(),
        "test accuracy": summary.interval(),
        **summary.about_the_test(),
        "trials": f"{summary.counts()}; {epochs} epochs",
        "ended early": summary.ended,
        "time": f"search {duration(summary.search_seconds)}, retrain {duration(summary.retrain_seconds)}",
        "experiment": str(directory.path),
        "model": model,
        "report": str(directory.report),
    }
    if summary.skipped:
        rows["broken images"] = f"{len(summary.skipped)} left out: {'; '.join(summary.skipped[:3])}"
    table = Table(title=Text(experiment.name), show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in ((name, text) for name, text in rows.items() if text):
        table.add_row(name, Text(text))
    commands = [
        f"python -m cifar.predict --model {quoted(directory.model)} {quoted(directory.model / 'example.png')}",
        f"tensorboard --logdir {quoted(directory.trials)}",
        dashboard_command(directory, summary.study),
        next_command(directory, experiment.name),
    ]
    console.print(table)
    console.print("next:")
    for command in commands:
        console.print(f"  {command}", soft_wrap=True, markup=False)
