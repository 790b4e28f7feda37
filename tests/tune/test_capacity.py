"""The number of slots, and the asking for more, of a Ray that is played by hand; real ones are in tests/integration."""

from types import SimpleNamespace

import pytest

from tune import capacity
from tune.capacity import Capacity, with_room
from tune.cluster import Node, Share
from tune.errors import ResourcesError
from tune.sections import ResourcesConfig


class Played:
    """Nodes of one GPU each, and the placement groups that wait."""

    def __init__(self) -> None:
        self.now, self.nodes, self.leaving, self.groups, self.lines = 0.0, 1, set(), {}, []
        self.group = "workers"

    def told(self) -> list[dict]:
        resources, labels = {"CPU": 4, "GPU": 1}, {"ray.io/node-group": self.group}
        return [
            {"NodeID": f"node {n}", "Alive": True, "Resources": resources, "Labels": labels} for n in range(self.nodes)
        ]

    def ask(self, bundles: list[dict[str, float]]) -> SimpleNamespace:
        name = f"{len(self.groups)} {self.now}"
        group = SimpleNamespace(id=SimpleNamespace(hex=lambda: name), bundles=bundles, wait=self.wait)
        self.groups[name] = group
        return group

    def wait(self, timeout_seconds: float) -> bool:
        self.nodes = 1
        return True

    def later(self, slots: Capacity, wanted: int, seconds: float = 1.0) -> tuple[int, int]:
        """The slots, and how many are asked for, after a while."""
        self.now += seconds
        count = slots()
        slots.ask(lambda: wanted)
        return count, len(self.groups)


@pytest.fixture
def ray(monkeypatch):
    played = Played()
    monkeypatch.setattr(capacity, "time", SimpleNamespace(monotonic=lambda: played.now))
    monkeypatch.setattr(capacity.ray, "nodes", played.told)
    monkeypatch.setattr(capacity, "_leaving", lambda: dict.fromkeys(played.leaving))
    monkeypatch.setattr(capacity, "placement_group", played.ask)
    monkeypatch.setattr(capacity, "remove_placement_group", lambda group: played.groups.pop(group.id.hex()))
    monkeypatch.setattr(
        capacity, "placement_group_table", lambda: {name: {"state": "PENDING"} for name in played.groups}
    )
    return played


def slots_of(ray: Played, **resources: float) -> Capacity:
    return Capacity(ResourcesConfig.model_validate(resources), Share(1, 1, 1), ray.lines.append)


def test_slots_follow_the_nodes_and_are_looked_at_once_a_second(ray):
    slots = slots_of(ray)
    assert slots() == 1
    ray.nodes = 3
    ray.now += 0.5
    assert slots() == 1
    ray.now += 0.5
    assert slots() == 3
    ray.leaving = {"node 0"}
    ray.now += 1
    assert slots() == 2
    assert ray.lines == [
        "slots: 3, 1 before",
        "a node is announced as leaving: its trials save their epoch and go on elsewhere",
        "slots: 2, 3 before",
    ]


def test_what_lacks_is_asked_for_and_given_back_when_it_has_come(ray):
    slots = slots_of(ray)
    assert ray.later(slots, 5) == (1, 5)
    assert [group.bundles for group in ray.groups.values()] == [[{"CPU": 1, "GPU": 1}]] * 5
    assert ray.later(slots, 9, seconds=0.5) == (1, 5), "not more than once a second"
    ray.nodes = 4
    assert ray.later(slots, 2) == (4, 2)
    assert ray.later(slots, 0) == (4, 0)
    ray.later(slots, 3)
    slots.close()
    assert not ray.groups


@pytest.mark.parametrize(("resources", "asked"), [({"max_gpus": 3}, 2), ({"max_concurrent": 2}, 1), ({}, 64)])
def test_no_more_is_asked_for_than_the_search_may_have(ray, resources, asked):
    assert ray.later(slots_of(ray, **resources), 1000) == (1, asked)


def test_a_fixed_cluster_is_asked_for_nothing(ray):
    ray.group = ""
    assert ray.later(slots_of(ray), 5) == (1, 0)
    ray.nodes = 0
    with pytest.raises(ResourcesError, match=r"resources\.gpus_per_trial: got 1, and no node"):
        with_room(ResourcesConfig(gpus_per_trial=1), [Node(8, 0)], "auto", ray.lines.append)


def test_a_cluster_without_a_node_for_a_trial_is_asked_for_one_and_waited_for(ray):
    told = with_room(ResourcesConfig(gpus_per_trial=1), [Node(8, 0)], "auto", ray.lines.append)
    assert told == [Node(4, 1, "node 0")]
    assert ray.lines == ["no node has room for a trial (1 CPU and 1 GPU) yet: the cluster was asked for one"]
    assert not ray.groups
