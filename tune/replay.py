"""A trial once more, without Ray, from its record alone: the same curve, or what is different since."""

import math
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from cifar.errors import UserError
from cifar.hparams import HParams
from cifar.sources import TrainingData, split
from tune import images, spec
from tune.experiment import git_commit, processor, versions
from tune.noted import own_trials
from tune.objectives import in_order
from tune.resume import reopen
from tune.spec import Experiment
from tune.study_storage import recorded
from tune.trials import Trial

_NOISE = 2.0  # standard errors of a difference, below which two values are taken for the same
_LOSS_NOISE = 0.05  # of a loss, whose standard error is not known


@dataclass(frozen=True)
class Replay:
    """values: of the metric after each epoch, now. noise: what two values may differ by at the last of them.

    changed: in words, what is not as it was when the experiment began.
    """

    trial: Trial
    metric: str
    values: dict[int, float]
    noise: float
    changed: tuple[str, ...]

    @property
    def verdict(self) -> Literal["equal", "within noise", "different"]:
        """Equal: every value to the last digit. Within noise: at the last epoch."""
        if self.values == self.trial.values:
            return "equal"
        last = self.trial.epochs
        near = last in self.values and abs(self.values[last] - self.trial.values[last]) <= self.noise
        return "within noise" if near else "different"


def replay(name: str, number: int | None, storage: str, say: Callable[[str], None], url: str | None = None) -> Replay:
    """Trains trial `number` of the experiment `name` again for as many epochs; None stands for the best one.

    url: the database of its study, where that is behind a password. Raises ResumeError if there is no such
    experiment, UserError if there is no such trial, or none that can be replayed, or the images are not those of
    the experiment, and what `cifar.train.fit` raises.
    """
    directory = reopen(storage, name, "replay", read_only=True)
    experiment = spec.load(directory.spec)
    provenance, study = recorded(directory, f"replay: {name}", url)
    trial = _chosen(name, own_trials(study.trials, study.attributes), number, experiment)
    data = images.load(experiment.data)
    if data.fingerprint != provenance["data_fingerprint"]:
        raise UserError(
            f"replay: the images in {experiment.data.root or experiment.data.source} are not those that {name} began "
            f"with (fingerprint {data.fingerprint}, was {provenance['data_fingerprint']}): put those back"
        )
    say(f"training trial {trial.number} of {name} again, {trial.epochs} epochs")
    values = _trained(experiment, data, trial, say)
    metric = experiment.search.metric
    count = len(data.train if metric.startswith("train") else data.validation or split(data, experiment.data)[1])
    noise = _noise(metric, trial.values[trial.epochs], count)
    return Replay(trial, metric, values, noise, tuple(_changed(provenance)))


def _chosen(name: str, trials: list[Trial], number: int | None, experiment: Experiment) -> Trial:
    if number is None:
        best = in_order(experiment.search, trials)
        if not best:
            raise UserError(f"replay: no trial of {name} has a value")
        trial = best[0]
    else:
        found = [trial for trial in trials if trial.number == number]
        if not found:
            numbers = f"0 to {max(trial.number for trial in trials)}" if trials else "none"
            raise UserError(f"replay: {name} has no trial {number}; its trials are {numbers}")
        trial = found[0]
    if not trial.values:
        raise UserError(f"replay: trial {trial.number} of {name} has no value to compare with: it is {trial.state}")
    if trial.parent is not None:
        raise UserError(
            f"replay: trial {trial.number} of {name} went on from trial {trial.parent[0]}'s checkpoint with other "
            "HParams (scheduler.type pbt), so that its record alone does not repeat it"
        )
    return trial


def _trained(experiment: Experiment, data: TrainingData, trial: Trial, say: Callable[[str], None]) -> dict[int, float]:
    """The metric after each epoch."""
    import torch

    from cifar.callbacks import EndAfter, KeepValues, TellEpochs
    from cifar.datamodule import ImageDataModule
    from cifar.train import fit

    cpus = experiment.resources.cpus_per_trial
    torch.set_num_threads(1 if cpus == "auto" else max(1, int(cpus)))  # sums depend on how they are shared out
    hparams = HParams(**trial.hparams)
    keep = KeepValues()
    fit(
        hparams,
        ImageDataModule(experiment.data, data, hparams.batch_size),
        experiment.trainer,
        max_epochs=experiment.scheduler.max_epochs,
        seed=experiment.search.seed,
        callbacks=[TellEpochs("replay", say), keep, EndAfter(trial.epochs)],
    )
    return {epoch: values[experiment.search.metric] for epoch, values in keep.values.items()}


def _noise(metric: str, value: float, count: int) -> float:
    """What two trainings that differ by chance alone may differ by. count: of the images that were measured."""
    if not metric.endswith("_accuracy"):
        return _LOSS_NOISE * abs(value)
    return _NOISE * math.sqrt(2 * value * (1 - value) / count)


def _changed(before: Mapping[str, Any]) -> Iterator[str]:
    now = {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
    }
    for name, value in now.items():
        if name in before and before[name] != value:
            yield f"{name.replace('_', ' ')} was {before[name] or 'none'}, is {value or 'none'}"
    installed = versions()
    for package in {**before["versions"], **installed}:
        was, is_now = before["versions"].get(package, "none"), installed.get(package, "none")
        if was != is_now:
            yield f"{package} was {was}, is {is_now}"


def show(told: Replay, console: Console) -> None:
    """The two curves, the verdict, and what may be the reason."""
    table = Table("epoch", f"{told.metric} then", "now", box=None, header_style="bold", pad_edge=False)
    for epoch, value in told.trial.values.items():
        table.add_row(str(epoch), f"{value:.6g}", f"{told.values[epoch]:.6g}" if epoch in told.values else "")
    console.print(table)
    last = told.trial.epochs
    reason = {
        "equal": "every value to the last digit",
        "within noise": f"after epoch {last} less than {told.noise:.2g} apart, which chance alone may give",
        "different": f"after epoch {last} more than {told.noise:.2g} apart, which chance alone seldom gives",
    }[told.verdict]
    console.print(f"{told.verdict}: {reason}", soft_wrap=True, markup=False)
    if told.verdict != "equal":
        since = "; ".join(told.changed) or "nothing that is recorded; threads or device may be others"
        console.print(f"changed since: {since}", soft_wrap=True, markup=False)
