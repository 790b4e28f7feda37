"""The command as a user calls it, with a real Ray Serve; what it answers to odd requests is for test_http_api.py."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from click.testing import CliRunner

from cifar.predict import main as predict_command
from tune.__main__ import main

pytest.importorskip("uvicorn", reason="needs cifar-tune[serve]")
PROJECT = Path(__file__).parents[2]
READY = (
    r'ready: (http://127\.0\.0\.1:(\d+)); try curl -H "Authorization: Bearer (\S+)" --data-binary @(\S+) \1/predict\n'
)


class Service:
    """`python -m …` that serves, in a session of its own."""

    def __init__(self, *arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if name != "CIFAR_TOKEN"}
        environment |= {"PYTHONPATH": str(PROJECT), **variables}
        command = [sys.executable, "-m", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        self.ready = self.process.stdout.readline()
        found = re.fullmatch(READY, self.ready)
        assert found, self.process.communicate()
        self.port, self.token, self.example = int(found[2]), found[3], found[4]

    def ask(self, body, token=None):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/predict", body, {"Authorization": f"Bearer {token or self.token}"})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def processes(self):
        """Ids of all that it began."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
            except OSError:  # ended meanwhile
                continue
        found = {self.process.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def end(self, number):
        """The exit status, and what else was written, once everything that it began has ended."""
        begun = self.processes()
        assert len(begun) > 3
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        until = time.monotonic() + 10
        while any(Path(f"/proc/{number}").exists() for number in begun):
            assert time.monotonic() < until, "it left a process behind"
            time.sleep(0.1)
        return self.process.returncode, out, err


@pytest.fixture
def begin():
    begun = []

    def start(*arguments, **variables):
        begun.append(Service(*arguments, **variables))
        return begun[-1]

    yield start
    for service in begun:
        if service.process.returncode is None:  # a test that failed left it behind
            service.process.kill()
            service.process.communicate()


@pytest.fixture(scope="module")
def told(model_folder):
    """What `cifar.predict --json` says of the example."""
    result = CliRunner().invoke(
        predict_command, ["--model", str(model_folder), "--json", f"{model_folder}/example.png"]
    )
    (image,) = json.loads(result.stdout)["images"]
    return image


def refused(*arguments, **variables):
    """What a call said that was refused in a line."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **variables}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr


def test_predict_with_serve_serves_the_folder_and_ends_with_sigterm(begin, model_folder, told):
    service = begin("cifar.predict", "--model", model_folder, "--serve", "--port", 0)
    assert service.example == f"{model_folder}/example.png"
    example = Path(service.example).read_bytes()
    status, said = service.ask(example)
    assert status == 200
    assert said["image"] is None
    assert said["class"] == told["class"]
    assert said["probabilities"] == pytest.approx(told["probabilities"], abs=1e-6)
    assert service.ask(example, token="another")[0] == 401
    with ThreadPoolExecutor(16) as pool:  # in batches
        answers = list(pool.map(service.ask, [example, b"no image", example[:60], example] * 12))
    assert [status for status, _ in answers] == [200, 415, 422, 200] * 12
    for _, said in answers[::4]:
        assert said["probabilities"] == pytest.approx(told["probabilities"], abs=1e-6)
    assert service.end(signal.SIGTERM) == (0, "", "")


@pytest.mark.slow
def test_replicas_of_a_checkpoint_serve_with_the_token_of_the_environment(begin, model_folder, told, tmp_path):
    shutil.copy(model_folder / "model.ckpt", tmp_path)
    service = begin("tune", "serve", tmp_path, "--port", 0, "--replicas", 2, CIFAR_TOKEN="of-the-environment")
    assert (service.token, service.example) == ("$CIFAR_TOKEN", "image.png")
    for process in service.processes():
        assert b"of-the-environment" not in Path(f"/proc/{process}/cmdline").read_bytes()
    for _ in range(4):
        status, said = service.ask((model_folder / "example.png").read_bytes(), token="of-the-environment")
        assert status == 200
        assert said["probabilities"] == pytest.approx(told["probabilities"], abs=1e-4)
    assert service.end(signal.SIGINT) == (0, "", "")


@pytest.mark.slow
def test_a_replica_that_is_killed_is_replaced(begin, model_folder):
    service = begin("tune", "serve", model_folder, "--port", 0)
    example = (model_folder / "example.png").read_bytes()
    assert service.ask(example)[0] == 200
    (replica,) = [
        process
        for process in service.processes()
        if Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::ServeReplica")
    ]
    os.kill(replica, signal.SIGKILL)
    until = time.monotonic() + 60
    while (answer := service.ask(example))[0] != 200:
        assert answer[0] == 503, answer
        assert time.monotonic() < until
    assert service.end(signal.SIGTERM)[0] == 0


def test_a_model_that_is_none_costs_no_start(tmp_path):
    said = refused("cifar.predict", "--serve", f"--model={tmp_path}")
    assert said == f"error: {tmp_path} has no model.onnx and no model.ckpt; name the model/ folder of an experiment\n"


@pytest.mark.parametrize("token", ["", "two words", "new\nline", "naïve", "$(id)"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token, model_folder):
    result = CliRunner().invoke(main, ["serve", str(model_folder)], env={"CIFAR_TOKEN": token})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "error: CIFAR_TOKEN is empty, or has characters that no token may have; use letters"
    )
    assert not token or token not in result.stderr


def test_a_port_in_use_is_an_error(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("tune", "serve", model_folder, "--port", port)
    assert said.startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there (Address already in use")
    assert "choose another one, or --port 0" in said


def test_a_host_that_is_not_this_machine_is_an_error(model_folder):
    assert "--host 203.0.113.1 --port 0: cannot listen there (" in refused(
        "tune", "serve", model_folder, "--host", "203.0.113.1", "--port", 0
    )


def test_without_ray_serve_it_says_what_to_install(model_folder, tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')\n")
    said = refused("tune", "serve", model_folder, PYTHONPATH=f"{tmp_path}:{PROJECT}")
    assert said == ("error: serving needs Ray Serve, which is not installed; run pip install 'cifar-tune[serve]'\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'MODEL'"),
        (["model", "--port", "65536"], "65536 is not in the range 0<=x<=65535"),
        (["model", "--replicas", "0"], "0 is not in the range x>=1"),
        (["model", "--max-bytes", "0"], "0 is not in the range x>=1"),
        (["model", "image.png"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_explained(arguments, complaint):
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert complaint in result.stderr
