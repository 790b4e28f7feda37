"""A launcher runs a script as Python would, in a fork that has torch already."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tune.fork_server import serving

JOB = {"RAY_JOB_ID": "01000000"}
SCRIPT = """
import os, sys, threading
print(sys.argv, os.getcwd(), os.environ["MARK"], "torch" in sys.modules, __name__, sys.stdin.read(), os.getppid())
sys.stderr.write(f"threads {len(os.listdir('/proc/self/task'))}")
sys.exit(3)
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[list[str]]:
    with serving() as command:
        yield shlex.split(command)


def run(launcher: list[str], script: Path, text: str, *arguments: str, **given: Any) -> Any:
    script.write_text(text)
    given = {"env": {**os.environ, **JOB, "MARK": "é"}, "cwd": script.parent, "input": "in", **given}
    return subprocess.run([*launcher, str(script), *arguments], capture_output=True, text=True, timeout=120, **given)


def test_a_fork_has_what_its_launcher_was_given(launcher: list[str], tmp_path: Path) -> None:
    done = run(launcher, tmp_path / "script.py", SCRIPT, "one", "two words")
    told = done.stdout.rsplit(maxsplit=1)
    assert told[0] == f"['{tmp_path}/script.py', 'one', 'two words'] {tmp_path} é True __main__ in"
    assert (done.stderr, done.returncode) == ("threads 1", 3)


def test_forks_run_beside_each_other(launcher: list[str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time; time.sleep(1); print('slept')")
    command = [*launcher, str(tmp_path / "script.py")]
    given: dict[str, Any] = {"env": {**os.environ, **JOB}, "stdout": subprocess.PIPE, "text": True}
    run(launcher, tmp_path / "first.py", "")  # the server is up
    began = time.monotonic()
    forks = [subprocess.Popen(command, **given) for _ in range(3)]
    assert [fork.communicate(timeout=60)[0] for fork in forks] == ["slept\n"] * 3
    assert time.monotonic() - began < 3


def test_a_fork_has_a_process_group_of_its_own(launcher: list[str], tmp_path: Path) -> None:
    """Ray ends all of a group with the process that it began."""
    done = run(launcher, tmp_path / "script.py", "import os; os.killpg(0, 15)")
    assert done.returncode == -signal.SIGTERM
    assert "é True __main__ in" in run(launcher, tmp_path / "script.py", SCRIPT).stdout


def test_a_signal_that_ends_a_fork_ends_its_launcher(launcher: list[str], tmp_path: Path) -> None:
    done = run(launcher, tmp_path / "script.py", "import os; os.kill(os.getpid(), 9)")
    assert done.returncode == -signal.SIGKILL


def test_a_fork_ends_with_its_launcher(launcher: list[str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(100)")
    command = [*launcher, str(tmp_path / "script.py")]
    with subprocess.Popen(command, env={**os.environ, **JOB}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        assert fork != process.pid
        process.kill()
    wait_for_end(fork)


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, f"{pid} goes on"
        time.sleep(0.02)


@pytest.mark.parametrize("job", ["02000000", None])
def test_another_job_gets_a_python_of_its_own(launcher: list[str], tmp_path: Path, job: str | None) -> None:
    """Ray reads which job it is when it is imported."""
    environment = {**os.environ, "MARK": "é", **({"RAY_JOB_ID": job} if job else {})}
    done = run(launcher, tmp_path / "script.py", SCRIPT, env=environment)
    assert "é False __main__ in" in done.stdout
    assert done.returncode == 3


def test_without_a_server_it_is_python(tmp_path: Path) -> None:
    with serving() as command:
        pass
    done = run(shlex.split(command), tmp_path / "script.py", SCRIPT)
    assert "é False __main__ in" in done.stdout
    assert done.returncode == 3


def test_the_server_ends_with_its_driver(tmp_path: Path) -> None:
    """Even one that is killed."""
    code = "from tune.fork_server import serving\nwith serving() as command: print(command, flush=True); input()"
    given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **given) as driver:
        assert driver.stdout is not None
        launcher = shlex.split(driver.stdout.readline())
        pid = int(run(launcher, tmp_path / "script.py", SCRIPT).stdout.split()[-1])
        assert b"tune.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        driver.kill()
    wait_for_end(pid)
