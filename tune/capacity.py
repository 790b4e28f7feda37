"""How many trials fit on the cluster now: nodes come, leave, and are announced as leaving; more are asked for."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from tune.cluster import Node, Share, alive, fit, most_at_once, share
from tune.errors import ResourcesError
from tune.sections import ResourcesConfig

_LOOKED_EVERY_S = 1.0
_COMES_S = 1800  # for a first node: a cloud's GPU machine, and its image
_AT_ONCE = 64  # slots that are asked for, of those that lack
_GROUP = "ray.io/node-group"  # a label of the nodes that an autoscaler, or KubeRay, began


class Capacity:
    """Called, it gives the number of slots. say: hears a line when that changes; told: the number.

    A node that is announced as leaving (`ray drain-node`, a spot instance's notice, an autoscaler) has no slots any
    more. What a search lacks is asked for where nodes are of groups that an autoscaler manages: as placement groups
    that wait, which is what Ray's autoscaler counts. They are given back as soon as they are there, since the trial
    that takes their place asks for itself.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        share: Share,
        say: Callable[[str], None] = lambda line: None,
        told: Callable[[int], None] = lambda slots: None,
    ) -> None:
        self.leaving: frozenset[str] = frozenset()
        self._share, self._say, self._told = share, say, told
        self._most = most_at_once(resources, share.gpus)
        self._slots, self._looked, self._scales = share.slots, time.monotonic() - _LOOKED_EVERY_S, False
        self._asked_at = 0.0
        self._asked: list[PlacementGroup] = []

    def __call__(self) -> int:
        """Trials that fit at once, at least one; as of a second ago at most."""
        if time.monotonic() - self._looked >= _LOOKED_EVERY_S:
            self._looked = time.monotonic()
            self._look()
        return self._slots

    def ask(self, more: Callable[[], int]) -> None:
        """more: gives how many trials more could run if there were slots for them. Asks once a second at most."""
        if not (self._scales or self._asked) or self._asked_at == self._looked:
            return
        self._asked_at = self._looked
        if self._asked:
            told = placement_group_table()
            for group in [one for one in self._asked if told.get(one.id.hex(), {}).get("state") != "PENDING"]:
                self._give_back(group)
        lacking = min(more(), self._most - self._slots, _AT_ONCE)
        while len(self._asked) > max(0, lacking):
            self._give_back(self._asked[-1])
        while len(self._asked) < lacking:
            bundle = {"CPU": self._share.cpus} | ({"GPU": self._share.gpus} if self._share.gpus else {})
            self._asked.append(placement_group([bundle]))

    def close(self) -> None:
        """Nothing is asked for any more."""
        for group in list(self._asked):
            self._give_back(group)

    def _give_back(self, group: PlacementGroup) -> None:
        self._asked.remove(group)
        with suppress(Exception):  # of a cluster that is gone
            remove_placement_group(group)

    def _look(self) -> None:
        nodes: list[dict[str, Any]] = ray.nodes()
        leaving = frozenset(_leaving())
        staying = [node for node in nodes if node["NodeID"] not in leaving]
        self._scales = _scale(nodes)
        fits = sum(fit(node, self._share.cpus, self._share.gpus) for node in alive(staying))
        slots = max(1, min(fits, self._most))
        gone = len(leaving - self.leaving)
        if gone:
            which = "a node is" if gone == 1 else f"{gone} nodes are"
            self._say(f"{which} announced as leaving: its trials save their epoch and go on elsewhere")
        self.leaving, before, self._slots = leaving, self._slots, slots
        if slots != before:
            self._say(f"slots: {slots}, {before} before")
            self._told(slots)


def with_room(
    resources: ResourcesConfig, nodes: list[Node], accelerator: str, say: Callable[[str], None]
) -> list[Node]:
    """The nodes of the cluster, once one of them has room for a trial: an autoscaler may have begun none yet.

    Raises ResourcesError if there is none, and none to come.
    """
    try:
        share(resources, nodes, accelerator)
    except ResourcesError:
        if not _scale(ray.nodes()):
            raise
        asked = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        bundle = {name: 1.0 if count == "auto" else count for name, count in asked.items() if count}
        if accelerator == "cpu" or (resources.gpus_per_trial == "auto" and not any(node.gpus for node in nodes)):
            bundle.pop("GPU", None)
        shown = " and ".join(f"{count:g} {name}" for name, count in bundle.items())
        say(f"no node has room for a trial ({shown}) yet: the cluster was asked for one")
        group = placement_group([bundle])
        try:
            if not group.wait(timeout_seconds=_COMES_S):
                raise
        finally:
            remove_placement_group(group)
        return alive(ray.nodes())
    return nodes


def _scale(nodes: list[dict[str, Any]]) -> bool:
    """Whether an autoscaler, or KubeRay, began them. Pure."""
    return any(node["Alive"] and node.get("Labels", {}).get(_GROUP) for node in nodes)


def _leaving() -> dict[str, Any]:
    """The ids of nodes that are announced as leaving. Ray says it to its own libraries only."""
    told: dict[str, Any] = ray._private.state.state.get_draining_nodes()
    return told
