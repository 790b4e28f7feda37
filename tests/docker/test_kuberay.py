"""The manifests for KubeRay, checked as an API server with strict validation would, and for what keeps them safe."""

import copy
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from tune.run import main
from tune.spec import load

PROJECT = Path(__file__).parents[2]
KUBERAY = PROJECT / "docker" / "kuberay"
SCHEMA = json.loads(Path(__file__).with_name("kuberay.schema.json").read_text())
MANIFESTS = {file.stem: YAML(typ="safe").load(file) for file in sorted(KUBERAY.glob("*.yaml"))}


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod templates, and the autoscaler's container as one of the head's."""
    cluster = cluster_of(manifest)
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["workerGroupSpecs"])
    options = {name: cluster["autoscalerOptions"][name] for name in ("securityContext", "volumeMounts")}
    pod = copy.deepcopy(cluster["headGroupSpec"]["template"])
    pod["spec"]["containers"] = [{"name": "autoscaler", "image": "cifar-tune", **options}]
    yield pod


def check(manifest: dict[str, Any]) -> None:
    """Raises an error for a field that KubeRay or Kubernetes does not know, or knows otherwise."""
    which = {"RayCluster": 0, "RayJob": 1}[manifest["kind"]]  # of the two, so that an error names the field
    jsonschema.validate(manifest, {**SCHEMA["oneOf"][which], "$defs": SCHEMA["$defs"]})
    for pod in pods(manifest):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": pod}
        kubernetes_validate.validate(template, "1.34", strict=True)


def test_there_are_a_cluster_and_a_job():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert {name: manifest["kind"] for name, manifest in MANIFESTS.items()} == {
        "raycluster": "RayCluster",
        "rayjob": "RayJob",
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_one_of_kuberays_or_of_kubernetes(name):
    check(MANIFESTS[name])


@pytest.mark.parametrize(
    ("path", "wrong", "told"),
    [
        (("spec",), {"enableInTreeAutoscalling": True}, "'enableInTreeAutoscalling' was unexpected"),
        (("spec", "authOptions"), {"mode": "tokens"}, "'tokens' is not one of"),
        (("spec", "workerGroupSpecs", 0), {"maxReplicas": "8"}, "'8' is not of type 'integer'"),
        (("spec", "headGroupSpec", "rayStartParams"), {"num-cpus": 0}, "0 is not of type 'string'"),
        (("spec", "workerGroupSpecs", 1, "template", "spec"), {"toleration": []}, "'toleration' was unexpected"),
        (("spec", "autoscalerOptions", "securityContext"), {"readOnly": True}, "'readOnly' was unexpected"),
    ],
)
def test_a_field_that_is_misspelt_or_of_another_type_is_told(path, wrong, told):
    manifest = json.loads(json.dumps(MANIFESTS["raycluster"]))  # without the file's shared parts
    place = manifest
    for step in path:
        place = place[step]
    place |= wrong
    with pytest.raises(jsonschema.ValidationError, match=told):
        check(manifest)


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_container_is_roots_or_writes_beside_its_volumes(name):
    for pod in pods(MANIFESTS[name]):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
        for container in spec["containers"]:
            rules = container["securityContext"]
            assert rules["readOnlyRootFilesystem"] is True
            assert rules["allowPrivilegeEscalation"] is False
            assert rules["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert mounts.keys() == {"/tmp", "/home/ray", "/cache"}
            assert set(mounts.values()) <= empty


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_token_is_wanted_and_every_secret_is_kubernetes(name):
    cluster = cluster_of(MANIFESTS[name])
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"].get("serviceType", "ClusterIP") == "ClusterIP"
    assert "enableIngress" not in cluster["headGroupSpec"]
    for pod in pods(MANIFESTS[name]):
        for container in pod["spec"]["containers"]:
            assert "env" not in container, "what is not secret is in the image"
            for source in container.get("envFrom", []):
                assert source == {"secretRef": {"name": "cifar-tune-storage"}}


@pytest.mark.parametrize("name", MANIFESTS)
def test_trials_run_on_workers_that_come_and_go(name):
    cluster = cluster_of(MANIFESTS[name])
    assert cluster["rayVersion"] == version("ray")
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert groups.keys() == {"cpu", "gpu"}
    for group, spec in groups.items():
        assert spec["minReplicas"] == 0 < spec["maxReplicas"]
        (container,) = spec["template"]["spec"]["containers"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (group == "gpu")


def test_a_job_has_the_clusters_spec_and_begins_anew_where_its_head_is_lost():
    spec = MANIFESTS["rayjob"]["spec"]
    assert spec["rayClusterSpec"] == MANIFESTS["raycluster"]["spec"]
    assert spec["backoffLimit"] >= 1
    assert spec["submissionMode"] == "SidecarMode"
    assert spec["shutdownAfterJobFinishes"] is True
    words = spec["entrypoint"].split()
    assert words[:3] == ["python", "-m", "tune.run"]
    called = main.make_context("tune.run", words[3:]).params
    assert (called["restartable"], called["address"], called["overrides"]) == (True, "auto", ())
    assert load(PROJECT / called["file"]).name == MANIFESTS["rayjob"]["metadata"]["name"]
    assert not set("'\"$;&|`\\") & set(spec["entrypoint"]), "the submitter's shell would take them"


def test_the_example_of_the_secret_has_none():
    lines = [line for line in (KUBERAY / "storage.example.env").read_text().splitlines() if not line.startswith("#")]
    values = dict(line.split("=", 1) for line in lines)
    assert values.pop("CIFAR_STORAGE") == "s3://BUCKET/experiments"
    assert set(values.values()) == {""}
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} < values.keys()
