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
        ("online", None, "online"),
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


def test_a_folder_that_cannot_be_written_costs_wandb_only(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "wandb"
    tracking, note = resolve(TrackingConfig(wandb="offline"), "name", folder)
    assert tracking.mode is None
    assert note == f"W&B: {folder} cannot be written (Not a directory), so nothing is logged to W&B"
