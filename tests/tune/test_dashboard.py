"""optuna-dashboard on a study: what it shows of a running search, and that it changes nothing."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tune import experiment as experiments
from tune.__main__ import main
from tune.open_study import open_study

pytest.importorskip("optuna_dashboard", reason="needs cifar-tune[dashboard]")


@pytest.fixture
def serve(storage):
    """Serves an experiment; gives the server's address, and ends it by Ctrl-C."""
    begun = []

    def begin(name, *options):
        command = [sys.executable, "-m", "tune", "dashboard", name, "--storage", str(storage), "--port", "0", *options]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background jobs, and so their children, ignore it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        begun.append(process)
        said = process.stdout.readline()
        found = re.fullmatch(r"ready: (http://127\.0\.0\.1:\d+)(/dashboard/studies/\d+); Ctrl-C ends it\n", said)
        assert found, (said, process.communicate()[1])
        with urllib.request.urlopen(found[1] + found[2], timeout=30) as page:
            assert b"Optuna Dashboard" in page.read()
        return found[1]

    yield begin
    for process in begun:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


def trials(url, study=0):
    with urllib.request.urlopen(f"{url}/api/studies/{study}", timeout=30) as answer:
        return json.load(answer)["trials"]


def test_a_running_search_is_shown_as_it_gets_on_and_cannot_be_changed(begun, storage, serve):
    one = begun("one", "search.trials=4", "scheduler.max_epochs=3", "search.sampler=random")
    one.run(steps=3)
    journal = storage / "one" / "study.journal"
    before = journal.read_bytes()
    url = serve("one")
    assert sum(len(trial["intermediate_values"]) for trial in trials(url)) == 3
    for method, path in (("DELETE", "studies/0"), ("PUT", "studies/0/note"), ("POST", "trials/0/tell")):
        request = urllib.request.Request(f"{url}/api/{path}", b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        with refused.value as answer:
            assert answer.code == 403
            assert json.load(answer) == {"reason": "the study is only shown here: it is the record of a search"}
    assert journal.read_bytes() == before
    one.run()
    until = time.monotonic() + 20  # it looks again every two seconds
    while sum(trial["state"] != "Running" for trial in trials(url)) < 4:
        assert time.monotonic() < until
        time.sleep(0.2)
    curves = {trial["number"]: [one["value"] for one in trial["intermediate_values"]] for trial in trials(url)}
    assert curves == {number: list(trial.values.values()) for number, trial in one.trials.items()}


@pytest.mark.slow
def test_a_study_in_a_database_is_shown_too(experiment, storage, serve):
    url = f"sqlite:///{storage}/study.db"
    one = replace(experiment("search.trials=2"), name="one")
    directory = experiments.reserve(str(storage), "one")
    experiments.begin(directory, one, "python -m tune.run", "f00d", study=url)
    record, _ = open_study(one, directory, str(storage), url, "f00d")
    record.propose(one.space)
    assert [trial["number"] for trial in trials(serve("one"), 1)] == [0]


def test_what_is_not_there_is_said_in_a_line(begun, storage):
    begun("one", "search.trials=2")
    for arguments, line in (
        (["on"], r"error: dashboard: there is no experiment on in .*; did you mean 'one'\?\n"),
        (["one", "--host", "192.0.2.1"], r"error: --host 192\.0\.2\.1 --port 8080: cannot listen there .*\n"),
    ):
        done = CliRunner().invoke(main, ["dashboard", *arguments, "--storage", str(storage)])
        assert done.exit_code == 2
        assert re.fullmatch(line, done.stderr)


def test_an_address_that_others_reach_brings_a_warning(begun, storage):
    begun("one", "search.sampler=random").run(steps=1)
    command = [sys.executable, "-m", "tune", "dashboard", "one", "--storage", str(storage), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline().startswith("ready: http://0.0.0.0:")
    process.send_signal(signal.SIGINT)
    warning = "warning: it listens on 0.0.0.0 and asks for no password: who reaches it sees it\n"
    assert process.communicate(timeout=30) == ("", warning)
