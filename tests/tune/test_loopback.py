"""Which addresses only this machine reaches."""

import pytest

from tune.loopback import is_loopback


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("head", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_what_others_reach(host, ours):
    assert is_loopback(host) is ours
