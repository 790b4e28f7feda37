"""The choice of the winner and of the way to its model, by real trainings in this process."""

from pathlib import Path

import pytest
import torch

from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams
from cifar.sources import divided, load_training
from cifar.train import fit, save
from tune import yaml_file
from tune.averaging import PLAIN, UNCOMPARED, Way
from tune.errors import RetrainFailedError, SearchFailedError, StorageError
from tune.experiment import ExperimentDir
from tune.last_mile import LastMile, read_winner
from tune.open_study import open_study
from tune.tracking import Tracking
from tune.trials import Trial

FIELDS = (
    "data.limit=200", "data.validation_fraction=0.2", "trainer.accelerator=cpu", "scheduler.max_epochs=2",
    "retrain.epochs=2", "retrain.finalists=2", "retrain.seeds=2",
)  # fmt: skip
POINT = {"network": "cnn", "width": 0.1, "batch_size": 40, "optimizer": "adamw"}
DIVERGES = {"optimizer": "sgd", "learning_rate": 100.0, "weight_decay": 1.0, "lr_schedule": "constant"}
TRACKING = Tracking("test", "test", None, "")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Mile:
    """A session of the last mile of one experiment, with two trials of which the second has the better score."""

    def __init__(self, experiment, folder: Path, rates=(0.01, 0.003)) -> None:
        self.experiment, self.directory = experiment, ExperimentDir(folder)
        self.data = divided(load_training(experiment.data), experiment.data)
        self.record, _ = open_study(experiment, self.directory, str(folder.parent), None, "f00d")
        self.ran: list[str] = []
        self.said: list[str] = []
        self.trials = [self._trial(number, rate) for number, rate in enumerate(rates)]
        self.mile = LastMile(experiment, self.directory, self.record, self._run, self.said.append)

    def _trial(self, number, rate):
        hparams = HParams(**POINT, learning_rate=rate)
        trial = Trial(number, hparams.model_dump(), state="completed", values={2: 0.6 + number / 10})
        trial.checkpoints = {2: f"trials/{number:05d}/checkpoint_000002"}
        file = self.directory.path / trial.checkpoints[2] / "checkpoint.ckpt"
        if not file.exists():
            file.parent.mkdir(parents=True)
            module = ImageDataModule(self.experiment.data, self.data, 40)
            save(fit(hparams, module, self.experiment.trainer, max_epochs=1, seed=0), file)
        return trial

    def _run(self, jobs, done):
        for job in jobs:
            self.ran.append(job.key)
            done(job, job.train(self.experiment, self.data, self.directory, TRACKING))

    def winner(self):
        winner = self.mile.winner(self.trials)
        self.mile.write(winner, len(self.trials))
        return winner


@pytest.fixture
def mile(experiment, tmp_path):
    def make(*fields, **options):
        folder = tmp_path / "experiment"
        folder.mkdir(exist_ok=True)
        return Mile(experiment(*FIELDS, *fields), folder, **options)

    return make


def test_finalists_are_trained_with_every_seed_and_the_best_mean_wins(mile):
    session = mile("retrain.lr_schedule=none")
    winner = session.winner()
    assert sorted(session.ran) == [f"finalist {trial} seed {seed}" for trial in (0, 1) for seed in (1, 2)]
    means = {each.trial.number: each.mean for each in winner.finalists}
    assert winner.trial.number == max(means, key=means.get)
    assert [each.mean for each in winner.finalists] == sorted(means.values(), reverse=True)
    assert winner.way == PLAIN
    told = yaml_file.read(session.directory.winner)[0]
    assert told["trial"] == winner.trial.number
    assert told["finalists"][0]["values"] == list(winner.finalists[0].values)
    assert told["finalists"][0]["drop"] == pytest.approx(told["finalists"][0]["search"] - means[winner.trial.number])
    assert told["why"] == "the highest mean val_accuracy over 2 fresh seeds, of the best 2 of 2 trials"
    assert [line.split(":")[0] for line in session.said] == [f"finalists {count}/4" for count in (1, 2, 3, 4)]


def test_every_way_is_measured_on_the_same_seeds_and_the_best_is_taken(mile):
    session = mile()
    winner = session.winner()
    assert len([key for key in session.ran if key.startswith("tail")]) == 8, "2 starts, 2 schedules, 2 seeds"
    assert len(winner.evidence) == 13
    assert {len(row.values) for row in winner.evidence} == {2}
    afresh = [row for row in winner.evidence if row.way.start == "scratch"]
    if winner.way.start == "scratch":
        assert winner.chosen.mean == max(row.mean for row in afresh)
    paired = next(row for row in afresh if row.way == Way("scratch", "cosine", "ema"))
    plain = next(row for row in afresh if row.way == PLAIN)
    assert paired.against_plain == pytest.approx([a - b for a, b in zip(paired.values, plain.values, strict=True)])
    told = yaml_file.read(session.directory.winner)[0]
    assert Way(**told["retrain"]) == winner.way
    assert len(told["evidence"]) == 13
    known = {trial.number: trial for trial in session.trials}
    again = read_winner(told, session.experiment.retrain, known)
    assert (again.trial, again.way, again.epochs) == (winner.trial, winner.way, winner.epochs)
    assert (again.finalists, again.evidence) == (winner.finalists, winner.evidence)


def test_nothing_is_trained_twice(mile):
    first = mile()
    before = first.winner()
    again = mile()
    after = again.winner()
    assert again.ran == []
    assert (after.way, after.finalists, after.evidence) == (before.way, before.finalists, before.evidence)
    more = mile("retrain.seeds=3", "retrain.lr_schedule=none")
    more.winner()
    assert more.ran == ["finalist 1 seed 3", "finalist 0 seed 3"]


def test_what_was_interrupted_goes_on_where_it_was(mile):
    first = mile("retrain.lr_schedule=none")
    train, left = first.mile._run, 3

    def until_the_third(jobs, done):
        nonlocal left

        def counted(job, result):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            done(job, result)

        train(jobs, counted)

    first.mile._run = until_the_third
    with pytest.raises(KeyboardInterrupt):
        first.winner()
    second = mile("retrain.lr_schedule=none")
    second.winner()
    assert second.ran == ["finalist 0 seed 2"]
    assert second.said[0].startswith("finalists 4/4: ")


def test_weights_that_are_gone_are_made_again_where_tails_need_them(mile):
    first = mile("retrain.lr_schedule=none")
    winner = first.winner()
    first.mile.tidy(winner)
    kept = sorted(path.name for path in (first.directory.path / "finalists").iterdir())
    assert kept == [f"{winner.trial.number:05d}-seed-{seed}.ckpt" for seed in (1, 2)]
    (first.directory.path / "finalists" / kept[0]).unlink()
    second = mile("retrain.lr_schedule=cosine", "retrain.start=scratch")
    second.winner()
    repeated = [key for key in second.ran if key.startswith("finalist")]
    assert repeated == [f"finalist {winner.trial.number} seed 1"]


def failing(session, key):
    """Makes one training of the session raise."""
    train = session.mile._run

    def run(jobs, done):
        for job in jobs:
            if key in job.key:
                done(job, {"failed": "ValueError: no luck", "traceback": "Traceback: here"})
            else:
                train([job], done)

    session.mile._run = run
    return session


def test_one_that_fails_does_not_win_and_is_tried_again_when_the_experiment_goes_on(mile):
    session = failing(mile("retrain.lr_schedule=none"), "finalist 1 seed 2")
    winner = session.winner()
    assert winner.trial.number == 0
    assert [(each.trial.number, each.broken, len(each.values)) for each in winner.finalists] == [(0, 0, 2), (1, 1, 1)]
    assert any(line.endswith("trial 1 again, seed 2: failed, ValueError: no luck") for line in session.said)
    again = mile("retrain.lr_schedule=none")
    again.winner()
    assert again.ran == ["finalist 1 seed 2"]


def test_where_all_fail_the_error_is_that_of_the_first(mile):
    with pytest.raises(
        RetrainFailedError, match="none of the finalists came to its end: ValueError: no luck"
    ) as caught:
        failing(mile(), "finalist").winner()
    assert caught.value.traceback == "Traceback: here"


def test_a_tail_that_fails_costs_its_ways_alone(mile):
    winner = failing(mile("retrain.start=scratch"), "cosine, 2 epochs, learning_rate 0.0003, seed 1").winner()
    unsound = {row.way for row in winner.evidence if not row.sound}
    assert unsound in (set(), {Way("scratch", "cosine", average) for average in ("raw", "swa", "ema")})
    assert winner.way not in unsound


def test_a_training_afresh_is_as_long_as_those_that_stopped_early(mile):
    whole = mile("retrain.lr_schedule=none").winner()
    assert whole.epochs == 2
    early = mile("retrain.lr_schedule=none", "trainer.early_stopping={monitor: train_loss, patience: 1}")
    stopped = {"curve": [0.5], "seconds": 1.0, "ended": {"val_accuracy": 0.5, "val_loss": 1.0}}
    early.mile.results.update({f"finalist {trial} seed {seed}": stopped for trial in (0, 1) for seed in (1, 2)})
    assert early.winner().epochs == 1


def test_without_seeds_the_best_of_the_search_wins_as_it_is(mile):
    session = mile("retrain.seeds=0")
    winner = session.winner()
    assert (winner.trial.number, winner.way, winner.finalists, winner.evidence) == (1, UNCOMPARED, (), ())
    assert session.ran == []
    assert yaml_file.read(session.directory.winner)[0]["why"] == "the highest val_accuracy of 2 trials"


def test_a_finalist_that_diverges_does_not_win(mile):
    session = mile("retrain.lr_schedule=none")
    session.trials[1].hparams.update(DIVERGES)
    winner = session.winner()
    assert winner.trial.number == 0
    assert [each.broken for each in winner.finalists] == [0, 2]
    assert "diverged or failed" in yaml_file.read(session.directory.winner)[0]["finalists"][1]
    assert any("train_loss was" in line for line in session.said)


def test_where_all_diverge_the_error_says_so(mile):
    session = mile()
    for trial in session.trials:
        trial.hparams.update(DIVERGES)
    with pytest.raises(
        RetrainFailedError,
        match=r"all finalists diverged, .*: set retrain\.finalists higher, or retrain\.seeds to 0",
    ):
        session.winner()


def test_no_trial_with_a_checkpoint_is_no_winner(mile):
    session = mile()
    assert session.mile.winner([]) is None
    assert not session.directory.winner.exists()


def test_a_study_that_cannot_be_written_is_told(mile, disk):
    def full(file, lines):
        if any("last mile" in str(line) for line in lines):
            raise OSError(28, "No space left on device")

    disk(full)
    session = mile("retrain.lr_schedule=none")
    with pytest.raises(StorageError, match=r"experiment can no longer be written: .*No space left on device"):
        session.winner()


@pytest.mark.parametrize(
    ("choose", "number", "finalists", "why"),
    [
        ("{max: val_accuracy}", None, 2, "the highest mean val_accuracy over 2 fresh seeds, of the best 2 of 2 trials"),
        (
            "{max: val_accuracy, subject_to: {parameters: {upper: 15}}}",
            0,
            1,
            "the highest val_accuracy of 2 trials with parameters at most 15, again with 2 fresh seeds",
        ),
        ("{min: parameters}", 0, 1, "the lowest parameters of 2 trials, again with 2 fresh seeds"),
    ],
)
def test_of_several_objectives_only_a_metric_is_measured_again_and_of_trials_within_bounds(
    mile, choose, number, finalists, why
):
    several = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"
    one = mile(several, f"search.choose={choose}", "retrain.start=scratch", "retrain.lr_schedule=none")
    for trial in one.trials:
        trial.figures = {2: {"val_accuracy": trial.values[2], "parameters": 10.0 * (1 + trial.number)}}
    winner = one.winner()
    assert number in (None, winner.trial.number)
    assert len(winner.finalists) == finalists
    assert len(one.ran) == 2 * finalists
    written, _ = yaml_file.read(one.directory.winner)
    assert (written["why"], written["parameters"]) == (why, 10.0 * (1 + winner.trial.number))


def test_where_no_trial_is_within_the_bounds_nothing_is_trained_again(mile):
    several = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"
    one = mile(several, "search.choose.subject_to.parameters.upper=5")
    for trial in one.trials:
        trial.figures = {2: {"val_accuracy": trial.values[2], "parameters": 10.0}}
    with pytest.raises(SearchFailedError, match=r"^none of 2 trials is within search\.choose \(parameters at most 5\)"):
        one.winner()
    assert one.ran == []
    assert not one.directory.winner.exists()
