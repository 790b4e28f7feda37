"""The processes that Ray Tune keeps from trial to trial: as many as there is work for, none on a node that leaves."""

from collections.abc import Callable, Generator
from typing import Any

from ray.tune.utils.object_cache import _ObjectCache


class KeptProcesses(_ObjectCache):
    """In the place of Ray Tune's own, which keeps one of those that come free together. leaving: nodes, by id."""

    def __init__(self, leaving: Callable[[], frozenset[str]]) -> None:
        super().__init__(may_keep_one=True)
        self._leaving = leaving
        self._node: dict[Any, str] = {}  # by the process
        self._extra: dict[Any, int] = {}  # by the resources: how many are kept beyond what Ray Tune asks for

    def seen(self, process: Any, node: str) -> None:
        """A process is on that node."""
        self._node[process] = node

    def keep(self, key: Any, count: int) -> None:
        """So many with these resources may wait for their next trial."""
        self.increase_max(key, by=count - self._extra.get(key, 0))
        self._extra[key] = count

    def keep_none(self) -> None:
        """Those that wait end."""
        for key in list(self._extra):
            self.keep(key, 0)

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Ray Tune's question whether a process waits for another trial."""
        return self._node.get(obj) not in self._leaving() and super().cache_object(key, obj)

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """Ray Tune's question at each step which of those that wait are to end."""
        if leaving := self._leaving():
            for waiting in self._cached_objects.values():
                for process in [process for process in waiting if self._node.get(process) in leaving]:
                    waiting.remove(process)
                    self._num_cached_objects -= 1
                    yield process
        yield from super().flush_cached_objects(force_all)
