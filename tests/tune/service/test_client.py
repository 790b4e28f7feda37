"""A cluster's address, and a log that is followed through lost connections; against something that answers as Ray's
dashboard does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from aiohttp import web

TOKEN_WAYS = "set RAY_AUTH_TOKEN to it, or RAY_AUTH_TOKEN_PATH to a file that holds it, or put it into"
WHERE = "it is what `ray start --head` names as its dashboard, as in http://head:8265"
QUIET = -1  # a piece, and then nothing
PIECES = ["Running entrypoint\n", "[1/2] trial 0 compl", "eted\n", "[2/2] trial 1 completed\n"]


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """Its address."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield site.name
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


class Dashboard:
    """What our commands ask of Ray's. Its connections to the log break off: `breaks` says after how many pieces."""

    def __init__(self, mode: str = "disabled", breaks: list[int] | None = None) -> None:
        self.mode, self.breaks = mode, breaks or []
        self.over, self.asked, self.stopped, self.late = False, 0, False, False
        self.app = web.Application()
        self.app.router.add_get("/api/authentication_mode", self.authentication)
        self.app.router.add_get("/api/version", self.version)
        self.app.router.add_get("/api/jobs/", self.jobs)
        self.app.router.add_get("/api/jobs/{id}", self.job)
        self.app.router.add_get("/api/jobs/{id}/logs/tail", self.tail)
        self.app.router.add_post("/api/jobs/{id}/stop", self.stop)

    async def authentication(self, _: web.Request) -> web.Response:
        return web.json_response({"authentication_mode": self.mode})

    async def version(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers, "a token goes only to where one is asked for"
        return web.json_response({"ray_version": "2.60.0", "version": "4"})

    def _job(self) -> dict[str, object]:
        return {
            "type": "SUBMISSION",
            "submission_id": "quickstart-1",
            "status": "FAILED" if self.over else "RUNNING",
            "driver_exit_code": 2 if self.over else None,
            "message": "",
            "entrypoint": "",
            "start_time": 1000,
            "metadata": {"cifar-tune": "0.1.0", "experiment": "quickstart", "storage": "/x", "study": ""},
        }

    async def jobs(self, _: web.Request) -> web.Response:
        return web.json_response([self._job()])

    async def job(self, _: web.Request) -> web.Response:
        return web.json_response(self._job())

    async def stop(self, _: web.Request) -> web.Response:
        self.stopped, self.over = True, self.late  # else it takes its time
        return web.json_response({"stopped": True})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        many = self.breaks[self.asked] if self.asked < len(self.breaks) else len(PIECES)
        self.asked += 1
        for piece in PIECES[: abs(many)]:
            await socket.send_str(piece)
        if many == QUIET:
            await socket.receive()  # until the other side goes
        elif many < len(PIECES):
            request.transport.abort()  # as if a cable had been pulled
        else:
            self.over = True
        return socket


@pytest.fixture
def start(tmp_path) -> Callable[..., subprocess.Popen[str]]:
    """Begins `python -m tune …`. There is a token, but not of every cluster's."""

    def begin(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(
            [sys.executable, "-m", "tune", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, "HOME": str(tmp_path), "RAY_AUTH_TOKEN": "another", **variables},
            # a shell's background jobs, and so their children, ignore it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    return begin


@pytest.fixture
def tune(start) -> Callable[..., tuple[int, str, str]]:
    """Calls `python -m tune …`; its exit status, and what it said."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        process = start(*arguments, **variables)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


def test_a_log_is_followed_through_lost_connections_and_nothing_is_said_twice(tune):
    dashboard = Dashboard(breaks=[2, 0, 3, 1])
    with serving(dashboard.app) as address:
        code, out, err = tune("logs", "-f", "quickstart", "--address", address)
    assert (code, out, err) == (2, "".join(PIECES), ""), "and it exits as the search did"
    assert dashboard.asked == 5


def test_who_waits_for_an_end_and_is_interrupted_leaves_the_stopping_on(start):
    dashboard = Dashboard()
    with serving(dashboard.app) as address:
        waiting = start("stop", "quickstart", RAY_API_SERVER_ADDRESS=address)
        assert waiting.stderr.readline().startswith(
            "stopping: running trials finish and save their epoch; Ctrl-C leaves"
        )
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, err) == (0, "", "it goes on stopping; see python -m tune jobs\n")
    assert dashboard.stopped


def test_a_search_that_ended_by_itself_just_before_the_stop_is_not_told_as_stopped(tune):
    dashboard = Dashboard()
    dashboard.late = True
    with serving(dashboard.app) as address:
        code, out, _ = tune("stop", "quickstart", "--address", address)
    assert (code, out, dashboard.stopped) == (0, "quickstart does not run: it is failed\n", True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_follows_a_log_and_is_interrupted_leaves_the_search_on(start, number):
    dashboard = Dashboard(breaks=[QUIET])
    with serving(dashboard.app) as address:
        following = start("logs", "-f", "quickstart", RAY_API_SERVER_ADDRESS=address)
        assert following.stdout.readline() == PIECES[0]
        following.send_signal(number)
        out, err = following.communicate(timeout=60)
    assert (following.returncode, out) == (130, "")
    assert err == "the search goes on; to end it: python -m tune stop quickstart\n"
    assert not dashboard.stopped


def test_jobs_are_shown_as_lines_and_for_programs(tune):
    with serving(Dashboard().app) as address:
        assert tune("jobs", RAY_API_SERVER_ADDRESS=address)[1].startswith(
            "quickstart: state running; submitted 1970-01-01 00:00 UTC; took "
        )
        (told,) = json.loads(tune("jobs", "--json", "--address", f"{address}/")[1])
    seconds = told.pop("seconds")
    assert seconds > 0
    assert told == {
        "name": "quickstart",
        "job": "quickstart-1",
        "state": "running",
        "submitted": "1970-01-01T00:00:01+00:00",
        "storage": "/x",
        "study": None,
        "exit_status": None,
        "message": "",
    }


def test_a_cluster_that_is_none_is_told_in_a_line(tune):
    with serving(web.Application()) as address:
        assert tune("jobs", "--address", address) == (
            2,
            "",
            f"error: --address {address}: is not Ray's dashboard; {WHERE}\n",
        )
    assert tune("jobs", "--address", address) == (2, "", f"error: --address {address}: nobody answers there; {WHERE}\n")


def test_a_token_that_is_missing_is_told_with_the_ways_to_give_it(tune):
    with serving(Dashboard("token").app) as address:
        code, _, err = tune("jobs", "--address", address, RAY_AUTH_TOKEN="")
        assert (code, err.partition("; ")[0]) == (
            2,
            f"error: --address {address}: wants a token, and no token was found",
        )
        assert TOKEN_WAYS in err
        code, _, err = tune("jobs", "--address", address, RAY_AUTH_TOKEN="", RAY_AUTH_TOKEN_PATH="/nonexistent")
        assert (code, len(err.splitlines())) == (2, 1)
        assert "the file that RAY_AUTH_TOKEN_PATH names is empty or cannot be read" in err


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "--address: is missing; name the cluster by the address of Ray's dashboard"),
        ("ray://head:10001", "--address ray://head:10001: must be http://HOST:PORT"),
        ("http://head:8265?token=hidden", "--address http://head:8265: must be http://HOST:PORT"),
        ("http://me:hidden@head:8265", "--address: must not hold a name or password"),
        ("http://me:hidden@[::1", "--address: cannot be read; must be http://HOST:PORT, with [] around an IPv6 host\n"),
    ],
)
def test_an_address_that_cannot_be_one_is_told_in_a_line(tune, address, told):
    code, out, err = tune("jobs", "--address", address)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {told}")
    assert "hidden" not in err
