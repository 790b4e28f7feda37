"""Searches as jobs of a real Ray cluster that wants a token: sent, watched, stopped, gone on with, brought back.

The tests share a cluster, and the last one looks through all that the others left.
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import torch

PROJECT = Path(__file__).parents[2]
QUICKSTART = PROJECT / "search_spaces" / "quickstart.yaml"
FEW = ("search.trials=3", "scheduler.max_epochs=3", "retrain.seeds=0", "retrain.epochs=1")
NAME = 'it\'s <b>"café" 🚀'
WANDB_KEY = "0123456789abcdef" * 2 + "beef" * 2

# A network whose size tells whose it is, which runs only where the job's own code is used.
NETWORK = """
import time

from torch import nn

import cifar
import tune

for package in (cifar, tune):
    assert "working_dir_files" in package.__file__, package.__file__


class Net(nn.Module):
    def __init__(self, classes, inputs):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, SIZE), nn.Linear(SIZE, classes))

    def forward(self, images):
        time.sleep(SECONDS if self.training else 0)
        return self.net(images)


def net(classes, channels, image_size):
    return Net(classes, channels * image_size**2)
"""
SPACE = """
data: {source: digits, limit: 640}
space: {network: "own:net", learning_rate: {type: float, lower: 0.001, upper: 0.1}}
search: {trials: TRIALS, sampler: random, seed: 1}
scheduler: {type: none, max_epochs: 4}
resources: {max_concurrent: 1}
retrain: {epochs: 1, seeds: 0}
"""

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(600)]


@dataclass
class Head:
    """A cluster: its address and that of its dashboard, Ray's folder, the storage in its environment; what was said."""

    address: str
    url: str
    ray: Path
    storage: Path
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def head(ray_head, ray_nodes, tmp_path_factory) -> Iterator[Head]:
    """A head with two CPUs, with a key of W&B's and a storage in its environment, as docker/ sets them."""
    from socket import socket

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    storage = tmp_path_factory.mktemp("storage")
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "CIFAR_STORAGE": str(storage),
        "WANDB_API_KEY": WANDB_KEY,
        "WANDB_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        options = ["--include-dashboard=true", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"]
        address = ray_head(2, 0, f"--temp-dir={folder}", *options)
        node = ray_nodes[-1]
    yield Head(address, f"http://127.0.0.1:{port}", folder, storage)
    ray_nodes.remove(node)
    node.leave()
    shutil.rmtree(folder, ignore_errors=True)


class Heard:
    """A process's output, which keeps in `said` what was read of it line by line."""

    def __init__(self, stream: IO[str], said: list[str]) -> None:
        self.stream, self.said = stream, said

    def __iter__(self) -> Iterator[str]:
        for line in self.stream:
            self.said.append(line)
            yield line

    def readline(self) -> str:
        return next(iter(self), "")

    def close(self) -> None:
        self.said.append(self.stream.read())  # what came with the lines, and nobody asked for
        self.stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@pytest.fixture
def start(start, head) -> Callable[..., Any]:
    """As everywhere, and all that such a process says is kept for the last test."""

    def begin(*arguments: object, **variables: str) -> Any:
        begun = start(*arguments, **variables)
        begun.process.stdout = Heard(begun.process.stdout, head.said)
        end = begun.end

        def ended(timeout: float = 240) -> Any:
            done = end(timeout)
            head.said += [done.out, done.err]
            return done

        begun.end = ended
        return begun

    return begin


@pytest.fixture
def tune(call, head) -> Callable[..., str]:
    """Calls `python -m tune …` against the cluster; gives what it printed."""

    def run(*arguments: object, code: int = 0, **variables: str) -> str:
        done = call("tune", *arguments, timeout=500, RAY_API_SERVER_ADDRESS=head.url, **variables)
        assert done.code == code, done.err or done.out
        return str(done.out if code in (0, 143) else done.err)

    return run


@pytest.fixture
def jobs(tune) -> Callable[[str], dict[str, str]]:
    """The last session of a name, as the cluster tells it."""

    def last(name: str) -> dict[str, str]:
        found: dict[str, str] = [one for one in json.loads(tune("jobs", "--json")) if one["name"] == name][-1]
        return found

    return last


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def own(folder: Path, size: int, seconds: float, trials: int) -> None:
    """A network of the user's own, in the module that the other search has another one in."""
    (folder / "own.py").write_text(NETWORK.replace("SIZE", str(size)).replace("SECONDS", str(seconds)))
    (folder / "own.yaml").write_text(SPACE.replace("TRIALS", str(trials)))


def test_without_the_token_jobs_the_dashboard_and_the_cluster_itself_are_refused(tune, call, head, folder):
    ways = "set RAY_AUTH_TOKEN to it, or RAY_AUTH_TOKEN_PATH to a file that holds it, or put it into ~/.ray/auth_token"
    wants = f"error: --address {head.url}: wants a token, and"
    for arguments in (("submit", "--space", QUICKSTART), ("jobs",), ("logs", "x")):
        told = tune(*arguments, code=2, RAY_AUTH_TOKEN="", HOME=str(folder))
        assert told == f"{wants} no token was found; {ways}\n"
    for arguments in (("stop", "x"), ("resume", "x"), ("fetch", "x")):
        told = tune(*arguments, code=2, RAY_AUTH_TOKEN="another")
        assert told == f"{wants} the one that was given is not this cluster's; {ways}\n"
    (folder / "token").write_text(os.environ["RAY_AUTH_TOKEN"])
    named = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_AUTH_MODE": ""}
    assert tune("jobs", **named).startswith("no search was sent to http://127.0.0.1:")
    (folder / "token").unlink()  # the last test looks for it everywhere

    joining = ("tune.run", "--space", QUICKSTART, "--address", head.address)
    told = call(*joining, RAY_AUTH_TOKEN="", HOME=str(folder))
    assert told.code == 2
    assert "Token authentication is enabled but no authentication token was found; start one" in told.err

    refused = {}
    pages = ["/api/version", "/api/jobs/", "/api/v0/tasks", "/api/cluster_status", "/logical/actors", "/metrics"]
    for page in pages:
        with pytest.raises(HTTPError) as caught:
            urlopen(head.url + page, timeout=30)
        with caught.value as answer:
            refused[page] = answer.code
    assert refused == dict.fromkeys(pages, 401)
    with pytest.raises(HTTPError, match="403") as caught:
        urlopen(Request(head.url + "/api/jobs/", headers={"Authorization": "Bearer another"}), timeout=30)
    caught.value.close()


@pytest.mark.slow
def test_a_search_is_sent_followed_and_brought_back(tune, start, head, folder, jobs):
    there = {"RAY_API_SERVER_ADDRESS": head.url}
    sending = start("tune", "submit", "--space", QUICKSTART, "--name", NAME, *sets(*FEW), **there)
    assert sending.process.stdout.readline() == f"{NAME}\n"
    sending.kill(signal.SIGKILL)
    told = tune("submit", "--space", QUICKSTART, "--name", NAME, code=2)
    assert re.fullmatch(rf"error: .* is (waiting|running) on {head.url}; stop it first, or .*\n", told)

    first = start("tune", "logs", "-f", NAME, **there)
    for line in first.process.stdout:
        if line.startswith("[1/3]"):
            break
    first.kill(signal.SIGKILL)
    log = tune("logs", "-f", NAME)
    assert [line[:5] for line in log.splitlines() if re.match(r"\[\d/3\]", line)] == ["[1/3]", "[2/3]", "[3/3]"]
    assert f"{NAME}: 3 trials, in 2 slots of 1 CPU; {head.storage}/{NAME}\n" in log
    last = jobs(NAME)
    assert (last["state"], last["exit_status"], last["message"]) == ("finished", 0, "")
    assert f"{NAME}: state finished; " in tune("jobs")

    assert tune("fetch", NAME).startswith(f"experiments/{NAME}\nnext:\n  python -m tune status ")
    told = json.loads(tune("status", NAME, "--json"))
    assert (told["state"], told["trials"]["ended"]) == ("finished", 3)
    here, kept = folder / "experiments" / NAME, head.storage / NAME
    for file in ("model/model.ckpt", "report.html", "study.journal", "winner.yaml", "test_ledger.jsonl", "next.yaml"):
        assert (here / file).read_bytes() == (kept / file).read_bytes(), file
    assert list(here.rglob("events.out.tfevents.*"))
    assert not list(here.rglob("checkpoint_*"))
    (log,) = (head.ray / "session_latest" / "logs").glob("job-driver-fetch*.log")
    assert log.stat().st_size < 10_000, "what came through it does not stay in it"
    assert "command: python -m tune submit --space " in (kept / "experiment.yaml").read_text()


@pytest.mark.slow
def test_two_searches_at_once_have_each_their_own_code_and_one_is_stopped_and_goes_on(start, tune, head, folder, jobs):
    for name, size, seconds, trials in (("second", 5, 0.05, 400), ("first", 3, 0, 2)):
        own(folder, size, seconds, trials)
        assert tune("submit", "--space", "own.yaml", "--name", name).startswith(f"{name}\nnext:\n")
    following = start("tune", "logs", "-f", "second", RAY_API_SERVER_ADDRESS=head.url)
    assert any(line.startswith("[1/400]") for line in following.process.stdout)
    following.kill(signal.SIGTERM)
    assert jobs("second")["state"] == "running"
    told = tune("stop", "second")
    assert told == "second: stopped; all epochs that were finished are saved\nnext:\n  python -m tune resume second\n"
    log = tune("logs", "-f", "second", code=143)
    assert "stopping: running trials finish and save their epoch" in log
    assert f"To go on:\n  python -m tune resume second --address {head.url}\n" in log
    assert tune("stop", "second") == "second does not run: it is stopped\n"
    ended = len(re.findall(r"^\[\d+/400\]", log, re.MULTILINE))

    own(folder, 5, 0, 400)
    tune("resume", "second", *sets(f"search.trials={ended + 1}"))
    log = tune("logs", "-f", "second")
    assert f"second: {ended + 1} trials, {ended} of them ended before, in 1 slot of 1 CPU" in log
    tune("logs", "-f", "first")
    for name, size in (("first", 3), ("second", 5)):
        weights = torch.load(head.storage / name / "model" / "model.ckpt", weights_only=True)["state_dict"]
        assert {size} == {value.shape[0] for key, value in weights.items() if key.endswith("net.1.weight")}
    told = [tuple(line.partition(";")[0].split(": state ")) for line in tune("jobs").splitlines()]
    assert told[-3:] == [("second", "stopped"), ("first", "finished"), ("second", "finished")]


def opened(url: str) -> bytes:
    """What the dashboard answers to one who has the token."""
    request = Request(url, headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"})
    with urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


@pytest.mark.slow
def test_neither_token_nor_key_is_in_anything_that_was_left(tune, head, folder, tmp_path_factory):
    told = tune("jobs", "--json")
    assert json.loads(told), "there is something to look through"
    secrets = [os.environ["RAY_AUTH_TOKEN"].encode(), WANDB_KEY.encode()]
    pages = ["/", "/api/jobs/", "/api/v0/actors", "/api/v0/tasks", "/nodes?view=summary"]
    answers = {page: opened(head.url + page) for page in pages}
    assert [page for page, text in answers.items() if len(text) < 100] == []
    assert b"job_id" in answers["/api/v0/actors"]
    files = [file for root in (head.ray, head.storage, tmp_path_factory.getbasetemp()) for file in root.rglob("*")]
    texts = {str(file): file.read_bytes() for file in files if file.is_file() and not file.is_symlink()}
    assert any("job-driver" in name for name in texts)
    texts |= {"what was said": "".join(head.said).encode(), **answers}
    assert [name for name, text in texts.items() if any(one in text for one in secrets)] == []
