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


@pytest.mark.parametrize(("upload_s", "uploads"), [(0.0, 1000 // 5), (0.5, 1000 // 25), (4.0, 1000 // 200)])
def test_uploads_of_a_large_study_leave_the_driver_its_time(monkeypatch, upload_s, uploads):
    clock = Clock(upload_s)
    monkeypatch.setattr("tune.search.time", clock)
    conductor = SimpleNamespace(overdue=list, trouble=None)
    directory = SimpleNamespace(journal="the study", publish=clock.publish)
    recorder = Recorder(conductor, directory, SimpleNamespace(publish=lambda: None), shares_gpu=False)
    while clock.now < 1100:
        recorder.on_step_begin(0, [])
        clock.now += 0.1
    assert clock.uploads == pytest.approx(uploads, abs=0.05 * uploads + 1)
    assert clock.uploads * upload_s <= 0.021 * 1000
