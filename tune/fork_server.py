"""Processes for trials that begin with everything imported: forks of one that has imported it all.

Importing torch and Lightning takes each of Ray's processes seconds. Where Ray is started on this machine, its processes
are forked from one that begins to import before Ray does, and whose memory they share: a fork server, as Python's
multiprocessing has. Ray runs a launcher in Python's place, which asks for a fork; where it gets none it runs Python, so
that only time is lost.

The launcher is this file, run without the project's path: all that it imports is of the standard library.
"""

import json
import os
import resource
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from shlex import join
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

_IMPORTED = ("tune.trainable", "tune.reporting", "cifar.train", "tune.final", "tune.winner", "torch.utils.tensorboard")
_JOB = "01000000"  # the first of a cluster, as Ray writes it
_OOM = Path("/proc/self/oom_score_adj")  # what Ray makes of it for a process that trains: the first to go
_FILES = 3  # standard input, output and error
_STARTS_S = 2.0  # a fork that ends within it, and not well, did not get as far as to train
# of the server itself, and inherited: OpenMP, glibc and Arrow read theirs when they are loaded
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


@contextmanager
def serving() -> Iterator[str]:
    """A fork server, as long as this is entered; gives the command that Ray is to run in Python's place."""
    with TemporaryDirectory(prefix="cifar-tune-") as folder:
        address = str(Path(folder) / "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()  # who asks before the server is ready, waits
            place = listening.fileno()
            server = subprocess.Popen(
                [sys.executable, "-m", "tune.fork_server", str(place), folder],
                env={**os.environ, **_ENVIRONMENT},
                stdin=subprocess.PIPE,
                pass_fds=[place],
                start_new_session=True,  # Ctrl-C in the terminal is the driver's to hear
            )
        try:
            yield join([sys.executable, "-I", "-S", __file__, "--launch", address])
        finally:
            server.kill()
            server.communicate()


class _Server:
    """Forks for launchers, until standard input is closed. made: variables that imports have set."""

    def __init__(self, listening: socket.socket, made: dict[str, str]) -> None:
        self._listening, self._made = listening, made
        self._ended, self._noted = socket.socketpair()
        self._ended.setblocking(False)
        self._noted.setblocking(False)
        self._launchers: dict[int, tuple[socket.socket, float]] = {}  # by the process of each, and since when
        self._selector = DefaultSelector()

    def serve(self) -> list[str] | None:
        """In a fork, returns what it is to run; in the server None, when its driver has ended."""
        signal.set_wakeup_fd(self._noted.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for file in (sys.stdin, self._listening, self._ended):
            self._selector.register(file, EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._tell_ends()
                elif key.fileobj is not self._listening:
                    self._kill_for(key.fileobj)
                elif (arguments := self._fork()) is not None:
                    return arguments

    def _fork(self) -> list[str] | None:
        """Where it cannot be done the launcher hears nothing, and runs Python."""
        files: list[int] = []
        pid = None
        with suppress(OSError, ValueError):
            launcher, _ = self._listening.accept()
            head, files, _, _ = socket.recv_fds(launcher, 4, _FILES)
            told = json.loads(launcher.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
            pid = os.fork()
        if pid == 0:
            self._leave(launcher)
            return _become(told, files, self._made)
        for file in files:
            os.close(file)
        if pid is not None:
            with suppress(OSError):
                launcher.sendall(b"f")
            self._launchers[pid] = launcher, time.monotonic()
            self._selector.register(launcher, EVENT_READ)
        return None

    def _leave(self, launcher: socket.socket) -> None:
        """A fork has nothing of the server's; nor is it of its process group, all of which Ray ends with one of it."""
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        others = [other for other, _ in self._launchers.values()]
        for side in (self._listening, self._ended, self._noted, launcher, *others):
            side.close()

    def _tell_ends(self) -> None:
        """Launchers, how their forks ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                launcher, began = self._launchers.pop(ended[0])
                status = os.waitstatus_to_exitcode(ended[1])
                with suppress(KeyError):
                    self._selector.unregister(launcher)
                with suppress(OSError):
                    launcher.sendall(status.to_bytes(2, "big", signed=True))
                launcher.close()
                if status and time.monotonic() - began < _STARTS_S:
                    self._stop_listening()

    def _stop_listening(self) -> None:
        """A Ray whose processes cannot be forked gets them from Python from now on."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._listening)
        self._listening.close()

    def _kill_for(self, launcher: Any) -> None:
        """A launcher was killed, and is the process that Ray meant."""
        self._selector.unregister(launcher)
        for pid, (other, _) in self._launchers.items():
            if other is launcher:
                os.kill(pid, signal.SIGKILL)


def _become(told: dict[str, Any], files: list[int], made: dict[str, str]) -> list[str]:
    """Takes over what the launcher was started with."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update({**made, **told["environment"]})
    os.chdir(told["folder"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(told["open_files"]))
    with suppress(OSError):
        _OOM.write_text(told["oom_score"])
    Config.initialize("")  # what it has of the environment is that of the server
    arguments: list[str] = told["arguments"]
    return arguments


def _import() -> dict[str, str]:
    """The variables that imports have set. What stays is put where no collection of garbage writes to it."""
    import gc

    # Ray reads these once: the job, and the process without which its others end
    os.environ.update(RAY_JOB_ID=_JOB, RAY_RAYLET_PID=str(os.getpid()))
    before = set(os.environ)
    # torchmetrics imports it, which takes half a second, to mend it for the sake of a package that is not used here
    stand_in: Any = ModuleType("scipy.signal")
    stand_in.hamming = None
    sys.modules["scipy.signal"] = stand_in
    import_module("torchmetrics")
    del sys.modules["scipy.signal"]
    for name in _IMPORTED:
        import_module(name)
    from ray._raylet import Config  # type: ignore[attr-defined] # noqa: F401  # which forks need

    gc.collect()
    gc.freeze()
    return {name: value for name, value in os.environ.items() if name not in before}


def _forks_can_use_a_gpu() -> bool:
    """CUDA refuses to start in a fork of a process that has asked it for its devices, which some import may do."""
    import torch

    pid = os.fork()
    if not pid:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitpid(pid, 0)[1] == 0


def _launch(address: str, arguments: list[str]) -> int:
    """Runs Python with `arguments` in a fork; the status that this ended with, negative for a signal."""
    told = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "oom_score": _OOM.read_text() if _OOM.exists() else "0",
    }
    content = json.dumps(told).encode()
    status = forked = b""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as server:
        if os.environ.get("RAY_JOB_ID") == _JOB:
            server.connect(address)
            socket.send_fds(server, [len(content).to_bytes(4, "big")], range(_FILES))
            server.sendall(content)
            forked = server.recv(1)
            if forked:  # when memory is short, it is the fork that should end
                with suppress(OSError):
                    _OOM.write_text("0")
            status = server.recv(2, socket.MSG_WAITALL)
    if not forked:
        os.execv(sys.executable, [sys.executable, *arguments])
    return int.from_bytes(status, "big", signed=True) if status else 1


def _end_as(status: int) -> None:
    if status < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "--launch":
        _end_as(_launch(sys.argv[2], sys.argv[3:]))
    made = _import()
    # without a server each launcher runs Python
    arguments = _Server(socket.socket(fileno=int(sys.argv[1])), made).serve() if _forks_can_use_a_gpu() else None
    if arguments is None:
        shutil.rmtree(sys.argv[2], ignore_errors=True)  # which a driver that was killed leaves behind
        sys.exit()
    sys.argv = arguments
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
