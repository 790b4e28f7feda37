"""A search on a cluster, stopped: at once where it is asked for, and how it ended."""

from tune.service.client import Cluster
from tune.service.sessions import Session


def stop_now(cluster: Cluster, session: Session) -> None:
    """Sends the search the second SIGTERM, which ends it at once; Ray itself sends one only.

    By a small job on the driver's node. One that has no driver yet ends at the first.
    """
    if session.pid is None:
        return
    job = cluster.submit(f"kill -TERM {session.pid}", {"experiment": f"stop {session.name}"}, node=session.node)
    cluster.forget(job)


def how(log: str) -> tuple[str, bool]:
    """How a stopped search ended, by what it said last, and whether it can be resumed."""
    if "nothing that was recorded is lost" in log:
        return "stopped; all epochs that were finished are saved", True
    if "interrupted before anything was begun" in log:
        return "stopped before anything was begun", False
    return "ended before it could say how; what was recorded until then is saved", True
