import pytest

from tune.cluster import Node, Share, check_devices, dashboard_line, share
from tune.errors import ResourcesError
from tune.sections import ResourcesConfig


def of(**given: object) -> ResourcesConfig:
    return ResourcesConfig.model_validate(given)


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        # auto: a core each without GPUs; with them one GPU, and the cores that are its share
        (of(), [Node(8, 0)], Share(1, 0, 8)),
        (of(), [Node(16, 4)], Share(4, 1, 4)),
        (of(), [Node(2, 4)], Share(1, 1, 2)),
        (of(), [Node(16, 4), Node(8, 4)], Share(2, 1, 8)),
        (of(), [Node(8, 0), Node(16, 2)], Share(8, 1, 2)),
        (of(gpus_per_trial=0), [Node(16, 4)], Share(1, 0, 16)),
        (of(cpus_per_trial=2), [Node(7, 0), Node(3, 0)], Share(2, 0, 4)),
        (of(cpus_per_trial=2.5), [Node(5, 0)], Share(2.5, 0, 2)),
        # fractions that floats cannot hold still add up to a whole
        (of(cpus_per_trial=0.1), [Node(1, 0)], Share(0.1, 0, 10)),
        (of(cpus_per_trial=1, gpus_per_trial=0.1), [Node(64, 1)], Share(1, 0.1, 10)),
        (of(gpus_per_trial=0.1), [Node(40, 1)], Share(4, 0.1, 10)),
        # a fraction never spans two GPUs: 0.4 fits twice on each of two, not five times on both
        (of(gpus_per_trial=0.4), [Node(8, 2)], Share(2, 0.4, 4)),
        (of(gpus_per_trial=0.5), [Node(8, 2)], Share(2, 0.5, 4)),
        (of(max_concurrent=3), [Node(8, 0)], Share(1, 0, 3)),
        (of(max_concurrent=30), [Node(8, 0)], Share(1, 0, 8)),
        # of a cluster that others use too
        (of(max_gpus=2), [Node(16, 4)], Share(4, 1, 2)),
        (of(max_gpus=2, gpus_per_trial=0.4), [Node(16, 4)], Share(2, 0.4, 5)),
        (of(max_gpus=2, max_concurrent=1), [Node(16, 4)], Share(4, 1, 1)),
        (of(max_gpus=1), [Node(4, 0)], Share(1, 0, 4)),
    ],
)
def test_what_a_trial_takes_and_how_many_fit(resources, nodes, expected):
    assert share(resources, nodes) == expected


@pytest.mark.parametrize(
    ("resources", "nodes", "message"),
    [
        (
            of(cpus_per_trial=16),
            [Node(8, 0)],
            "resources.cpus_per_trial: got 16, and no node of the cluster has that much (1 node: 8 CPUs, 0 GPUs); "
            "lower it, as in --set resources.cpus_per_trial=auto",
        ),
        (
            of(gpus_per_trial=1),
            [Node(8, 0), Node(4, 0)],
            "resources.gpus_per_trial: got 1, and no node of the cluster has that much "
            "(2 nodes: 8 CPUs, 0 GPUs and 4 CPUs, 0 GPUs); lower it, as in --set resources.gpus_per_trial=auto",
        ),
        (
            of(gpus_per_trial=0.5),
            [Node(2, 0)] * 5,
            "resources.gpus_per_trial: got 0.5, and no node of the cluster has that much (5 nodes: "
            "2 CPUs, 0 GPUs and 2 CPUs, 0 GPUs and 2 CPUs, 0 GPUs and 2 CPUs, 0 GPUs, …); "
            "lower it, as in --set resources.gpus_per_trial=auto",
        ),
        (
            of(max_gpus=0.5),
            [Node(8, 2)],
            "resources.max_gpus: got 0.5, and a trial takes 1; raise it, or lower resources.gpus_per_trial, as in "
            "--set resources.gpus_per_trial=0.5",
        ),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_with_what_there_is(resources, nodes, message):
    with pytest.raises(ResourcesError) as caught:
        share(resources, nodes)
    assert str(caught.value) == message


def test_cores_of_one_machine_and_the_gpu_of_another_make_no_place():
    with pytest.raises(ResourcesError, match=r"^resources\.cpus_per_trial: got 4, and no node"):
        share(of(cpus_per_trial=4, gpus_per_trial=1), [Node(2, 1), Node(8, 0)])


@pytest.mark.parametrize(
    ("devices", "taken", "nodes"),
    [
        (1, Share(1, 0, 1), [Node(1, 0)]),
        (2, Share(1, 0, 2), [Node(1, 0), Node(1, 0)]),
        (4, Share(2, 0.25, 16), [Node(16, 4)]),  # where trials share a GPU, each process still has its own
        (1, Share(4, 1, 1), [Node(2, 0)]),  # the node that had the GPU is gone: a search would wait for it, too
    ],
)
def test_processes_that_train_together_fit(devices, taken, nodes):
    assert check_devices(devices, taken, nodes, ResourcesConfig()) is None


@pytest.mark.parametrize(
    ("devices", "taken", "nodes", "message"),
    [
        (
            3,
            Share(1, 0, 2),
            [Node(2, 0)],
            "retrain.devices: got 3, and 2 at most fit the cluster, each with 1 CPUs and 0 GPUs; lower it, as in "
            "--set retrain.devices=2",
        ),
        (
            8,
            Share(2, 0.25, 16),
            [Node(16, 4)],
            "retrain.devices: got 8, and 4 at most fit the cluster, each with 2 CPUs and 1 GPUs; lower it, as in "
            "--set retrain.devices=4",
        ),
    ],
)
def test_processes_that_do_not_fit_together_are_refused(devices, taken, nodes, message):
    with pytest.raises(ResourcesError) as caught:
        check_devices(devices, taken, nodes, ResourcesConfig())
    assert str(caught.value) == message


def test_processes_that_train_together_stay_within_the_searchs_share():
    nodes, taken = [Node(64, 8)], Share(8, 1, 2)
    with pytest.raises(ResourcesError) as caught:
        check_devices(4, taken, nodes, of(max_gpus=2))
    assert str(caught.value) == (
        "retrain.devices: got 4, with a GPU each, and resources.max_gpus is 2; lower it, as in --set retrain.devices=2"
    )
    check_devices(2, taken, nodes, of(max_gpus=2))


@pytest.mark.parametrize(
    ("mode", "host", "joined", "told"),
    [
        ("token", "0.0.0.0", False, "; its token: ray get-auth-token"),
        ("disabled", "127.0.0.1", False, ""),
        ("disabled", "0.0.0.0", True, ""),
        (
            "disabled",
            "0.0.0.0",
            False,
            "\nwarning: it listens on 0.0.0.0 and wants no token, so whoever reaches it can run code on this machine; "
            "set RAY_AUTH_MODE=token, or leave --dashboard-host out",
        ),
    ],
)
def test_a_dashboard_that_others_reach_without_a_token_brings_a_warning(monkeypatch, mode, host, joined, told):
    monkeypatch.setattr("ray._private.worker.get_dashboard_url", lambda: "here:8265")
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert dashboard_line(joined=joined, host=host) == f"Ray's dashboard: http://here:8265{told}"
