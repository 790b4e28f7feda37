"""Where curves go: what the spec, the environment and W&B's key say together."""

import pytest

from tune.sections import TrackingConfig
from tune.tracking import resolve


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("asked", "environment", "mode"),
    [
        (None, None, None),
        (None, "offline", "offline"),
        (None, "disabled", None),
        ("off", "offline", None),
        ("offline", None, "offline"),
        ("offline", "disabled", "offline"),
    ],
)
def test_wandb_is_off_unless_the_spec_or_the_environment_asks(asked, environment, mode, monkeypatch, tmp_path):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    tracking, note = resolve(TrackingConfig(wandb=asked), "name", tmp_path)
    assert (tracking.mode, tracking.group, note) == (mode, "name", "")


def test_a_resumed_search_goes_on_in_the_same_runs(tmp_path):
    first, _ = resolve(TrackingConfig(wandb="offline"), "name", tmp_path / "first")
    assert first.token
    assert resolve(TrackingConfig(wandb="offline"), "name", tmp_path / "first")[0] == first
    assert resolve(TrackingConfig(wandb="offline"), "name", tmp_path / "second")[0].token != first.token


def test_online_without_a_key_says_offline_and_goes_on(tmp_path):
    tracking, note = resolve(TrackingConfig(wandb="online"), "name", tmp_path)
    assert tracking.mode == "offline"
    assert note == f"W&B: no API key, so runs are kept in {tmp_path}; `wandb sync` uploads them"


def test_online_with_a_key_is_online(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracking, note = resolve(TrackingConfig(wandb="online"), "name", tmp_path)
    assert (tracking.mode, note) == ("online", "")
