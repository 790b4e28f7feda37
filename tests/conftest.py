"""A real S3 server, moto's, on a loopback port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
