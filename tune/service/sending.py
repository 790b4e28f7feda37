"""A session of an experiment, sent to a cluster as a job."""

import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tune.errors import ClusterError
from tune.experiment import COMMIT, SENT_BY, git_commit
from tune.service.client import STOP_WAIT_S, Cluster
from tune.service.code import SPACE, staged
from tune.service.sessions import MARK, entrypoint


@dataclass(frozen=True)
class Order:
    """What is to be run. file: None to go on with an experiment that began. storage: None for the cluster's own."""

    name: str
    overrides: tuple[str, ...]
    storage: str | None
    study: str | None
    again: bool
    file: Path | None = None

    def words(self) -> list[str]:
        """The module that the job runs, and its arguments but for --storage."""
        what = ["--resume"] if self.file is None else ["--space", f"{SPACE}/{self.file.name}"]
        return ["tune.run", *what, "--name", self.name, *self._options(), "--address", "auto"]

    def command(self, address: str) -> str:
        """The call that sends it."""
        what = (
            ["resume", self.name] if self.file is None else ["submit", "--space", str(self.file), "--name", self.name]
        )
        where = ["--storage", self.storage] if self.storage else []
        return shlex.join(["python", "-m", "tune", *what, *self._options(), *where, "--address", address])

    def _options(self) -> list[str]:
        study = ["--study", self.study] if self.study else []
        sets = [part for override in self.overrides for part in ("--set", override)]
        return [*sets, *study, *(["--again"] if self.again else [])]


def send(order: Order, cluster: Cluster, current: Path) -> str:
    """Begins a session, with the modules below the folder `current`; gives a line on what was sent.

    Raises ClusterError where one of that name has not ended.
    """
    for one in cluster.sessions():
        if one.name == order.name and not one.over:
            raise ClusterError(
                f"{one.name} is {one.state} on {cluster.address}; stop it first, or choose another --name"
            )
    about = {
        MARK: version("cifar-tune"),
        "experiment": order.name,
        "storage": order.storage or "",
        "study": order.study or "",
    }
    variables = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
        COMMIT: git_commit(),
        SENT_BY: order.command(cluster.address),
    }
    with staged(order.file, current) as code:
        cluster.submit(entrypoint(order.words(), order.storage or ""), about, code, variables)
        return f"sent {code} to {cluster.address}"
