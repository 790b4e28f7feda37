"""`python -m tune serve` on a cluster that others use too."""

import json
import re
import signal
import urllib.request

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("three_trials")]


def test_a_joined_cluster_serves_twice_and_is_left_as_it_was(three_trials, start, cluster):
    model = three_trials[1] / "model"
    for _ in range(2):  # a replica that stayed would have one of the two CPUs that the second call's replicas need
        service = start("tune", "serve", model, "--port", 0, "--replicas", 2, "--address", cluster, CIFAR_TOKEN="x")
        ready = service.process.stdout.readline()
        found = re.match(r"ready: (\S+);", ready)
        assert found, service.end()
        image = (model / "example.png").read_bytes()
        request = urllib.request.Request(f"{found[1]}/predict", image, {"Authorization": "Bearer x"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert sum(json.load(answer)["probabilities"].values()) == pytest.approx(1)
        ended = service.kill(signal.SIGTERM)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
