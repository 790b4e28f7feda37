import pytest

from tune.cluster import Node
from tune.errors import ResourcesError
from tune.replicas import Share, share


@pytest.mark.parametrize(
    ("count", "nodes", "shared", "on_gpus", "expected"),
    [
        # this machine is theirs alone
        (1, [Node(8, 0)], False, True, Share(8, 0)),
        (3, [Node(8, 0)], False, True, Share(2, 0)),
        (2, [Node(16, 1)], False, True, Share(8, 0.5)),
        (3, [Node(16, 1)], False, True, Share(5, 0.3333)),  # which fit three times, as thirds rounded up would not
        (2, [Node(16, 4)], False, True, Share(8, 1)),
        (2, [Node(16, 4)], False, False, Share(8, 0)),
        # a cluster that has other users
        (2, [Node(16, 0), Node(16, 0)], True, True, Share(1, 0)),
        (2, [Node(16, 1), Node(16, 1)], True, True, Share(1, 1)),
    ],
)
def test_what_a_replica_takes(count, nodes, shared, on_gpus, expected):
    assert share(count, nodes, shared=shared, on_gpus=on_gpus) == expected


def test_more_replicas_than_cpus_are_refused():
    with pytest.raises(ResourcesError) as caught:
        share(3, [Node(2, 0)], shared=False, on_gpus=False)
    assert str(caught.value) == "--replicas 3: each needs a CPU, and there are 2; lower it"
