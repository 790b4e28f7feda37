import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tune import yaml_file
from tune.errors import NameTakenError, StorageError
from tune.experiment import (
    ExperimentDir,
    begin,
    command_line,
    git_commit,
    reserve,
    resuming,
    to_yaml,
    versions,
    whole,
    write_text,
)
from tune.spec import load


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_reserved_experiment_is_named_but_not_made(tmp_path):
    storage = tmp_path / "a" / "b"
    assert reserve(str(storage), "first") == ExperimentDir(storage / "first")
    assert files(storage) == []


def test_the_storage_may_be_relative_to_the_working_directory_or_the_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert reserve("experiments", "first").path == tmp_path / "experiments" / "first"
    assert reserve("~/experiments", "first").path == tmp_path / "home" / "experiments" / "first"


@pytest.mark.parametrize(
    "name", ["a", "my search", "v1.2", 'it\'s "so" $HOME;', "🚀 größer", "a" * 200, "ü" * 100, "tilde~", "[red]"]
)
def test_names_that_may_be_given(tmp_path, name):
    directory = reserve(str(tmp_path), name)
    directory.path.mkdir()
    assert files(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "../x",
        "/abs",
        "a/b",
        "a\\b",
        "a\nb",
        "a\x00b",
        "a\tb",
        "\udcff",
        "a" * 201,
        "ü" * 101,
    ],
)
def test_names_that_may_not_be_given(tmp_path, name):
    with pytest.raises(StorageError) as caught:
        reserve(str(tmp_path), name)
    assert str(caught.value) == (
        f"--name {name!r}: must be 1 to 200 printable characters without / or \\, and not start with . or -"
    )
    assert files(tmp_path) == []


def test_a_taken_name_suggests_a_free_one_and_changes_nothing(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "winner.yaml").write_text("trial: 3\n")
    (tmp_path / "first-2").mkdir()
    with pytest.raises(NameTakenError) as caught:
        reserve(str(tmp_path), "first")
    assert str(caught.value) == (
        f"the experiment {tmp_path / 'first'} exists; "
        "go on with it by --resume, or choose another name, as in --name first-3"
    )
    assert files(tmp_path) == ["first", "first-2", "first/winner.yaml"]
    assert (tmp_path / "first" / "winner.yaml").read_text() == "trial: 3\n"


def test_a_name_is_taken_by_an_empty_folder_a_file_or_a_broken_link_too(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(NameTakenError, match=rf"--name {name}-2$"):
            reserve(str(tmp_path), name)
    assert files(tmp_path) == ["file", "folder", "link"]


def test_the_suggested_name_can_be_pasted_into_a_shell(tmp_path):
    (tmp_path / "it's mine").mkdir()
    with pytest.raises(NameTakenError) as caught:
        reserve(str(tmp_path), "it's mine")
    assert shlex.split(str(caught.value).partition("as in ")[2]) == ["--name", "it's mine-2"]


def test_a_storage_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(StorageError) as caught:
        reserve(str(file), "first")
    assert str(caught.value) == f"--storage {file}: is not a directory; choose another"
    assert not isinstance(caught.value, NameTakenError)
    assert file.read_text() == "precious"


def test_a_storage_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    reasons = {
        str(tmp_path / "file" / "below"): "Not a directory",
        "/proc/experiments": "No such file or directory",  # nobody may write there, not even root
        str(tmp_path / "loop" / "x"): "Symlink loop from .*",
        "~nobody-of-that-name/x": "Could not determine home directory.",
        str(tmp_path / ("x" * 300)): "File name too long",
    }
    for storage, reason in reasons.items():
        rule = rf"^--storage {re.escape(storage)}: {reason}; choose a folder that can be written$"
        with pytest.raises(StorageError, match=rule):
            reserve(storage, "first")


@pytest.fixture
def experiment(experiment_file):
    return load(experiment_file("data: {source: digits}\nspace: {width: {type: float, lower: 0.5, upper: 1}}\n"))


def test_a_begun_experiment_holds_a_record_that_loads_as_the_experiment(tmp_path, experiment):
    directory = reserve(str(tmp_path / "experiments"), "first")
    begin(directory, experiment, "python -m tune.run --space 'a b.yaml'", "f00d")
    assert files(directory.path) == ["experiment.yaml"]
    record, _ = yaml_file.read(directory.spec)
    assert record["provenance"]["command"] == "python -m tune.run --space 'a b.yaml'"
    assert record["provenance"]["data_fingerprint"] == "f00d"
    assert record["provenance"]["versions"]["optuna"] == versions()["optuna"]
    assert load(directory.spec).to_dict() == experiment.to_dict()


def test_a_begun_experiment_has_taken_its_name(tmp_path, experiment):
    begin(reserve(str(tmp_path), "first"), experiment, "", "")
    with pytest.raises(
        NameTakenError, match=r"exists; go on with it by --resume, or choose another name, as in --name first-2$"
    ):
        reserve(str(tmp_path), "first")


def test_every_path_lies_in_the_directory_under_its_own_name():
    directory = ExperimentDir(Path("/x/first"))
    paths = [
        directory.spec,
        directory.journal,
        directory.trials,
        directory.winner,
        directory.model,
        directory.ledger,
        directory.report,
        directory.wandb,
    ]
    assert {path.parent for path in paths} == {directory.path}
    assert len(set(paths)) == len(paths)


def test_a_whole_file_replaces_the_old_one_at_the_end(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("old")
    with whole(file) as beside:
        beside.write_text("new")
        assert file.read_text() == "old"
        assert beside.parent == file.parent  # else the last step would be a copy, which can break off
    assert file.read_text() == "new"
    assert files(tmp_path) == ["report.html"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_midway_leaves_the_old_file_and_no_litter(tmp_path, error):
    file = tmp_path / "report.html"
    file.write_text("old")

    def fail() -> None:
        with whole(file) as beside:
            beside.write_text("half")
            raise error("midway")

    with pytest.raises(error, match="midway"):
        fail()
    assert file.read_text() == "old"
    assert files(tmp_path) == ["report.html"]


def test_a_first_file_that_fails_is_not_there(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "winner.yaml", "half \udcff")
    assert files(tmp_path) == []


def test_a_value_that_yaml_cannot_hold_leaves_the_old_file(tmp_path):
    from ruamel.yaml.representer import RepresenterError

    file = tmp_path / "winner.yaml"
    to_yaml({"trial": 1}, file)
    with pytest.raises(RepresenterError, match="cannot represent an object"):
        to_yaml({"trial": object()}, file)
    assert yaml_file.read(file)[0] == {"trial": 1}
    assert files(tmp_path) == ["winner.yaml"]


def test_text_is_written_as_utf_8(tmp_path):
    write_text(tmp_path / "README.md", "größer 🚀\n")
    assert (tmp_path / "README.md").read_bytes() == "größer 🚀\n".encode()


def test_a_process_killed_midway_leaves_the_old_file(tmp_path):
    file = tmp_path / "winner.yaml"
    file.write_text("old")
    code = (
        "import os, pathlib, sys; from tune.experiment import whole\n"
        "with whole(pathlib.Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('half'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == 9
    assert file.read_text() == "old"


def test_versions_are_of_the_packages_a_result_depends_on():
    assert {"cifar-tune", "torch", "ray", "optuna", "lightning"} <= set(versions())


def test_the_commit_of_a_checkout_marked_where_there_are_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == ""
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "a"], [*identity, "commit", "-qm", "first"]):
        Path("a").write_text("1")
        subprocess.run(["git", *command], check=True)
    commit = git_commit()
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    Path("a").write_text("2")
    assert git_commit() == f"{commit}-dirty"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["/x/tune/run.py", "--space", "a b.yaml"], "python -m tune.run --space 'a b.yaml'"),
        (
            ["/x/tune/__main__.py", "run", "--set", "data.root=~/it's"],
            "python -m tune run --set 'data.root=~/it'\"'\"'s'",
        ),
    ],
)
def test_the_command_line_can_be_pasted_into_a_shell(monkeypatch, arguments, line):
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == line
    assert shlex.split(line)[3:] == arguments[1:]


@pytest.mark.parametrize(
    ("flag", "again"), [("", " --resume"), (" --resume", " --resume"), (" --restartable", " --restartable")]
)
def test_the_call_that_goes_on_says_so_once(flag, again):
    command = "python -m tune.run --space a.yaml"
    assert resuming(f"{command}{flag}") == f"{command}{again}"


def test_litter_of_another_process_is_not_touched(tmp_path):
    """Two processes that write one file each have a name of their own to write to."""
    other = tmp_path / f".report.html.{os.getpid() + 1}"
    other.write_text("theirs")
    write_text(tmp_path / "report.html", "mine")
    assert other.read_text() == "theirs"


def test_a_job_knows_the_call_and_the_commit_that_it_was_sent_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR_SENT_BY", "python -m tune submit --space s.yaml --name 'a b' --address http://head:8265")
    monkeypatch.setenv("CIFAR_GIT_COMMIT", "0123abc-dirty")
    assert command_line().startswith("python -m tune submit ")
    assert command_line(resume=True) == "python -m tune resume 'a b' --address http://head:8265"
    assert git_commit() == "0123abc-dirty"
