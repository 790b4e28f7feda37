"""Three machines, as far as one can be them: a head and two workers in network namespaces of their own, joined by a
bridge, on which S3 answers too; where namespaces cannot be made, on the loopback.

A machine that "loses its power" is killed with all that runs on it: the head's with the driver of the search.
"""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

PROJECT = Path(__file__).parents[2]
PORT, S3_PORT = 6379, 9000
TOKEN = uuid.uuid4().hex
TRIALS = {"ours": 12, "theirs": 6}

# Notes which node builds it, and how often; slow enough for what is done to it meanwhile.
NETWORK = """
import time
from pathlib import Path

import ray
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, inputs):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, images):
        time.sleep(0.3 if self.training else 0)
        return self.net(images)


def net(classes, channels, image_size):
    with Path(__file__).with_name("nodes").open("a") as file:
        print(ray.get_runtime_context().get_node_id(), file=file)
    return Net(classes, channels * image_size**2)
"""
SPACE = """
data: {source: image_folder, root: images, image_size: 8, validation_fraction: 0.2}
space:
  network: own:net
  batch_size: 16
  learning_rate: {type: float, lower: 0.001, upper: 0.1, log: true}
search: {trials: TRIALS, sampler: random, seed: 1}
scheduler: {type: none, max_epochs: 4}
resources: {max_concurrent: CONCURRENT}
retrain: {epochs: 1, seeds: 0}
"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clusters")]


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Waits for it."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"no {what} within {seconds:g} s"
        time.sleep(0.1)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """A bridge and namespaces on it; without the right to make them, the loopback for all."""

    def __init__(self) -> None:
        self.tag = f"ct{os.getpid() % 10_000}"
        self.net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.made: list[str] = []
        try:
            ip("link", "add", self.tag, "type", "bridge")
            ip("addr", "add", f"{self.net}.1/24", "dev", self.tag)
            ip("link", "set", self.tag, "up")
            self.real = True
        except (OSError, subprocess.CalledProcessError):
            self.real = False

    @property
    def here(self) -> str:
        """This side's address."""
        return f"{self.net}.1" if self.real else "127.0.0.1"

    def machine(self) -> tuple[str, list[str]]:
        """The address of another one, and what runs a command on it."""
        if not self.real:
            return "127.0.0.1", []
        number = len(self.made) + 2
        name, inside = f"{self.tag}n{number}", f"{self.tag}i{number}"
        ip("netns", "add", name)
        self.made.append(name)
        ip("link", "add", f"{self.tag}o{number}", "type", "veth", "peer", "name", inside)
        ip("link", "set", f"{self.tag}o{number}", "master", self.tag, "up")
        ip("link", "set", inside, "netns", name)
        address, within = f"{self.net}.{number}", ["ip", "netns", "exec", name]
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/24", "dev", inside),
            ("link", "set", inside, "up"),
        ):
            subprocess.run([*within, "ip", *words], check=True)
        return address, within

    def remove(self) -> None:
        for name in self.made:
            ip("netns", "del", name)
        if self.real:
            ip("link", "del", self.tag)


@dataclass
class Machine:
    """A node of a Ray cluster with one CPU, and what else runs there. within: what runs a command on it."""

    address: str
    within: list[str]
    folder: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *arguments: object, log: str) -> subprocess.Popen[str]:
        """Begins `python -m …` there, in `folder`."""
        with (self.folder / log).open("w") as file:
            self.running.append(
                subprocess.Popen(
                    [*self.within, sys.executable, "-m", *map(str, arguments)],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return self.running[-1]

    def join(self, *arguments: str) -> "Machine":
        """Begins the node."""
        ports = ("--min-worker-port=0", "--max-worker-port=0", "--num-gpus=0", "--num-cpus=1")
        own = ("--block", "--disable-usage-stats", f"--node-ip-address={self.address}", *ports)
        log = f"node-{uuid.uuid4().hex}.log"
        self.run("ray.scripts.scripts", "start", *own, *arguments, log=log)
        until(lambda: "Ray runtime started" in (self.folder / log).read_text(), "node")
        return self

    def lose_power(self) -> None:
        """All that runs there is killed."""
        for process in self.running:
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                for each in [parent, *parent.children(recursive=True)]:
                    try:
                        each.kill()
                    except psutil.NoSuchProcess:
                        continue
            process.wait(30)
        self.running.clear()


@dataclass
class Site:
    """Where machines can be had, and S3, which all of them reach."""

    network: Network
    folder: Path
    storage: str
    machines: list[Machine] = field(default_factory=list)
    head: str = ""

    def machine(self) -> Machine:
        address, within = self.network.machine()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "RAY_"))}
        environment = kept | {
            "PYTHONPATH": str(PROJECT),
            "COLUMNS": "200",
            "CIFAR_CACHE": str(self.folder / "cache"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
        }
        self.machines.append(machine := Machine(address, within, self.folder, environment))
        return machine

    def cluster(self) -> Machine:
        """A new head, and a worker; the head."""
        head = self.machine()
        port = PORT + len(self.machines)
        self.head = f"{head.address}:{port}"
        head.join("--head", f"--port={port}", "--include-dashboard=false")
        self.worker()
        return head

    def worker(self) -> Machine:
        """One more node."""
        return self.machine().join(f"--address={self.head}")

    def search(self, head: Machine, name: str) -> subprocess.Popen[str]:
        """Begins it or goes on with it, by the same call."""
        words = ("--space", f"{name}.yaml", "--storage", self.storage, "--address", self.head, "--restartable")
        return head.run("tune.run", *words, log=f"{name}.log")

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def ends(self, name: str) -> dict[int, str]:
        """What became of each trial that has ended, by its number, as the log says."""
        lines = [line.split("] trial ", 1)[1] for line in self.said(name).splitlines() if "] trial " in line]
        return {int(line.split()[0]): line for line in lines}

    def nodes(self) -> Counter[str]:
        """How many networks each node has built."""
        return Counter((self.folder / "nodes").read_text().split())


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    network = Network()
    server = [sys.executable, "-m", "moto.server", "-H", network.here, "-p", str(S3_PORT)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    moto = subprocess.Popen(server, **quiet)
    options = f"endpoint_override=http://{network.here}:{S3_PORT}&scheme=http&allow_bucket_creation=true"
    made = Site(network, tmp_path, f"s3://a-key:a-secret@searches/team?{options}")
    (tmp_path / "own.py").write_text(NETWORK)
    chance = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 8)):
        for name, shade in (("dark", 60), ("light", 200)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = chance.normal(shade, 40, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    for name, concurrent in (("ours", 2), ("theirs", 1)):
        space = SPACE.replace("CONCURRENT", str(concurrent)).replace("TRIALS", str(TRIALS[name]))
        (tmp_path / f"{name}.yaml").write_text(space)
    yield made
    for machine in reversed(made.machines):
        machine.lose_power()
    moto.kill()
    moto.wait()
    network.remove()


@pytest.mark.timeout(600)
def test_two_searches_outlive_a_worker_and_the_head(site):
    """Trials are on all three nodes, also on one that comes later; images are decoded by the driver, once.

    A worker is lost, another one comes; then the head is lost, with the drivers; both searches go on, on a new cluster,
    with what is in S3.
    """
    head = site.cluster()
    first = site.worker()
    for name in ("ours", "theirs"):
        site.search(head, name)
    until(lambda: (site.folder / "nodes").exists() and len(site.nodes()) == 3, "trial on each of three nodes")
    shutil.move(site.folder / "images", site.folder / "away")  # what would decode them again fails
    shutil.rmtree(site.folder / "cache")
    until(lambda: site.ends("ours") and site.ends("theirs"), "trial that has ended in both searches")
    first.lose_power()
    before = set(site.nodes())
    site.worker()
    until(lambda: set(site.nodes()) - before, "trial on the node that came")
    until(lambda: len(site.ends("ours")) >= 3, "third end")
    ended = {name: site.ends(name) for name in ("ours", "theirs")}
    time.sleep(5)  # what was told a moment ago may not be in S3 yet
    for machine in site.machines:
        machine.lose_power()

    shutil.move(site.folder / "away", site.folder / "images")
    head = site.cluster()
    running = {name: site.search(head, name) for name in ended}
    for name, search in running.items():
        assert search.wait(300) == 0, site.said(name)
        again = set(site.ends(name))
        assert again
        assert not again & set(ended[name]), "no finished trial ran again"
        assert f"{TRIALS[name]} trials: {TRIALS[name]} completed" in site.said(name)
