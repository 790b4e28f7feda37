"""A real Ray cluster of two CPUs, and the command line as a user calls it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CIFAR_DATA", PROJECT.parent / "shared" / "data"))
ARCHIVE = DATA / "cifar10-lossless-6k.tar"


# A search over one of them.
USER_SPACE = """
data: {source: digits, limit: 1300}
space:
  network: own:NETWORK
  width: {type: categorical, options: [0.5, 2.0]}
  learning_rate: 0.01
search: {trials: 6, sampler: random, seed: 1}
scheduler: {type: none, max_epochs: 3}
retrain: {epochs: 1, seeds: 0}
"""


@dataclass
class Finished:
    """What a call of the command line left."""

    code: int
    out: str
    err: str


Call = Callable[..., Finished]
CHEAP = ("retrain.seeds=0", "resources.max_concurrent=1")


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(name="free_port")
def port_finder() -> Callable[[], int]:
    """Gives ports that nobody listens on."""
    return free_port


class RayNode:
    """A node of a Ray cluster on this machine: `ray start`, and its raylet as a child. Its GPUs are in name only."""

    def __init__(self, cpus: int, *arguments: str, gpus: int = 0) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        # else every node of this machine would give the same ports to its workers
        ports = ["--min-worker-port=0", "--max-worker-port=0"]
        own = ["--node-ip-address=127.0.0.1", f"--num-gpus={gpus}", f"--num-cpus={cpus}", *ports]
        self.process = subprocess.Popen(
            [*command, *own, *arguments], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        told = []
        for line in self.process.stdout:
            told.append(line)
            if "Ray runtime started" in line:
                return
        raise AssertionError(f"the Ray node did not start: {''.join(told)}")

    def kill_raylet(self) -> None:
        """As if the machine had lost its power: what runs on it dies with it."""
        subprocess.run(["pkill", "-9", "-P", str(self.process.pid), "-x", "raylet"], check=True)

    def leave(self) -> None:
        """Leaves the cluster."""
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[list[RayNode]]:
    """All that were begun, which leave in the end, the head last.

    Their processes are as nice as any: Ray's own 15 starves them while another test's search has the CPUs.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex, "RAY_worker_niceness": "0"}
    nodes: list[RayNode] = []
    yield nodes
    for node in reversed(nodes):
        node.leave()


@pytest.fixture(scope="session")
def ray_head(ray_nodes: list[RayNode]) -> Callable[..., str]:
    """Begins the head of a Ray cluster with so many CPUs, and gives its address."""

    def begin(cpus: int, gpus: int = 0, *options: str, port: int = 0) -> str:
        port = port or free_port()
        options = options or ("--include-dashboard=false",)
        ray_nodes.append(RayNode(cpus, "--head", f"--port={port}", *options, gpus=gpus))
        return f"127.0.0.1:{port}"

    return begin


@pytest.fixture(scope="session")
def ray_worker(ray_nodes: list[RayNode]) -> Callable[[str], RayNode]:
    """Begins another node, of one CPU, of the cluster at an address."""

    def begin(address: str) -> RayNode:
        ray_nodes.append(node := RayNode(1, f"--address={address}"))
        return node

    return begin


@pytest.fixture(scope="session")
def cluster(ray_head: Callable[..., str]) -> str:
    """The address of a Ray head with two CPUs and no GPU."""
    return ray_head(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to call commands in, with the user's own networks."""
    shutil.copy(Path(__file__).with_name("users") / "own.py", tmp_path)
    return tmp_path


@pytest.fixture
def own(folder: Path) -> Callable[[str], Path]:
    """Writes an experiment file for one of the user's own networks, and names it."""

    def write(network: str) -> Path:
        file = folder / "own.yaml"
        file.write_text(USER_SPACE.replace("NETWORK", network))
        return file

    return write


def environment(**variables: str) -> dict[str, str]:
    """That of a call of the command line, with nothing of the machine's W&B settings."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return known | {"PYTHONPATH": str(PROJECT), "COLUMNS": "200"} | variables


class Started:
    """A call of the command line that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def end(self, timeout: float = 240) -> Finished:
        """Waits for its end."""
        out, err = self.process.communicate(timeout=timeout)
        return Finished(self.process.returncode, out, err)

    def kill(self, number: int) -> Finished:
        """Sends a signal, and waits for its end."""
        self.process.send_signal(number)
        return self.end()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Started]]:
    """Begins `python -m …` in `folder`."""
    begun: list[Started] = []

    def begin(*arguments: object, **variables: str) -> Started:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=folder,
            env=environment(CIFAR_CACHE=str(folder / "cache"), **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.default_int_handler
            ),  # a background shell's ignore it
        )
        begun.append(Started(process))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.returncode is None:  # a test that failed left it behind
            each.kill(signal.SIGKILL)


@pytest.fixture
def finished(three_trials: tuple[str, Path], folder: Path) -> Path:
    """The directory of a finished experiment of three trials, in `folder`."""
    return Path(shutil.copytree(three_trials[1], folder / "experiments" / "test"))


@pytest.fixture
def call(start: Callable[..., Started]) -> Call:
    """Calls `python -m …` in `folder`, and waits for its end."""

    def run(*arguments: object, timeout: float = 240, **variables: str) -> Finished:
        return start(*arguments, **variables).end(timeout)

    return run


@pytest.fixture
def search(call: Call, cluster: str) -> Call:
    """Calls `tune.run` on the shared cluster for a shipped space, with `--set` for each further argument.

    No finalist is trained again unless one of them says so: that takes longer than most of these searches. Nor is there
    more than one slot, for each of which a process has to import torch.
    """

    def run(
        space: str | Path, *overrides: str, name: str = "test", flags: Sequence[str] = (), **variables: str
    ) -> Finished:
        file = PROJECT / "search_spaces" / space
        sets = [part for override in (*CHEAP, *overrides) for part in ("--set", override)]
        arguments = ["--space", file, "--name", name, "--address", cluster, *sets, *flags]
        return call("tune.run", *arguments, **variables)

    return run


@pytest.fixture(scope="session")
def search_once(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[str, Path]]:
    """As `search`, of the quick start, for several tests: what it said, and its experiment directory."""

    def run(*overrides: str, **variables: str) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp("searched")
        sets = [part for override in (*CHEAP, *overrides) for part in ("--set", override)]
        space = PROJECT / "search_spaces" / "quickstart.yaml"
        command = [sys.executable, "-m", "tune.run", "--space", space, "--name", "test", "--address", cluster, *sets]
        variables = environment(HOME=str(folder), **variables)
        ran = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=240)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout, folder / "experiments" / "test"

    return run


@pytest.fixture(scope="session")
def three_trials(search_once: Callable[..., tuple[str, Path]]) -> tuple[str, Path]:
    """What a search of three trials said, and its experiment directory, to look at or to copy."""
    return search_once("search.trials=3", "scheduler.max_epochs=3", "scheduler.grace_period=1", "retrain.epochs=1")


@pytest.fixture(scope="session")
def six_thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """A search of 32 trials over the lossless CIFAR-10 subset: what it said, and its experiment directory."""
    if not ARCHIVE.exists():
        pytest.skip("needs the lossless CIFAR-10 subset; CIFAR_DATA names its folder")
    folder = tmp_path_factory.mktemp("six_thousand")
    with tarfile.open(ARCHIVE) as archive:
        # extractall's own argument for it came with Python 3.11.4
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder / "images")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    settings = {
        "data.root": folder / "images",
        # in half the time, where the processor has it
        "trainer.precision": "bf16-mixed" if "avx512_bf16" in flags else "32",
        "search.trials": 32,
        "scheduler.mode": "promote",
        "scheduler.max_epochs": 16,
        "scheduler.grace_period": 1,
        "scheduler.reduction_factor": 8,
        "retrain.seeds": 0,
        "retrain.epochs": 8,
    }
    sets = [part for field, value in settings.items() for part in ("--set", f"{field}={value}")]
    space = PROJECT / "search_spaces" / "image_folder.yaml"
    command = [sys.executable, "-m", "tune.run", "--space", space, "--name", "six", *sets]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1100)
    assert ran.returncode == 0, ran.stderr
    return Finished(ran.returncode, ran.stdout, ran.stderr), folder / "experiments" / "six"


def parent(pid: int) -> int:
    """Of a process; 0 if that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_below(pid: int, above: int) -> bool:
    while pid not in (0, above):
        pid = parent(pid)
    return pid != 0


@pytest.fixture
def processes() -> Callable[..., list[int]]:
    """Process ids by a pattern in their command lines: of those that came of this one, since other tests may run beside
    it with a cluster of their own; or of the children of one."""

    def find(pattern: str, child_of: int | None = None) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            pid = int(folder.name)
            ours = is_below(pid, os.getpid()) if child_of is None else parent(pid) == child_of
            if ours and re.search(pattern, command) and "pytest" not in command:
                found.append(pid)
        return found

    return find


@pytest.fixture
def study() -> Callable[[Path], list[FrozenTrial]]:
    """The trials in an experiment directory's study."""

    def read(experiment: Path) -> list[FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(experiment / "study.journal")))
        (name,) = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=name, storage=storage).trials

    return read


@pytest.fixture
def row() -> Callable[[str, str], str]:
    """A row of the closing table."""

    def read(out: str, name: str) -> str:
        found = re.search(rf"^│ {re.escape(name)} +│ (.*?) +│$", out, re.MULTILINE)
        assert found, f"no row {name!r} in:\n{out}"
        return found.group(1)

    return read
