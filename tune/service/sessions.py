"""Sessions of experiments, each a job of Ray's: what Ray is told of one, and what we tell of it. Pure."""

import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tune.errors import ClusterError
from tune.problems import nearest

State = Literal["waiting", "running", "finished", "stopped", "failed"]
MARK = "cifar-tune"  # what tells our jobs from others', with the version
STOPPED = (130, 143)  # exit statuses of what can be resumed
_STATES: dict[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "finished",
    "STOPPED": "stopped",
    "FAILED": "failed",
}
_NO_STORAGE = '"${CIFAR_STORAGE:?is not set in the environment of the cluster, and no --storage was given}"'


@dataclass(frozen=True)
class Session:
    """A job that runs, or ran, an experiment. Times are in seconds since 1970; pid and node are the driver's."""

    id: str
    name: str
    state: State
    storage: str
    study: str
    submitted: float
    ended: float | None
    exit_status: int | None
    message: str
    pid: int | None = None
    node: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state not in ("waiting", "running")

    @property
    def status(self) -> int:
        """The exit status of one who waits for its end."""
        if self.state == "finished":
            return 0
        return self.exit_status or (143 if self.state == "stopped" else 1)

    def seconds(self, now: float) -> float:
        """How long it has been there."""
        return max(0.0, (self.ended or now) - self.submitted)

    def as_dict(self, now: float) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "job": self.id,
            "state": self.state,
            "submitted": datetime.fromtimestamp(self.submitted, UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds(now), 3),
            "storage": self.storage or None,
            "study": self.study or None,
            "exit_status": self.exit_status,
            "message": self.message,
        }


def session(details: Any) -> Session | None:
    """What Ray tells of a job, if it is one of ours."""
    about = details.metadata or {}
    if MARK not in about or not details.submission_id:
        return None
    state, status = _STATES[str(details.status)], details.driver_exit_code
    if status in STOPPED:
        state = "stopped"
    driver = details.driver_info
    return Session(
        id=details.submission_id,
        name=about.get("experiment", ""),
        state=state,
        storage=about.get("storage", ""),
        study=about.get("study", ""),
        submitted=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_status=status,
        message=_message(state, details.message or ""),
        pid=int(driver.pid) if driver else None,
        node=details.driver_node_id,
    )


def _message(state: State, told: str) -> str:
    """Of a job that failed, the line that says why; of others nothing that their state does not say."""
    if state in ("finished", "running", "stopped"):
        return ""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def latest(sessions: Iterable[Session], name: str) -> Session:
    """The last session of an experiment. Raises ClusterError if there is none."""
    known = sorted(sessions, key=lambda one: one.submitted)
    ours = [one for one in known if one.name == name]
    if not ours:
        names = list(dict.fromkeys(one.name for one in known))
        there = nearest(name, names) or (f"; there are {', '.join(names[-5:])}" if names else "; none was sent there")
        raise ClusterError(f"the cluster knows no job of {name}{there}")
    return ours[-1]


def kept(sessions: Sequence[Session], name: str, storage: str | None, study: str | None) -> tuple[str, str | None]:
    """Storage and study of an experiment: those given, else those of its last session.

    Raises ClusterError if the storage is neither given nor known.
    """
    if storage is None:
        try:
            storage = latest(sessions, name).storage
        except ClusterError as error:
            hint = f"where the cluster is a new one, --storage says where {name} is kept"
            raise ClusterError(f"{error}; {hint}") from None
    there = [one.study for one in sessions if one.name == name and one.storage in ("", storage)]
    return storage, study or (there[-1] if there else None) or None


def free_id(name: str, taken: Iterable[str]) -> str:
    """An id for a job of the experiment `name`, as Ray's pages and addresses take it: quickstart-1, quickstart-2, …"""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "experiment"
    numbers = [int(found[1]) for one in taken if (found := re.fullmatch(rf"{slug}-(\d+)", one))]
    return f"{slug}-{max(numbers, default=0) + 1}"


def entrypoint(words: Sequence[str], storage: str) -> str:
    """The line that a job runs, without a shell left around it, which could not hand on signals.

    storage: empty for that of the cluster.
    """
    where = shlex.quote(storage) if storage else _NO_STORAGE
    return f"{shlex.join(['exec', 'python', '-m', *words])} --storage {where}"
