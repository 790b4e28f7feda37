"""Which processes wait for another trial. Ray Tune asks and tells as its controller does."""

import pytest

from tune.kept_processes import KeptProcesses

KEY = "1 CPU"


@pytest.fixture
def leaving():
    """The nodes that leave."""
    return set()


@pytest.fixture
def kept(leaving):
    """Of processes on two nodes, of which all three may wait."""
    cache = KeptProcesses(lambda: frozenset(leaving))
    for process, node in (("a", "first"), ("b", "second"), ("c", "second")):
        cache.seen(process, node)
    cache.keep(KEY, 3)
    return cache


def test_as_many_wait_as_there_is_work_for(kept):
    assert [kept.cache_object(KEY, process) for process in "abcd"] == [True, True, True, False]
    kept.keep(KEY, 1)
    assert list(kept.flush_cached_objects()) == ["a", "b"]
    assert kept.pop_cached_object(KEY) == "c"


def test_none_waits_where_a_trial_needs_the_room(kept):
    kept.cache_object(KEY, "a")
    kept.cache_object(KEY, "b")
    kept.keep_none()
    kept.increase_max("a whole GPU")
    assert list(kept.flush_cached_objects()) == ["a", "b"]


def test_those_on_a_node_that_leaves_end(kept, leaving):
    assert kept.cache_object(KEY, "a")
    assert kept.cache_object(KEY, "b")
    leaving.add("second")
    assert list(kept.flush_cached_objects()) == ["b"]
    assert not kept.cache_object(KEY, "c"), "nor does one begin to wait there"
    assert kept.num_cached_objects == 1
    assert kept.pop_cached_object(KEY) == "a"
