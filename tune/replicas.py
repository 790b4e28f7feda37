"""Copies of a finished model on Ray Serve, and how a request is handed to them."""

import logging
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar.errors import UserError
from tune.errors import ResourcesError

if TYPE_CHECKING:
    from tune.cluster import Node
    from tune.http_api import Answer

_BATCH = 32  # images of one replica that are computed at once
_WAITING = 100  # requests beyond those that replicas have begun, before more are refused
_BEGIN_S = 120.0  # for all replicas to be up
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


@dataclass(frozen=True)
class Share:
    """What a replica takes. cpus: also how many threads decode, and compute."""

    cpus: int
    gpus: float


class Replica:
    """One copy of the model, in a process of Ray's."""

    def __init__(self, file: Path, allow_code: bool, threads: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from ray import serve

        from cifar.predictor import load_predictor

        self._predictor = load_predictor(file, allow_code=allow_code, threads=threads)
        self._pool = ThreadPoolExecutor(threads)
        # waits for nothing: while a batch is computed, the requests that come are the next one
        self._batched = serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=0)(self._answers)

    async def __call__(self, content: bytes) -> "Answer":
        answer: Answer = await self._batched(content)
        return answer

    async def _answers(self, contents: list[bytes]) -> "list[Answer]":
        import asyncio

        from tune.http_api import answers

        return await asyncio.to_thread(answers, self._predictor, contents, self._pool)


def check_installed() -> None:
    """Raises UserError unless what serving needs beyond Ray itself is installed."""
    # Serve's threads outlive the cluster, and would then connect to any other one of this machine
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        import uvicorn  # noqa: F401
        from ray import serve  # noqa: F401
    except ImportError:
        raise UserError(
            "serving needs Ray Serve, which is not installed; run pip install 'cifar-tune[serve]'"
        ) from None


def share(count: int, nodes: "list[Node]", *, shared: bool, on_gpus: bool) -> Share:
    """What each of `count` replicas takes of `nodes`. Pure.

    shared: the cluster has other users, so that a replica takes one CPU, and not its part of all. Raises ResourcesError
    if there are fewer CPUs than replicas.
    """
    cpus = int(sum(node.cpus for node in nodes))
    if count > cpus:
        raise ResourcesError(f"--replicas {count}: each needs a CPU, and there are {cpus}; lower it")
    gpus = sum(node.gpus for node in nodes) if on_gpus else 0.0
    # Ray counts in ten thousandths of a GPU
    return Share(1 if shared else cpus // count, min(1.0, int(gpus / count * 10_000) / 10_000))


@contextmanager
def replicas(
    file: Path, count: int, share: Share, *, allow_code: bool, shared: bool
) -> Iterator[Callable[[bytes], Awaitable["Answer"]]]:
    """Starts them on the Ray cluster that is connected; what is yielded gives an answer for an image file's content.

    shared: as in `share`; Serve may be in use, and stays where others use it. Raises ResourcesError if not all
    replicas can begin.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # importing it sets another level
    options: dict[str, Any] = {
        "num_replicas": count,
        "ray_actor_options": {"num_cpus": share.cpus, "num_gpus": share.gpus},
        "max_ongoing_requests": 2 * _BATCH,
        "max_queued_requests": _WAITING,
        "max_constructor_retry_count": 1,
        "logging_config": _QUIET,
    }
    name = f"cifar-{uuid.uuid4().hex[:8]}"
    bound = serve.deployment(**options)(Replica).bind(file.resolve(), allow_code, share.cpus)
    serve.start(proxy_location="Disabled", logging_config=_QUIET)
    try:
        target = serve.RunTarget(bound, name=name, route_prefix=None)
        (handle,) = serve.run_many([target], wait_for_applications_running=False)
        _wait(name, count)
        yield _asking(handle)
    finally:
        if shared:  # else all of it ends with the cluster
            serve.delete(name)
            there = serve.status()
            if not there.applications and not there.proxies:
                with redirect_stdout(StringIO()):  # Ray tells of calls that fail as Serve ends
                    serve.shutdown()


def _asking(handle: Any) -> Callable[[bytes], Awaitable["Answer"]]:
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

    from tune.http_api import error

    async def predict(content: bytes) -> "Answer":
        try:
            answer: Answer = await handle.remote(content)
        except BackPressureError:
            return error(503, "too many requests wait already; try again later")
        except RayActorError:
            return error(503, "the replica that had the request is gone; try again")
        return answer

    return predict


def _wait(name: str, count: int) -> None:
    import time

    from ray import serve

    until = time.monotonic() + _BEGIN_S
    while (state := serve.status().applications[name]).status != "RUNNING":
        if state.status == "DEPLOY_FAILED":
            told = "\n".join(each.message for each in state.deployments.values())
            raise ResourcesError(f"the replicas cannot begin: {_reason(told or state.message)}")
        if time.monotonic() > until:
            raise ResourcesError(
                f"--replicas {count}: they found no place in {_BEGIN_S:g} s; lower it, or free CPUs of the cluster"
            )
        time.sleep(0.1)


def _reason(message: str) -> str:
    """The line of a traceback that says what went wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (told or lines or ["Ray does not say why"])[-1]
