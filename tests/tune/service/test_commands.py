"""What is wrong with a call is told before a cluster is asked."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tune.__main__ import main

QUICKSTART = str(Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml")


@pytest.fixture
def submit(monkeypatch):
    def run(*arguments: str) -> Result:
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        return CliRunner().invoke(main, ["submit", "--space", QUICKSTART, *arguments])

    return run


def test_every_error_of_the_experiment_is_told_at_once(submit):
    done = submit("--set", "search.trials=0", "--set", "scheduler.max_epoch=3")
    assert done.exit_code == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "error"]
    assert "search.trials: got 0" in done.stderr
    assert "did you mean 'max_epochs'?" in done.stderr


def test_what_must_not_be_sent_is_told_at_once(submit):
    done = submit("--storage", "experiments", "--study", "mysql://me:hidden@db/x")
    assert done.exit_code == 2
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["--storage", "--study"]
    assert "hidden" not in done.output


def test_a_name_that_leads_elsewhere_is_refused(submit):
    done = submit("--name", "../x")
    assert done.exit_code == 2
    assert "error: --name '../x': must be 1 to 200 printable characters without /" in done.stderr


def test_a_cluster_must_be_named(submit):
    done = submit("--storage", "/shared")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --address: is missing; name the cluster by the address of Ray's dashboard")


@pytest.mark.parametrize("command", ["submit", "jobs", "logs", "stop", "resume", "fetch"])
def test_every_command_has_help_that_names_the_variable_of_its_address(command):
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0
    assert "RAY_API_SERVER_ADDRESS" in done.output


@pytest.mark.parametrize(
    ("variable", "output", "read"),
    [
        (None, [], "status quickstart"),
        ("", [], "status quickstart"),
        ("elsewhere", [], "status quickstart --storage experiments"),
        ("elsewhere", ["--output", "elsewhere"], "status quickstart"),
        (None, ["--output", "elsewhere"], "status quickstart --storage elsewhere"),
    ],
)
def test_what_fetch_says_comes_next_reads_what_it_fetched(tmp_path, monkeypatch, variable, output, read):
    (tmp_path / "there" / "quickstart").mkdir(parents=True)
    (tmp_path / "there" / "quickstart" / "experiment.yaml").write_text("provenance: {}\n")
    monkeypatch.chdir(tmp_path)
    where = ["--storage", (tmp_path / "there").as_uri(), "--address", "http://127.0.0.1:1"]
    done = CliRunner().invoke(main, ["fetch", "quickstart", *output, *where], env={"CIFAR_STORAGE": variable})
    assert done.exit_code == 0, done.stderr
    assert f"next:\n  python -m tune {read}\n" in done.stdout
