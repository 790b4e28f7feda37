"""Calls of `python -m tune.run` that must end before any cluster is started."""

import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tune.experiment import begin, reserve
from tune.run import main
from tune.spec import load

SPACES = Path(__file__).parents[2] / "search_spaces"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)))

    return call


@pytest.fixture
def images(tmp_path):
    """Twenty noisy images in each of two classes and two splits; the folder may be spoilt by the test."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(20):
                Image.fromarray(generator.integers(256, size=(9, 9, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "images"


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_the_plan_shows_the_experiment_the_rungs_and_the_cost_and_starts_nothing(run, tmp_path):
    overrides = (
        "search.trials=16",
        "scheduler.max_epochs=9",
        "scheduler.grace_period=1",
        "scheduler.reduction_factor=3",
    )
    sets = [word for override in overrides for word in ("--set", override)]
    result = run("--space", SPACES / "quickstart.yaml", "--dry-run", *sets)
    assert result.exit_code == 0
    assert "trials: 16\n" in result.stdout
    assert "# epoch 1: rung, about 16 trials get there\n# epoch 3: rung, about 5 trials get there\n" in result.stdout
    assert "# epoch 9: end, about 1 trial gets there\n" in result.stdout
    # 16 for the first epoch, 5 for the next two, 1 for the six after
    assert "# about 32 epochs, at most 144, and " in result.stdout
    assert not (tmp_path / "experiments").exists()


def test_the_plan_says_what_an_audit_adds(run):
    sets = [word for override in (*NINE, "search.trials=16", "scheduler.audit=0.25") for word in ("--set", override)]
    result = run("--space", SPACES / "quickstart.yaml", "--dry-run", *sets)
    # a quarter of the 144 - 32 epochs that stopping spares
    assert result.stdout.endswith("# about 28 more for the audit of 25% of the stopped trials\n")


def test_the_plan_without_early_stopping(run):
    result = run("--space", SPACES / "baseline.yaml", "--dry-run")
    assert result.stdout.endswith("# no early stopping: 50 epochs, and 20 of the retrain\n")


NINE = ("scheduler.max_epochs=9", "scheduler.grace_period=1", "scheduler.reduction_factor=3")
RETRAIN = ("retrain.epochs=8", "retrain.start=checkpoint", "retrain.finalists=3", "retrain.seeds=0")
GRID = ("search.sampler=grid", "space={translate: {type: int, lower: 0, upper: 4}}")


@pytest.mark.parametrize(
    ("sets", "plan"),
    [
        (
            ["scheduler.type=hyperband"],
            ["16 trials of up to 9 epochs", "hyperband: at most 144 epochs, and 8 of the retrain"],
        ),
        (
            ["scheduler.type=median"],
            ["16 trials of up to 9 epochs", "median: at most 144 epochs, and 8 of the retrain"],
        ),
        (["scheduler.type=pbt"], ["16 trials of up to 9 epochs", "pbt: at most 144 epochs, and 8 of the retrain"]),
        (
            ["scheduler.type=pbt", "search.epoch_budget=100"],
            ["16 trials of up to 9 epochs", "pbt: at most 100 epochs, and 8 of the retrain"],
        ),
        (
            ["scheduler.mode=promote", "retrain.start=scratch"],
            [
                "16 trials of up to 9 epochs",
                "epoch 1: rung, about 16 trials get there",
                "epoch 3: rung, about 5 trials get there",
                "epoch 9: end, about 1 trial gets there",
                "about 32 epochs, at most 144, and 17 of the retrain",  # the winner's 9 again
            ],
        ),
        (
            ["scheduler.grace_period=9", "search.epoch_budget=20"],
            [
                "16 trials of up to 9 epochs",
                "epoch 9: end, about 16 trials get there",
                "about 20 epochs, at most 20, and 8 of the retrain",
            ],
        ),
        (
            ["scheduler.type=none", "search.epoch_budget=20"],
            ["16 trials of up to 9 epochs", "no early stopping: 20 epochs, and 8 of the retrain"],
        ),
        (
            ["scheduler.type=none", "search.epoch_budget=1000"],
            ["16 trials of up to 9 epochs", "no early stopping: 144 epochs, and 8 of the retrain"],
        ),
        (
            ["scheduler.type=none", *GRID],
            [
                "5 trials of up to 9 epochs, of the grid's 5 points",
                "no early stopping: 45 epochs, and 8 of the retrain",
            ],
        ),
        (
            ["scheduler.type=median", *GRID, "search.trials=3"],
            ["3 trials of up to 9 epochs, of the grid's 5 points", "median: at most 27 epochs, and 8 of the retrain"],
        ),
        (
            ["scheduler.type=none", "retrain.seeds=3"],  # 3 x 3 x 9, and 2 schedules x 3 seeds x 8
            [
                "16 trials of up to 9 epochs",
                "no early stopping: 144 epochs, and 129 of 3 finalists with 3 fresh seeds, 8 at most of the model",
            ],
        ),
        (
            ["scheduler.type=none", "search.trials=1", "retrain.seeds=2", "retrain.start=auto"],  # and from scratch too
            [
                "1 trials of up to 9 epochs",
                "no early stopping: 9 epochs, and 82 of 1 finalist with 2 fresh seeds, 17 at most of the model",
            ],
        ),
        (
            ["scheduler.type=none", "retrain.seeds=1", "retrain.lr_schedule=cosine", "retrain.average=ema"],
            [
                "16 trials of up to 9 epochs",
                "no early stopping: 144 epochs, and 27 of 3 finalists with 1 fresh seed, 8 at most of the model",
            ],
        ),
    ],
)
def test_the_plan_of_each_scheduler_and_of_what_ends_it_early(run, tmp_path, sets, plan):
    fields = ("search.trials=16", *NINE, *RETRAIN, *sets)
    result = run(
        "--space", SPACES / "quickstart.yaml", "--dry-run", *(word for field in fields for word in ("--set", field))
    )
    assert (result.exit_code, result.stderr) == (0, "")
    _, _, shown = result.stdout.partition("\n\n# ")
    assert shown.splitlines() == [plan[0], *(f"# {line}" for line in plan[1:])]
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: remove(root), "data.root {root} does not exist; images belong in {root}/train/<class>/"),
        (lambda root: remove(root / "train"), "data.root {root} has no folder train/"),
        (lambda root: [remove(root / "train" / name) for name in ("cat", "dog")], "{root}/train is empty"),
        (lambda root: remove(root / "train" / "dog"), "{root} has one class only, 'cat'"),
        (lambda root: remove(root / "test" / "dog"), "{root}/test has no image of the class 'dog'"),
        (lambda root: (root / "test" / "bird").mkdir(), "{root}/test has the class 'bird', which {root}/train lacks"),
        (lambda root: (root / "train" / "cat" / "x.png").write_text("no"), "1 of 41 files in {root}/train are broken"),
    ],
)
def test_images_laid_out_wrong_are_told_in_one_line(run, images, tmp_path, spoil, message):
    spoil(images)
    result = run("--space", SPACES / "image_folder.yaml", "--set", f"data.root={images}")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: " + message.format(root=images))
    assert result.stderr.count("\n") == 1
    assert list((tmp_path / "experiments").iterdir()) == []


def test_cifar10_without_a_network_says_what_to_do(run, tmp_path, monkeypatch):
    # a proxy that refuses: the same on a machine that has a network
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        result = run("--space", SPACES / "cnn.yaml", "--set", f"data.root={tmp_path / 'downloads'}")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: cifar10 is not in {tmp_path / 'downloads'} and cannot be downloaded (")
    assert "--set data.source=digits" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_storage_that_cannot_be_written_is_refused_before_anything_is_read(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--space", SPACES / "quickstart.yaml", "--storage", tmp_path / "file" / "below")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --storage {tmp_path / 'file' / 'below'}: Not a directory")


def test_a_name_in_use_is_refused_and_a_free_one_suggested(run, tmp_path):
    (tmp_path / "experiments" / "quickstart").mkdir(parents=True)
    (tmp_path / "experiments" / "quickstart-2").mkdir()
    result = run("--space", SPACES / "quickstart.yaml")
    assert result.exit_code == 2
    assert "as in --name quickstart-3" in result.stderr


def test_every_problem_of_a_file_comes_at_once_each_in_a_line(run):
    result = run("--space", SPACES / "quickstart.yaml", "--set", "search.trials=0", "--set", "search.sampler=tpee")
    assert result.exit_code == 2
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["error", "error"]


def test_a_misspelt_option_suggests_the_right_one(run):
    result = run("--spce", SPACES / "quickstart.yaml")
    assert result.exit_code == 2
    assert "'--space'" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("--resume",), ("--name", "x"), ("--restartable", "--name", "x"), ("--resume", "--name", "x", "--dry-run")],
)
def test_only_what_began_goes_on_without_an_experiment_file(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--space FILE is missing; only --resume --name NAME goes on without it" in result.stderr


def test_the_storage_may_come_from_the_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_STORAGE", str(tmp_path / "kept"))
    result = run("--resume", "--name", "x")
    assert result.exit_code == 2
    assert f"there is no experiment x in {tmp_path / 'kept'}" in result.stderr


GONE = ("--space", SPACES / "image_folder.yaml", "--set", "data.root=gone", "--restartable")
NO_IMAGES = "error: data.root {root}/gone does not exist; images belong in {root}/gone/train/<class>/\n"


def test_a_job_that_may_be_started_again_begins_what_has_not_begun(run, tmp_path):
    """All that is before its images, which are not there."""
    half = tmp_path / "experiments" / "image_folder"
    assert run(*GONE).stderr == NO_IMAGES.format(root=tmp_path)
    half.mkdir()
    (half / ".experiment.yaml.7").write_text("data: {sou")
    assert run(*GONE).stderr == NO_IMAGES.format(root=tmp_path)
    assert not half.exists(), "what a beginning cut short left goes"
    half.mkdir()
    (half / "thesis.tex").touch()
    assert "the experiment" in (refused := run(*GONE)).stderr
    assert f"{half} exists; " in refused.stderr
    assert (refused.exit_code, [path.name for path in half.iterdir()]) == (2, ["thesis.tex"])


def test_a_job_that_is_started_again_goes_on_with_what_has_begun(run, images, tmp_path):
    sets = ("--set", f"data.root={images}")
    begun = load(SPACES / "image_folder.yaml", (sets[1], "search.seed=1"))
    begin(reserve(str(tmp_path / "experiments"), begun.name), begun, "python -m tune.run", "f00d")
    result = run(*GONE[:2], *sets, "--restartable", "--set", "search.seed=2")
    assert result.exit_code == 2
    assert "search.seed: the search began with 1, and now it is 2" in result.stderr


def test_what_cannot_be_read_is_not_taken_for_what_has_not_begun(run, tmp_path):
    (tmp_path / "experiments" / "image_folder" / "experiment.yaml").mkdir(parents=True)
    result = run(*GONE)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --storage {tmp_path / 'experiments'}: ")
    assert "cannot use it" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_job_is_either_restartable_or_resumed(run):
    result = run(*GONE, "--resume")
    assert result.exit_code == 2
    assert "--resume and --restartable: choose one; the latter resumes, too, what has begun" in result.stderr
