"""A launcher runs a script as Python would, in a fork that has torch already."""

import os
import resource
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
import os, sys
print(sys.argv, os.getcwd(), os.environ["MARK"], "torch" in sys.modules, __name__, sys.stdin.read(), os.getppid())
"""
STARTED = "import time; time.sleep(2.1)\n"  # what ends sooner, and not well, is taken for a fork that does not work
FORKED, PYTHON = "é True __main__ in", "é False __main__ in"


@pytest.fixture(scope="module")
def launcher() -> Iterator[list[str]]:
    with serving() as command:
        yield shlex.split(command)


@pytest.fixture
def own_launcher() -> Iterator[list[str]]:
    """Of a server that may stop to serve."""
    with serving() as command:
        yield shlex.split(command)


def run(launcher: list[str], script: Path, text: str, *arguments: str, **given: Any) -> Any:
    script.write_text(text)
    given = {"env": {**os.environ, **JOB, "MARK": "é"}, "cwd": script.parent, "input": "in", **given}
    return subprocess.run([*launcher, str(script), *arguments], capture_output=True, text=True, timeout=120, **given)


def test_a_fork_has_what_its_launcher_was_given(launcher: list[str], tmp_path: Path) -> None:
    done = run(launcher, tmp_path / "script.py", SCRIPT, "one", "two words")
    told = done.stdout.rsplit(maxsplit=1)
    assert told[0] == f"['{tmp_path}/script.py', 'one', 'two words'] {tmp_path} {FORKED}"
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_fork_has_its_launchers_limits(launcher: list[str], tmp_path: Path) -> None:
    """Ray's processes may open more files than others, and are to end first when memory is short."""
    text = (
        "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], open('/proc/self/oom_score_adj').read())"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (234, hard))
        Path("/proc/self/oom_score_adj").write_text("567")

    assert run(launcher, tmp_path / "script.py", text, preexec_fn=limited).stdout.split() == ["234", "567"]


def test_a_fork_is_of_one_thread_without_cuda(launcher: list[str], tmp_path: Path) -> None:
    """Else it may wait for ever, and cannot use a GPU."""
    text = """
import os, torch
threads = len(os.listdir(f"/proc/{os.getppid()}/task"))
print(threads, torch.cuda._is_in_bad_fork(), os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"])
"""
    assert run(launcher, tmp_path / "script.py", text).stdout == "1 False 1\n"


def test_forks_run_beside_each_other(launcher: list[str], tmp_path: Path) -> None:
    """Each waits till all three are there."""
    wait = "import time\nfrom pathlib import Path\nPath(f'here{sys.argv[1]}').touch()\n"
    wait += "while len(list(Path().glob('here*'))) < 3: time.sleep(0.01)\nprint('all')"
    (tmp_path / "script.py").write_text("import sys\n" + wait)
    given: dict[str, Any] = {"env": {**os.environ, **JOB}, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    forks = [subprocess.Popen([*launcher, str(tmp_path / "script.py"), str(number)], **given) for number in range(3)]
    assert [fork.communicate(timeout=60)[0] for fork in forks] == ["all\n"] * 3


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.killpg(0, 15)", -signal.SIGTERM),  # Ray ends all of a process group with the one it means
    ],
)
def test_a_launcher_ends_as_its_fork_and_others_go_on(
    launcher: list[str], tmp_path: Path, end: str, status: int
) -> None:
    assert run(launcher, tmp_path / "script.py", STARTED + end).returncode == status
    assert FORKED in run(launcher, tmp_path / "script.py", SCRIPT).stdout


def test_a_fork_ends_with_its_launcher(own_launcher: list[str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(100)")
    command = [*own_launcher, str(tmp_path / "script.py")]
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


def test_where_forks_do_not_work_the_next_process_is_python(own_launcher: list[str], tmp_path: Path) -> None:
    assert run(own_launcher, tmp_path / "script.py", "raise SystemExit(1)").returncode == 1
    assert PYTHON in run(own_launcher, tmp_path / "script.py", SCRIPT).stdout


def test_where_an_import_asks_cuda_for_its_devices_there_are_no_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import torch; torch.cuda.device_count()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with serving() as command:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        given = {**environment, **JOB, "MARK": "é"}
        assert PYTHON in run(shlex.split(command), tmp_path / "script.py", SCRIPT, env=given).stdout


@pytest.mark.parametrize("job", ["02000000", None])
def test_another_job_gets_a_python_of_its_own(launcher: list[str], tmp_path: Path, job: str | None) -> None:
    """Ray reads which job it is when it is imported."""
    environment = {**os.environ, "MARK": "é", **({"RAY_JOB_ID": job} if job else {})}
    assert PYTHON in run(launcher, tmp_path / "script.py", SCRIPT, env=environment).stdout


def test_without_a_server_it_is_python(tmp_path: Path) -> None:
    with serving() as command:
        pass
    done = run(shlex.split(command), tmp_path / "script.py", SCRIPT + "sys.exit(3)")
    assert PYTHON in done.stdout
    assert done.returncode == 3


def test_the_server_ends_with_its_driver_and_leaves_nothing(tmp_path: Path) -> None:
    """Even with one that is killed."""
    code = "from tune.fork_server import serving\nwith serving() as command: print(command, flush=True); input()"
    given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **given) as driver:
        assert driver.stdout is not None
        launcher = shlex.split(driver.stdout.readline())
        assert Path(launcher[-1]).is_socket()
        pid = int(run(launcher, tmp_path / "script.py", SCRIPT).stdout.split()[-1])
        assert b"tune.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        driver.kill()
    wait_for_end(pid)
    assert not Path(launcher[-1]).parent.exists()
