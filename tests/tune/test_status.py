"""`python -m tune status` and `list`, as they are called."""

import json
import subprocess
import sys
import threading
import time

import optuna
import pytest
from click.testing import CliRunner, Result

from tune import experiment as experiments
from tune import yaml_file
from tune.__main__ import main
from tune.experiment import ExperimentDir
from tune.study_storage import journal_storage

FIELDS = ("search.trials=4", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "search.sampler=random")


@pytest.fixture
def tune(storage):
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--storage", str(storage)])

    return call


def test_an_experiment_by_its_name(begun, tune):
    begun("one", *FIELDS, slots=2).run(steps=3)
    result = tune("status", "one")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("one: interrupted, in the search\ntrials: 0 of 4 ended\n")
    assert "\x1b" not in result.stdout


def test_without_a_name_it_says_which_it_took(begun, tune):
    begun("one", *FIELDS)
    assert tune("status").stdout.startswith("one: interrupted")
    assert tune("status").stderr == ""
    begun("two", *FIELDS)
    with ExperimentDir(begun("three", *FIELDS).folder).locked():
        result = tune("status")
    assert result.stdout.startswith("three: running")
    assert result.stderr == "three: the one that runs of 3 experiments; name another to see that\n"


def test_a_name_that_is_an_emojis_stays_as_it_is(begun, tune):
    begun(":dog:", *FIELDS)
    assert tune("status").stdout.startswith(":dog:: interrupted")
    assert tune("list").stdout.startswith(":dog:: ")


def test_figures_for_programs(begun, tune):
    begun("one", *FIELDS, slots=2).run(steps=3)
    told = json.loads(tune("status", "one", "--json").stdout)
    assert told.keys() == {
        "name", "experiment", "state", "began", "sessions", "trials", "slots", "audits", "epochs", "epoch_seconds",
        "search_seconds", "retrain_seconds", "left", "metric", "best", "limits", "ended_because", "last_ends",
        "last_mile", "winner", "test", "go_on",
    }  # fmt: skip
    assert json.loads(tune("list", "--json").stdout) == [told]


@pytest.fixture
def behind_a_password(begun, storage):
    """The URL of the database that has the study of experiment "one", whose record names another, less a password."""
    one = begun("one", *FIELDS).run()
    url, journal = f"sqlite:///{storage}/study.db", storage / "one" / "study.journal"
    kept = journal_storage(journal)
    (name,) = optuna.get_all_study_names(kept)
    optuna.copy_study(from_study_name=name, from_storage=kept, to_storage=url, to_study_name="one")
    journal.unlink()
    file = storage / "one" / "experiment.yaml"
    provenance = {**yaml_file.read(file)[0]["provenance"], "study": "postgresql://me:***@host/db"}
    experiments.to_yaml({**one.experiment.to_dict(), "provenance": provenance}, file)
    return url


def test_a_study_behind_a_password_is_given(behind_a_password, tune):
    for command in ("status", "report", "next", "what-if"):
        refused = tune(command, "one")
        why = f"{command}: one has its study in postgresql://me:***@host/db, behind a password; give it by --study"
        assert (refused.exit_code, refused.stderr) == (2, f"error: {why}\n")
        assert tune(command, "one", "--study", behind_a_password).exit_code == 0
    assert tune("list").stdout.startswith("one: cannot be read: status: one has its study in postgresql://me:***@host")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nope"], r"status: there is no experiment nope in "),
        (["status", "../one"], r"--name '../one': must be "),
        (["status", "on"], r"did you mean 'one'?"),
        (["status", "one", "--watch", "--json"], "--watch shows, --json tells once: choose one of them"),
    ],
)
def test_a_mistake_exits_2_with_a_line(begun, tune, arguments, message):
    begun("one", *FIELDS)
    result = tune(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_what_cannot_be_read_exits_2_with_its_file(begun, tune, storage):
    begun("one", *FIELDS)
    (storage / "one" / "study.journal").unlink()
    result = tune("status", "one")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {storage}/one/study.journal: no study can be read there")


def test_there_are_no_experiments(tune):
    assert tune("status").exit_code == 2
    assert "no experiment has begun in" in tune("status").stderr
    result = tune("list")
    assert (result.exit_code, result.stdout.startswith("no experiment has begun in ")) == (0, True)
    assert json.loads(tune("list", "--json").stdout) == []


def test_watching_ends_when_it_runs_no_more(begun, tune, monkeypatch):
    monkeypatch.setattr("tune.status._LINES_S", 0.1)
    one = begun("one", *FIELDS, slots=2)
    ready = threading.Event()

    def search() -> None:
        with ExperimentDir(one.folder).locked():
            one.run(steps=3)
            ready.set()
            time.sleep(1.0)

    thread = threading.Thread(target=search)
    thread.start()
    ready.wait(30)
    result = tune("status", "one", "--watch")
    thread.join()
    states = [line for line in result.stdout.splitlines() if line.startswith("one: ")]
    assert states[0] == "one: running, in the search"
    assert states[-1] == "one: interrupted, in the search"


def test_neither_torch_nor_ray_is_loaded(begun, storage):
    begun("one", *FIELDS, slots=2).run(steps=3)
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom tune.__main__ import main\n"
        f"for arguments in (['status', 'one'], ['list']):\n"
        f"    assert CliRunner().invoke(main, [*arguments, '--storage', {str(storage)!r}]).exit_code == 0\n"
        "print(sorted({'torch', 'ray', 'scipy', 'pandas', 'sklearn', 'plotly', 'pyarrow'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
