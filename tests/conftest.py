"""A real S3 server, moto's, on a loopback port; and what TensorBoard and W&B read in their files."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "an-access-key", "AWS_SECRET_ACCESS_KEY": "a-secret-key"}


class S3Server:
    """A process that can be stopped, killed and started again on the same port. It takes any credentials."""

    def __init__(self, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start(**environment)

    def start(self, **environment: str) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **quiet)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < until, "moto_server does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The port is open, and nobody answers."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def uri(self, path: str, user: str = "", options: str = "") -> str:
        return f"s3://{user}{path}?endpoint_override=http://127.0.0.1:{self.port}&scheme=http{options}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Callable[..., S3Server]]:
    """Starts a server, with settings of moto's from the environment."""
    pytest.importorskip("moto.server", reason="needs moto[s3,server]")
    servers: list[S3Server] = []

    def begin(**environment: str) -> S3Server:
        servers.append(server := S3Server(**environment))
        return server

    yield begin
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def server(s3_server: Callable[..., S3Server]) -> S3Server:
    """One for many tests."""
    return s3_server()


@pytest.fixture
def s3_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def hparams_tab() -> Callable[[Path], dict[str, Any]]:
    """What TensorBoard's HParams tab shows of a folder, by session: state, HParams and metrics, by TensorBoard itself.

    And under "shown" the names of the HParams and of the metrics that have a column; under "ended" the texts that say
    how each ended.
    """
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    def read(folder: Path) -> dict[str, Any]:
        multiplexer = EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(folder))
        tab = backend_context.Context(TBContext(data_provider=provider))
        experiment = get_experiment.Handler(RequestContext(), tab, "", api_pb2.GetExperimentRequest()).run()
        request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=1000)
        request.allowed_statuses.extend(api_pb2.Status.values())
        groups = list_session_groups.Handler(RequestContext(), tab, "", request).run().session_groups
        told: dict[str, Any] = {
            "shown": (
                {info.name for info in experiment.hparam_infos},
                [info.display_name for info in experiment.metric_infos],
            )
        }
        for group in groups:
            hparams = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
            for session in group.sessions:
                metrics = {value.name.tag: (value.training_step, value.value) for value in session.metric_values}
                told[session.name] = (group.name, api_pb2.Status.Name(session.status), hparams, metrics)
        told["ended"] = {
            run: multiplexer.Tensors(run, "ended")[0].tensor_proto.string_val[0].decode()
            for run in multiplexer.Runs()
            if "ended" in multiplexer.Runs()[run]["tensors"]
        }
        return told

    return read


@dataclass
class WandbRun:
    """A run as W&B's own reader has it, of all its offline files together."""

    folders: list[Path] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)  # group, job type, config, …
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    def values(self, name: str, by: str = "epoch") -> dict[float, float]:
        """A curve; every value at a place of its own."""
        found = [(row[by], row[name]) for row in self.rows if name in row]
        assert len(dict(found)) == len(found), f"{name} was logged twice: {found}"
        return dict(found)

    def file(self, path: str) -> Path:
        """A media file, which is there."""
        (found,) = [folder / "files" / path for folder in self.folders if (folder / "files" / path).exists()]
        return found

    def read(self, record: dict[str, Any]) -> None:
        """Adds a record."""
        told = record.get(record["type"], {})
        match record["type"]:
            case "run":
                self.about |= told | {"config": told["config"]["update"]}
            case "history":
                self.rows.append(told["item"])
            case "summary":
                self.summary |= told["update"]
            case "artifact":
                self.artifacts.append(told)
            case "exit":
                self.exits.append(told.get("exit_code", 0))


@pytest.fixture
def wandb_runs() -> Callable[[Path], dict[str, WandbRun]]:
    """The runs in W&B's folder of an experiment, by their names, as `wandb leet inspect` reads them."""
    from wandb.util import get_core_path

    def read(folder: Path) -> dict[str, WandbRun]:
        runs: dict[str, WandbRun] = {}
        for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
            command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            records = [json.loads(line) for line in lines]
            names = [record["run"]["display_name"] for record in records if record["type"] == "run"]
            if not names:  # whoever wrote it was killed
                continue
            run = runs.setdefault(names[0], WandbRun())
            run.folders.append(file.parent)
            for record in records:
                run.read(record)
        return runs

    return read
