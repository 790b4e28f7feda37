"""Experiment files made on the spot, the complaints about them, and a Ray that is played by hand."""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from cifar.hparams import HParams
from tune import experiment as experiments
from tune.averaging import UNCOMPARED
from tune.conductor import Conductor
from tune.errors import SpecError
from tune.evaluation import Evaluation
from tune.experiment import ExperimentDir
from tune.last_mile import Winner
from tune.open_study import open_study
from tune.space import Space
from tune.spec import Experiment, load
from tune.summary import Summary
from tune.trials import Report, Start, Trial

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
HOSTILE = "</script><script>alert('x')</script> \"quoted\" 🎉"
SPACE = """\
data: {source: digits}
space:
  learning_rate: {type: float, lower: 1e-4, upper: 1.0, log: true}
  translate: {type: int, lower: 0, upper: 4}
  optimizer:
    type: categorical
    options:
      sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}}
      adamw:
"""


@pytest.fixture
def experiment_file(tmp_path: Path) -> Callable[..., Path]:
    def make(text: str, name: str = "search.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return make


@pytest.fixture
def complaints(experiment_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """The lines of the error that loading gives, the file's folder left out."""

    def lines(text: str, *overrides: str) -> list[str]:
        file = experiment_file(text)
        with pytest.raises(SpecError) as caught:
            load(file, overrides)
        assert len(caught.value.problems) == len(str(caught.value).splitlines())
        return str(caught.value).replace(str(file), file.name).splitlines()

    return lines


@pytest.fixture
def experiment(experiment_file: Callable[..., Path]) -> Callable[..., Experiment]:
    """A search over three HParams and a conditional one, by fields: `experiment("search.trials=3", …)`."""

    def make(*fields: str, text: str = SPACE) -> Experiment:
        return load(experiment_file(text), fields)

    return make


Value = Callable[[dict[str, Any], int], float]


def learning_curve(hparams: dict[str, Any], epoch: int) -> float:
    """Like an accuracy: best near a learning rate of 0.01, rising with the epoch, noisy, with ties."""
    noise = random.Random(f"{hparams['learning_rate']} {epoch}").random()
    height = 0.9 - 0.1 * abs(math.log10(hparams["learning_rate"]) + 2) - 0.02 * hparams["translate"]
    return round(height * (1 - math.exp(-epoch / 2)) + 0.05 * noise, 2)


@dataclass
class Session:
    """One process that runs an experiment, with a Ray of `slots` that trains an epoch of each trial in turn.

    value: of an epoch, from its HParams, or by trial where that is a list: values[number][epoch - 1]; an objective
    beside the metric is `translate`. hook: is called with each thing that is about to happen, and may raise.
    """

    experiment: Experiment
    folder: Path
    value: Value | list[list[float]] = learning_curve
    slots: int = 1
    alone: int = 1
    hook: Callable[[str], None] = lambda what: None
    told: list[tuple[int, str]] = field(default_factory=list)  # number and state of each change
    began: list[Start] = field(default_factory=list)
    epoch: dict[int, int] = field(default_factory=dict)  # of each trial in a slot, the one it trained last
    seconds: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        directory = ExperimentDir(self.folder)
        self.record, self.notes = open_study(self.experiment, directory, str(self.folder.parent), None, "f00d")
        place = directory.place
        self.conductor = Conductor(
            self.experiment, self.record, place, lambda: self.slots, self._hear, alone=self.alone
        )

    def _hear(self, trial: Trial) -> None:
        self.told.append((trial.number, trial.state))

    @property
    def trials(self) -> dict[int, Trial]:
        return self.conductor.trials

    def start(self) -> Start | str | None:
        """Asks for a trial, and gives it a slot."""
        self.hook("next")
        start = self.conductor.next()
        if isinstance(start, Start):
            self.hook("started")
            number = start.trial.number
            self.began.append(start)
            self.epoch[number] = start.checkpoints[0][0] if start.checkpoints else 0
            self.seconds[number] = 0.0
            self.conductor.started(number)
        return start

    def measure(self, number: int, value: float | None = None, broken: str = "", *, leaving: bool = False) -> bool:
        """The next epoch of a trial, without its checkpoint; whether it is to stop."""
        self.epoch[number] += 1
        self.seconds[number] += 1.0
        if value is None:
            epoch = self.epoch[number]
            fixed = isinstance(self.value, list)
            value = self.value[number][epoch - 1] if fixed else self.value(self.trials[number].hparams, epoch)
        self.hook("result")
        search = self.experiment.search
        beside = {each.metric: float(self.trials[number].hparams["translate"]) for each in search.objectives or ()}
        figures = {**beside, search.metric: value} if beside else {}
        report = Report(
            self.epoch[number], value, self.seconds[number], broken=broken, figures=figures, leaving=leaving
        )
        return self.conductor.result(number, report)

    def save(self, number: int) -> str:
        """The checkpoint of its latest epoch."""
        (start,) = [start for start in self.began if start.trial.number == number][-1:]
        path = f"trials/{start.folder}/checkpoint_{self.epoch[number]:06d}"
        self.hook("save")
        (self.folder / path).mkdir(parents=True, exist_ok=True)
        (self.folder / path / "checkpoint.ckpt").write_text(json.dumps([number, self.epoch[number]]))
        self.hook("checkpointed")
        self.conductor.checkpointed(number, path)
        return path

    def train(self, number: int, value: float | None = None) -> bool:
        """An epoch and its checkpoint; the end, if it was the last or the trial was told to stop."""
        last = self.experiment.scheduler.max_epochs
        if self.epoch[number] < last:  # else it goes on from its very last checkpoint, and trains nothing
            stop = self.measure(number, value)
            self.save(number)
            if not stop and self.epoch[number] < last:
                return False
        self.hook("ended")
        self.leave(number)
        self.conductor.ended(number)
        return True

    def leave(self, number: int) -> None:
        """Its slot is free; what the conductor is told of it is the caller's."""
        del self.epoch[number]

    def fill(self) -> list[int]:
        """Starts trials until there is none to start; their numbers."""
        numbers = []
        while isinstance(start := self.start(), Start):
            numbers.append(start.trial.number)
        return numbers

    def run(self, steps: int = 100_000) -> "Session":
        """Until the search is over, or so many epochs."""
        while not self.conductor.over:
            self.fill()
            if not self.epoch:
                assert self.conductor.next() == "finished" or self.conductor.over
                break
            for number in list(self.epoch):
                if steps == 0:
                    return self
                steps -= 1
                self.train(number)
                if self.conductor.over:
                    break
        self.close()
        return self

    def close(self) -> None:
        self.hook("close")
        self.epoch.clear()
        self.conductor.close()

    def kept(self) -> dict[int, list[int]]:
        """The epochs of each trial whose checkpoints are on disk, where they should be."""
        found: dict[int, list[int]] = {}
        for trial in self.trials.values():
            for epoch, path in trial.checkpoints.items():
                _, saved = json.loads((self.folder / path / "checkpoint.ckpt").read_text())
                assert saved == epoch
                found.setdefault(trial.number, []).append(epoch)
        return found


@pytest.fixture
def storage() -> Iterator[Path]:
    """A folder for experiments; in memory where that can be had, since a search writes thousands of lines."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def session(storage: Path, experiment: Callable[..., Experiment]) -> Callable[..., Session]:
    """A session of a search with these fields; of the same search as before, if it is called again."""

    def make(*fields: str, folder: str = "first", **options: Any) -> Session:
        return Session(experiment(*fields), storage / folder, **options)

    return make


@pytest.fixture
def begun(storage: Path, experiment: Callable[..., Experiment]) -> Callable[..., Session]:
    """A session of a search whose experiment directory is complete: `begun("name", "search.trials=3", …)`."""

    def make(name: str, *fields: str, text: str = SPACE, **options: Any) -> Session:
        directory = experiments.reserve(str(storage), name)
        one = replace(experiment(*fields, text=text), name=name)
        experiments.begin(directory, one, f"python -m tune.run --space search.yaml --name {name}", "f00d")
        return Session(one, storage / name, **options)

    return make


@pytest.fixture
def space(experiment: Callable[..., Experiment]) -> Space:
    """That of an experiment without more."""
    return experiment().space


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a study's journal is going to be."""
    return tmp_path / "study.journal"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Decides over every write to a journal: `disk(before)` is called with the file and the lines before each."""
    from tune.study_storage import Journal

    class Fragile(Journal):
        before: Callable[[Path, list[dict[str, Any]]], None] | None = None

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            if Fragile.before:
                Fragile.before(Path(self._file_path), logs)
            super().append_logs(logs)

    def install(before: Callable[[Path, list[dict[str, Any]]], None] | None) -> None:
        Fragile.before = staticmethod(before) if before else None

    monkeypatch.setattr("tune.study_storage.Journal", Fragile)
    return install


@pytest.fixture
def past() -> Callable[..., FrozenTrial]:
    """Makes trials that reported a curve; their parameters lie in [0, 1]."""

    def make(
        curve: dict[int, float], state: TrialState = TrialState.PRUNED, number: int = 0, why: str = "", **params: float
    ) -> FrozenTrial:
        trial = create_trial(
            state=state,
            value=max(curve.values(), default=0.0) if state is TrialState.COMPLETE else None,
            params=params,
            distributions={name: FloatDistribution(0, 1) for name in params},
            intermediate_values=curve,
            user_attrs={"state": why} if why else {},
        )
        trial.number = number
        return trial

    return make


@pytest.fixture
def flat() -> Callable[..., dict[int, float]]:
    """Makes curves of one value."""

    def make(until: int, value: float = 0.5) -> dict[int, float]:
        return dict.fromkeys(range(1, until + 1), value)

    return make


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files of a model of digits, untrained, and an image."""
    import torch
    from PIL import Image

    from cifar.config import DataConfig
    from cifar.datamodule import ImageDataModule
    from cifar.export import to_onnx
    from cifar.hparams import HParams
    from cifar.sources import load_training
    from cifar.train import make_classifier, save

    torch.manual_seed(0)
    config = DataConfig(source="digits", limit=200, validation_fraction=0.2)
    digits = load_training(config)
    folder = tmp_path_factory.mktemp("model")
    model = make_classifier(HParams(network="resnet9", width=1 / 16), ImageDataModule(config, digits, 40))
    save(model, folder / "model.ckpt")
    to_onnx(model, folder / "model.onnx", torch.from_numpy(digits.train.pixels[:4]))
    Image.fromarray(digits.train.pixels[0][0]).save(folder / "example.png")
    return folder


@pytest.fixture
def summary(tmp_path: Path) -> Callable[..., Summary]:
    """What is known of a finished experiment, made up."""

    def make(
        name: str,
        classes: tuple[str, ...],
        folder: str = "finished",
        onnx_error: str = "",
        ended: str = "",
    ) -> Summary:
        directory = experiments.reserve(str(tmp_path), folder)
        experiment = replace(load(QUICKSTART), name=name)
        experiments.begin(directory, experiment, f"python -m tune.run --name {name!r}", "f" * 32)
        directory.model.mkdir()
        point = HParams(optimizer="adamw", learning_rate=0.0123456).model_dump()
        trials = [
            Trial(0, point, "stopped", {1: 0.5}, f"stopped at rung 1 {HOSTILE}", 1.0),
            Trial(1, point, "completed", {1: 0.7, 2: 0.9, 3: 0.8}, "", 3.0, {2: "trials/00001/checkpoint_000001"}),
            Trial(2, point, "diverged", {1: math.nan}, "val_loss was nan at epoch 1", 1.0),
            Trial(3, point, "failed", {}, "ValueError: no", 0.0),
        ]
        test = Evaluation(0.95, 0.9, 0.98, 100, 0.2, [[48, 2], [3, 47]], [])
        return Summary(
            experiment,
            directory,
            trials,
            Winner(trials[1], UNCOMPARED, 12),
            test,
            "sqlite:////a b/study.db",
            ended,
            75.0,
            12.0,
            classes,
            onnx_error,
            ("train/x.png (broken)",),
            (1, 8, 8),
            (80, 20),
        )

    return make
