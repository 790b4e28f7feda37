"""The Ray cluster: started here or joined, and what a trial takes of it."""

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from cifar.errors import first_line
from tune.errors import ResourcesError, StorageError
from tune.interrupts import kept, unheard
from tune.loopback import is_loopback
from tune.sections import ResourcesConfig
from tune.storage import Storage, probe

# Settings of Ray for driver and workers.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # curves are in the study and in TensorBoard files already
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # for a stopped trial to close its files before its actor is reused
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    # The conductor says how many trials begin at once. Else Ray lets one begin at a time, and takes back the process
    # that comes for it when another trial ends before it is up: short trials would never fill a second slot.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000000",
    "MALLOC_ARENA_MAX": "2",  # a trial is a thread, for each of which glibc would set memory aside anew
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # a search goes on from the study, so Ray need not save its own state
    "RAY_AIR_NEW_OUTPUT": "0",  # the display is ours
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # errors of trials are told once, by us
    "RAY_enable_worker_prestart": "0",  # with another environment than trials have, so that none of them would be used
    "RAY_prestart_worker_first_driver": "0",
    "RAY_GRAFANA_DATA_DASHBOARD_UID": "cifar-tune",  # the dashboard of docker/grafana, in the place of Ray Data's
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default, and without it a warning on every start
}
_CONNECT_S = 5
_ENDLESS = 10**9
_JOINING = (
    "start one with `ray start --head`, and where it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN; "
    "or leave --address out for a cluster on this machine"
)


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float
    id: str = ""


@dataclass(frozen=True)
class Share:
    """What one trial takes, and how many fit at once."""

    cpus: float
    gpus: float
    slots: int

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@contextmanager
def connected(address: str | None, python: str | None = None, *, dashboard: str | None = None) -> Iterator[list[Node]]:
    """A Ray cluster, started on this machine unless `address` names one; its nodes. Left or stopped at the end.

    python: what one that is started here runs in Python's place. dashboard: where Ray's listens, if it has one.

    Raises ResourcesError if none answers at `address`.
    """
    os.environ.update(_ENVIRONMENT)
    import ray

    for name in ("ray.tune", "ray.train"):  # what matters of their errors is told by us
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        _check_listening(address)
    try:
        with kept():
            if address is None:
                runtime_env = {"py_executable": python} if python else None
                # None: with one, but not at the price of the cluster if that cannot be started
                shown = None if dashboard else False
                host = dashboard or "127.0.0.1"
                ray.init(
                    address="local",
                    include_dashboard=shown,
                    dashboard_host=host,
                    runtime_env=runtime_env,
                    **options,
                )
            else:
                ray.init(address=address, runtime_env={"env_vars": _ENVIRONMENT}, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.AuthenticationError) as error:
        reason = first_line(error).partition(". ")[0]
        if address is None:
            raise ResourcesError(
                f"Ray cannot be started on this machine: {reason}; see /tmp/ray for its logs"
            ) from None
        raise ResourcesError(f"--address {address}: no Ray cluster can be joined there: {reason}; {_JOINING}") from None
    try:
        yield alive(ray.nodes())
    finally:
        with unheard():  # interrupted in it, Ray ends this process with a status of its own
            ray.shutdown()


def dashboard_line(*, joined: bool, host: str = "127.0.0.1") -> str:
    """Where the dashboard of the cluster that is connected is, in a line for the user; empty where one has none.

    host: where it listens, if it was started here. With a warning where others reach it, and it wants no token.
    """
    from ray._private.worker import get_dashboard_url

    url = get_dashboard_url()
    if not url:
        return "" if joined else "Ray's dashboard is off; --dashboard turns it on"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"Ray's dashboard: http://{url}; its token: ray get-auth-token"
    line = f"Ray's dashboard: http://{url}"
    if joined or is_loopback(host):
        return line
    warning = f"warning: it listens on {host} and wants no token, so whoever reaches it can run code on this machine"
    return f"{line}\n{warning}; set RAY_AUTH_MODE=token, or leave --dashboard-host out"


def _check_listening(address: str) -> None:
    """Ray itself takes two minutes to find out that nobody is there."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise ResourcesError(f"--address {address}: must be HOST:PORT, as in head:6379, or auto; {_JOINING}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ResourcesError(f"--address {address}: no Ray cluster answers there ({error}); {_JOINING}") from None


def alive(nodes: list[dict[str, Any]]) -> list[Node]:
    """Of what Ray tells of nodes, those that are there. Pure."""
    return [
        Node(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0), node["NodeID"])
        for node in nodes
        if node["Alive"]
    ]


def preflight(storage: Storage, nodes: list[Node]) -> None:
    """Writes, reads and deletes a file of `storage` on every node.

    Raises StorageError, with a line for each node that cannot. In a folder, each node must also see what this process
    wrote: a folder of the same name is not the same folder.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe(storage)
    mark = f".preflight-{uuid.uuid4().hex}"
    if storage.local is not None:
        (storage.local / mark).touch()
    try:
        there: Any = ray.remote(num_cpus=0, max_retries=0)(_preflight)
        on = [NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes]
        asked = [there.options(scheduling_strategy=strategy).remote(storage, mark) for strategy in on]
        problems = [problem for problem in ray.get(asked) if problem]
    finally:
        if storage.local is not None:
            (storage.local / mark).unlink(missing_ok=True)
    if problems:
        raise StorageError("\n".join(problems))


def _preflight(storage: Storage, mark: str) -> str:
    """On a node: what is wrong with the storage there, or nothing."""
    try:
        probe(storage)
    except StorageError as error:
        return str(error)
    if storage.local is not None and not (storage.local / mark).exists():
        return (
            f"{storage.local} on the node {socket.gethostname()} is not the folder that this machine has under that "
            "name; name one that all nodes share, or an object store, as in --storage s3://bucket/folder"
        )
    return ""


def share(resources: ResourcesConfig, nodes: list[Node], accelerator: str = "auto") -> Share:
    """What each trial takes of `nodes`. Pure. Raises ResourcesError if no node can hold even one trial."""
    gpus = resources.gpus_per_trial
    if gpus == "auto" and accelerator == "cpu":
        gpus = 0.0
    elif gpus == "auto":
        gpus = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    cpus = resources.cpus_per_trial
    if cpus == "auto":
        cpus = _auto_cpus(nodes, gpus)
    slots = sum(fit(node, cpus, gpus) for node in nodes)
    if not slots:
        have = " and ".join(f"{node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes[:4])
        which, asked = ("cpus", cpus) if any(fit(node, 0, gpus) for node in nodes) else ("gpus", gpus)
        raise ResourcesError(
            f"resources.{which}_per_trial: got {asked:g}, and no node of the cluster has that much "
            f"({len(nodes)} node{'s' * (len(nodes) > 1)}: {have}{', …' if len(nodes) > 4 else ''}); "
            f"lower it, as in --set resources.{which}_per_trial=auto"
        )
    return Share(cpus, gpus, min(slots, most_at_once(resources, gpus)))


def most_at_once(resources: ResourcesConfig, gpus: float) -> int:
    """How many trials with so many GPUs each may run at once, whatever the cluster has. Pure.

    Raises ResourcesError if not even one.
    """
    most = resources.max_concurrent or _ENDLESS
    if resources.max_gpus is None or not gpus:
        return most
    if gpus > resources.max_gpus:
        raise ResourcesError(
            f"resources.max_gpus: got {resources.max_gpus:g}, and a trial takes {gpus:g}; raise it, or lower "
            f"resources.gpus_per_trial, as in --set resources.gpus_per_trial={resources.max_gpus:g}"
        )
    return min(most, int(resources.max_gpus / gpus + 1e-9))


def check_devices(devices: int, share: Share, nodes: list[Node], resources: ResourcesConfig) -> None:
    """Raises ResourcesError if so many processes, each with a trial's CPUs and GPUs of its own, do not fit at once."""
    if share.gpus and resources.max_gpus and devices > max(1, resources.max_gpus // ceil(share.gpus)):
        raise ResourcesError(
            f"retrain.devices: got {devices}, with a GPU each, and resources.max_gpus is {resources.max_gpus:g}; lower "
            f"it, as in --set retrain.devices={max(1, int(resources.max_gpus // ceil(share.gpus)))}"
        )
    room = sum(fit(node, share.cpus, ceil(share.gpus)) for node in nodes)
    if devices > max(1, room):
        raise ResourcesError(
            f"retrain.devices: got {devices}, and {room} at most fit the cluster, each with {share.cpus:g} CPUs and "
            f"{ceil(share.gpus)} GPUs; lower it, as in --set retrain.devices={max(1, room)}"
        )


def _auto_cpus(nodes: list[Node], gpus: float) -> float:
    if not gpus:
        return 1.0
    shares = [node.cpus // fits for node in nodes if (fits := fit(node, 0, gpus))]
    return max(1.0, min(shares, default=1.0))


def fit(node: Node, cpus: float, gpus: float) -> int:
    """How many trials fit on a node; fractions of a GPU never span two."""
    by_cpu = int(node.cpus / cpus + 1e-9) if cpus else 10**6
    if not gpus:
        return by_cpu
    return min(by_cpu, int(node.gpus // gpus) if gpus >= 1 else int(node.gpus) * int(1 / gpus + 1e-9))
