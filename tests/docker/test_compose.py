"""The compose files: valid as Compose publishes its schema, and what keeps their containers apart from the machine."""

import os
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from ruamel.yaml import YAML

DOCKER = Path(__file__).parents[2] / "docker"
SCHEMA = get_builtin_schema("vendor.compose-spec")
COMPOSE = YAML(typ="safe").load(DOCKER / "compose.yaml")
GPU = YAML(typ="safe").load(DOCKER / "compose.gpu.yaml")
SERVICES = COMPOSE["services"]
OURS = ("head", "worker")


def complaints(file: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(file)]


@pytest.mark.parametrize("file", [COMPOSE, GPU], ids=["compose", "gpu"])
def test_it_is_valid(file):
    assert complaints(file) == []


def test_the_schema_tells_what_is_misspelt():
    wrong = {"services": {"head": {**SERVICES["head"], "read_olny": True}}}
    (told,) = complaints(wrong)
    assert "'read_olny' was unexpected" in told


def test_there_are_a_head_workers_and_those_who_watch():
    assert SERVICES.keys() == {"head", "worker", "prometheus", "grafana"}
    assert "container_name" not in SERVICES["worker"], "of which there can be many"
    assert "ports" not in SERVICES["worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_change_its_image_or_gain_rights(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "network_mode", "pid", "ipc"} & service.keys()
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_reached_from_this_machine_only(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_a_node_wants_the_token_of_a_file(name):
    service = SERVICES[name]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert service["secrets"] == ["ray_token"]
    assert "RAY_AUTH_TOKEN" not in service["environment"]


def test_secrets_are_files_that_git_does_not_take_or_the_shells():
    assert COMPOSE["secrets"] == {"ray_token": {"file": "./secrets/ray_token"}}
    ignored = (DOCKER.parent / ".gitignore").read_text().splitlines()
    assert "/docker/secrets/" in ignored
    assert SERVICES["head"]["environment"]["WANDB_API_KEY"] is None, "as the shell has it"
    assert "WANDB_API_KEY" not in str(SERVICES["worker"])


@pytest.mark.parametrize("name", OURS)
def test_a_node_writes_where_it_may(name):
    places = [mount.split(":")[0] for mount in SERVICES[name]["tmpfs"]]
    assert places == ["/tmp", "/home/ray"]
    volumes = dict(
        volume.rsplit(":", 1) if volume.endswith(":ro") else (volume, "") for volume in SERVICES[name]["volumes"]
    )
    assert {"storage:/storage", "cache:/cache"} < volumes.keys()
    assert volumes["${CIFAR_DATA:-../data}:/data"] == "ro"


def test_each_waits_for_whom_it_needs():
    waits = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert waits == {"head": set(), "worker": {"head"}, "prometheus": {"head"}, "grafana": {"head", "prometheus"}}
    for service in SERVICES.values():
        assert all(how == {"condition": "service_healthy"} for how in service.get("depends_on", {}).values())
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"head", "prometheus", "grafana"}
    assert "HEALTHCHECK" in (DOCKER / "Dockerfile").read_text(), "for the worker"


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_the_images_of_others_are_pinned(name):
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert tag.lstrip("v").count(".") == 2


def test_every_file_that_is_mounted_is_there():
    mounted = [volume for service in SERVICES.values() for volume in service["volumes"] if volume.startswith("./")]
    assert len(mounted) == 4
    for volume in mounted:
        assert (DOCKER / volume.split(":")[0]).exists()
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert COMPOSE["volumes"].keys() == {name for name in named if name.isalpha()}


def test_each_worker_takes_a_gpu_of_its_own(tmp_path):
    """Its own command, with others in the place of nvidia-smi and ray."""
    for name, lines in {
        "nvidia-smi": "echo 0; echo 1",
        "ray": 'echo "$CUDA_VISIBLE_DEVICES $@"; exec sleep 30',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    *shell, script = GPU["services"]["worker"]["command"]
    script = script.replace("$$", "$").replace("/cache/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORKER_CPUS": "2"}

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*shell, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    workers = [begin(), begin()]
    try:
        told = sorted(worker.stdout.readline().split(maxsplit=1) for worker in workers)
        assert [gpu for gpu, _ in told] == ["0", "1"]
        assert told[0][1].startswith("start --address=head:6379 --block --num-cpus=2 --num-gpus=1 ")
        third = begin()
        assert third.communicate(timeout=20)[1] == (
            "error: every GPU of this machine has a worker already; scale to as many as it has\n"
        )
        assert third.returncode == 2
        workers[0].kill()
        workers[0].communicate(timeout=20)
        workers.append(begin())
        assert workers[-1].stdout.readline().split()[0] in {"0", "1"}, "its GPU is free"
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=20)


@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs Prometheus")
def test_prometheus_asks_the_head_with_the_token(tmp_path):
    """A real one, by our file but for the head's address and the token's."""
    asked: SimpleQueue[tuple[str, str | None]] = SimpleQueue()

    class Head(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.put((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "token").write_text("of-the-test")
    with HTTPServer(("127.0.0.1", 0), Head) as head:
        Thread(target=head.serve_forever, daemon=True).start()
        text = (DOCKER / "prometheus" / "cluster.yml").read_text()
        text = text.replace("head:8265", f"127.0.0.1:{head.server_port}")
        (tmp_path / "cluster.yml").write_text(text.replace("/run/secrets/ray_token", str(tmp_path / "token")))
        folders = (f"--config.file={tmp_path}/cluster.yml", f"--storage.tsdb.path={tmp_path}/data")
        prometheus = subprocess.Popen(
            ["prometheus", *folders, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.DEVNULL
        )
        try:
            assert asked.get(timeout=60) == ("/api/prometheus/sd", "Bearer of-the-test")
        finally:
            prometheus.terminate()
            prometheus.wait(timeout=30)
            head.shutdown()
