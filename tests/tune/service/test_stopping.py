"""How a stopped search ended."""

import pytest

from tune.service.stopping import how


@pytest.mark.parametrize(
    ("log", "told", "resumable"),
    [
        ("…\ninterrupted; nothing that was recorded is lost. To go on:\n  python …\n", "stopped; all epochs", True),
        ("interrupted before anything was begun\n", "stopped before anything was begun", False),
        ("[1/4] trial 0 completed\n", "ended before it could say how", True),
    ],
)
def test_what_a_search_said_last_tells_how_it_ended(log, told, resumable):
    words, can = how(log)
    assert words.startswith(told)
    assert can is resumable
