"""README's way from a laptop to a cluster, by its own commands: on a cluster of this machine.

The laptop's own command is that of test_main_job.py.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]
SECTION = (PROJECT / "README.md").read_text().split("\n## On a cluster\n")[1].split("\n## ")[0]
HEAD, CLUSTER = re.findall(r"^```\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[1:3]

# What each line prints, in README's order.
PRINTED = {
    "export": r"",
    "submit": r"digits\nnext:\n  python -m tune logs -f digits\n.*",
    "jobs": r"digits: state (waiting|running); .*\n",
    "logs -f digits | grep": r"\[1/8\] .*\n",
    "stop": r"digits: stopped; all epochs that were finished are saved\nnext:\n  python -m tune resume digits\n",
    "resume": r"digits\nnext:\n.*",
    "logs -f": r".*\ndigits: 12 trials, \d of them ended before, .*\n│ winner .*│ trials +│ 12 trials: .*",
    "fetch": r"fetched/digits\nnext:\n  python -m tune status digits --storage fetched\n.*",
    "status": r".*digits.*finished.*",
}

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder, with what README's commands need."""
    shutil.copytree(PROJECT / "search_spaces", tmp_path / "search_spaces")
    return tmp_path


@pytest.fixture
def variables(home: Path) -> Iterator[dict[str, str]]:
    """A user's environment, with nothing of Ray's but a folder of its own."""
    ray = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CIFAR_", "WANDB"))}
    yield kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "CIFAR_CACHE": str(home / "cache"),
        "COLUMNS": "200",
        "RAY_TMPDIR": ray,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    shutil.rmtree(ray, ignore_errors=True)


@pytest.fixture
def typed(home: Path, variables: dict[str, str]) -> Callable[[str], str]:
    """What a line prints, which must not fail."""

    def run(line: str) -> str:
        command = ["bash", "-o", "errexit", "-c", line]
        done = subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


@pytest.fixture
def dashboard(home: Path, variables: dict[str, str], free_port: Callable[[], int]) -> Iterator[int]:
    """The port of the cluster's that README's own line begins, with ports that leave others theirs."""
    port = free_port()
    ports = f"--port={free_port()} --dashboard-port={port} --dashboard-agent-listen-port=0"
    others = "--min-worker-port=0 --max-worker-port=0 --node-ip-address=127.0.0.1 --num-cpus=2"
    assert HEAD.count("ray start --head ") == 1
    line = HEAD.replace("ray start --head ", f"ray start --head {ports} {others} ")
    log = (home / "head.log").open("w+")
    head = subprocess.Popen(["bash", "-c", line], cwd=home, env=variables, stdout=log, stderr=subprocess.STDOUT)
    try:
        while "Ray runtime started" not in (told := (home / "head.log").read_text()):
            assert head.poll() is None, told
            time.sleep(0.2)
        yield port
    finally:
        if head.poll() is None:
            ours = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
            next(one for one in ours if "start" in one.cmdline()).terminate()  # Ray's command, which ends the others
            for left in psutil.wait_procs(ours, timeout=60)[1]:
                left.kill()
            head.wait()
        log.close()


def test_on_a_cluster_of_this_machine(typed: Callable[[str], str], home: Path, dashboard: int) -> None:
    assert CLUSTER.count(":8265") == 1
    export, *lines = CLUSTER.replace(":8265", f":{dashboard}").splitlines()
    said = ""
    for line, (words, printed) in zip([export, *lines], PRINTED.items(), strict=True):
        assert words in line
        out = typed(f"{export}\n{line}")
        assert re.fullmatch(printed, out, re.DOTALL), f"{line}\n{out}"
        said += out
    for file in ("report.html", "study.journal", "model/model.ckpt"):
        kept, fetched = home / "experiments" / "digits" / file, home / "fetched" / "digits" / file
        assert fetched.read_bytes() == kept.read_bytes(), file
    token = home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text() not in said + (home / "head.log").read_text()
