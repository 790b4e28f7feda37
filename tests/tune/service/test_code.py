"""What of this machine a job gets, and what it never gets."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from cifar.errors import UserError
from tune.service import code
from tune.service.code import staged

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def sent(tmp_path):
    """What `staged` sends of the files that it is given, less those of this package."""

    def names(files: dict[str, str], space: Path | None = None) -> set[str]:
        folder = tmp_path / "current"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        with staged(space, folder) as told:
            there = {str(path.relative_to(told.folder)) for path in told.folder.rglob("*") if path.is_file()}
            assert told.files == len(there)
            assert told.size == sum((told.folder / name).stat().st_size for name in there)
        assert not told.folder.exists()
        return {name for name in there if name.split("/")[0] not in ("cifar", "tune")}

    return names


def test_the_users_own_modules_and_the_experiment_file_go_with_a_job(sent, tmp_path):
    space = tmp_path / "it's a search.yaml"
    space.write_text("data: {source: digits}")
    files = {"own.py": "", "nets/deep/one.py": "", "nets/__init__.py": ""}
    assert sent(files, space) == {*files, "space/it's a search.yaml"}


def test_nothing_else_does(sent):
    left_out = [
        ".env",
        ".secret.py",
        ".ssh/id_rsa",
        ".venv/a.py",
        "data/train/cat/1.png",
        "env/pyvenv.cfg",
        "env/lib/a.py",
        "experiments/quickstart/study.journal",
        "key.pem",
        "nets/__pycache__/one.py",
        "node_modules/tool/setup.py",
        "other.yaml",
        "settings.json",
        "token",
        "wandb/run/files/output.log",
    ]
    assert sent({"own.py": "", **dict.fromkeys(left_out, "secret")}) == {"own.py"}


def test_of_this_package_everything_that_is_in_the_repository_is_sent():
    names = ["git", "ls-files", "cifar", "tune"]
    tracked = subprocess.run(names, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()
    with staged(None, Path("/nonexistent")) as told:
        there = {str(path.relative_to(told.folder)) for path in told.folder.rglob("*") if path.is_file()}
    assert set(tracked) <= there


def test_a_package_beside_the_users_modules_is_not_taken_for_this_one(sent):
    assert sent({"own.py": "", "tune/other.py": ""}) == {"own.py"}
    with staged(None, PROJECT) as told:
        root = find_spec("tune").submodule_search_locations[0]
        assert (told.folder / "tune" / "run.py").read_bytes() == (Path(root) / "run.py").read_bytes()


def test_modules_that_are_too_much_to_send_are_an_error(sent, monkeypatch):
    monkeypatch.setattr(code, "_MOST_BYTES", 2**20)
    with pytest.raises(UserError, match=r"the modules \(\*\.py\) below .* are more than 1 MiB; call it"):
        sent({"own.py": "#" * 2**20})
