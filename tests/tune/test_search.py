"""The search's record on an object store; that it runs trials is for tests/integration."""

from types import SimpleNamespace

import pytest

from tune.search import Recorder


class Clock:
    """A time that only uploads take."""

    def __init__(self, upload_s: float) -> None:
        self.now, self.upload_s, self.uploads = 100.0, upload_s, 0

    def monotonic(self) -> float:
        return self.now

    def publish(self, file: str) -> None:
        assert file == "the study"
        self.uploads += 1
        self.now += self.upload_s


def recorder_of(clock: Clock) -> Recorder:
    conductor = SimpleNamespace(overdue=list, trouble=None, ended=lambda number: None, wants=lambda: 0)
    directory = SimpleNamespace(journal="the study", publish=clock.publish)
    metrics, slots = SimpleNamespace(publish=lambda: None), SimpleNamespace(ask=lambda more: None)
    return Recorder(conductor, directory, metrics, slots, shares_gpu=False)


@pytest.mark.parametrize(("upload_s", "uploads"), [(0.0, 1000 // 5), (0.5, 1000 // 25), (4.0, 1000 // 200)])
def test_uploads_of_a_large_study_leave_the_driver_its_time(monkeypatch, upload_s, uploads):
    clock = Clock(upload_s)
    monkeypatch.setattr("tune.search.time", clock)
    recorder = recorder_of(clock)
    while clock.now < 1100:
        recorder.on_step_begin(0, [])
        clock.now += 0.1
    assert clock.uploads == pytest.approx(uploads, abs=0.05 * uploads + 1)
    assert clock.uploads * upload_s <= 0.021 * 1000


@pytest.mark.parametrize(("upload_s", "waits"), [(0.001, 0.1), (0.1, 5.0)])
def test_a_trial_that_ended_is_uploaded_as_soon_as_that_may_be(monkeypatch, upload_s, waits):
    clock = Clock(upload_s)
    monkeypatch.setattr("tune.search.time", clock)
    recorder = recorder_of(clock)
    recorder.publish()
    clock.now += 0.06
    recorder.on_trial_complete(0, [], SimpleNamespace(config={"number": 3}))
    ended = clock.now
    while clock.uploads < 2:
        recorder.on_step_begin(0, [])
        clock.now += 0.1
    assert clock.now - ended == pytest.approx(waits, abs=0.3)
