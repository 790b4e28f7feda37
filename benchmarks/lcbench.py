"""LCBench's learning curves: 34 data sets, 7 hyperparameters, 52 epochs of real trainings, through a surrogate.

Zimmer, Lindauer and Hutter, "Auto-PyTorch Tabular", TPAMI 2021 (arXiv:2006.13799); the surrogate is that of YAHPO Gym,
Pfisterer et al., AutoML 2022 (arXiv:2109.03670), Apache-2.0, looked for in $CIFAR_DATA/lcbench.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnxruntime
import optuna
from measuring import DATA

from tune.rungs import rung_epochs
from tune.space import Drawer, Numeric, Space

LCBENCH = DATA / "lcbench"
MAX_EPOCHS, GRACE, FACTOR = 52, 2, 4  # after one epoch the nets are as good as untrained
RUNGS = rung_epochs(GRACE, FACTOR, MAX_EPOCHS)
LEVELS = (*RUNGS, MAX_EPOCHS)

HParams = tuple[float, ...]


class Task:
    """One data set."""

    def __init__(self, name: str) -> None:
        self._code = json.loads((LCBENCH / "encoding.json").read_text())["OpenML_task_id"][name]
        finals = [self.values(hparams, [MAX_EPOCHS])[0][0] for hparams in random_hparams(2000)]
        self.best, self.median = max(finals), float(np.median(finals))

    def values(self, hparams: HParams, epochs: list[int]) -> tuple[list[float], list[float]]:
        """Validation accuracy, and seconds since the start, after each of `epochs`."""
        # The model's inputs, in plain units, are (epoch, *hparams), not in the order of config_space.json: its first
        # operations are log(input 0) / log(52) and the scaling of the others by their ranges.
        rows = np.array([(epoch, *hparams) for epoch in epochs], np.float32)
        codes = np.full((len(rows), 1), self._code, np.int32)
        (outputs,) = _session().run(None, {"x_cat": codes, "x_cont": rows})
        return outputs[:, 1].tolist(), outputs[:, 0].tolist()

    def regret(self, final: float) -> float:
        """0 for the best of 2,000 random configurations after all epochs, 1 for their median."""
        return (self.best - final) / (self.best - self.median)


task = cache(Task)


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(LCBENCH / "model.onnx"), options, providers=["CPUExecutionProvider"])


def task_names() -> list[str]:
    """All 34, in the data's order."""
    space = json.loads((LCBENCH / "config_space.json").read_text())["hyperparameters"]
    return next(domain["choices"] for domain in space if domain["name"] == "OpenML_task_id")


# in the order of the model's inputs: name, bounds, whether searched by the logarithm, step
SPACE = Space(
    tuple(
        Numeric(name, name, lower, upper, log, step)
        for name, lower, upper, log, step in (
            ("batch_size", 16, 512, True, 1),
            ("learning_rate", 1e-4, 0.1, True, None),
            ("momentum", 0.1, 0.99, False, None),
            ("weight_decay", 1e-5, 0.1, False, None),
            ("num_layers", 1, 5, False, 1),
            ("max_units", 64, 1024, True, 1),
            ("max_dropout", 0.0, 1.0, False, None),
        )
    )
)


def draw(drawer: Drawer) -> HParams:
    """A point of LCBench's space."""
    return tuple(SPACE.draw(drawer).values())


def random_hparams(count: int) -> Iterator[HParams]:
    """The same ones for every task, drawn with a seed that no search has."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2**31))
    for _ in range(count):
        yield draw(study.ask())


@dataclass
class Curve:
    """One trial's training, asked of the surrogate from level to level, since most trials end early."""

    task: Task
    hparams: HParams
    values: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def value(self, epoch: int) -> float:
        """Validation accuracy after `epoch`."""
        if epoch > len(self.values):
            until = next(level for level in LEVELS if level >= epoch)
            values, seconds = self.task.values(self.hparams, list(range(len(self.values) + 1, until + 1)))
            self.values += values
            self.seconds += seconds
        return self.values[epoch - 1]

    def duration(self, epoch: int) -> float:
        """Seconds that `epoch` takes. In a few of a hundred epochs the surrogate's clock stands still or goes back."""
        self.value(epoch)
        before = self.seconds[epoch - 2] if epoch > 1 else 0.0
        return max(self.seconds[epoch - 1] - before, 1e-3 * self.seconds[0], 1e-6)

    def final(self) -> float:
        """Validation accuracy after all epochs, whether they are trained or not."""
        return self.task.values(self.hparams, [MAX_EPOCHS])[0][0]
