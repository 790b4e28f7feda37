"""Which experiment is meant, and all of them in a table."""

import io

import pytest
from rich.console import Console

from tune import experiment as experiments
from tune.errors import ResumeError
from tune.experiment import ExperimentDir
from tune.listing import all_of, as_json, choose, print_list

FIELDS = ("search.trials=4", "scheduler.max_epochs=4", "scheduler.reduction_factor=2", "search.sampler=random")


@pytest.fixture
def began(begun, storage, monkeypatch):
    """An experiment that began at a minute past twelve, and ran so many steps."""

    def make(name: str, minute: int, steps: int = 0) -> None:
        one = begun(name, *FIELDS, slots=2).run(steps=steps)
        at = {"started": f"2026-01-01T12:{minute:02}:00+00:00", "command": "python -m tune.run --space x"}
        record = {**one.experiment.to_dict(), "provenance": at}
        experiments.to_yaml(record, storage / name / "experiment.yaml")

    return make


def printed(storage, *, terminal: bool) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_list(all_of(str(storage)), console)
    return stream.getvalue().splitlines()


def test_the_only_one_is_meant(began, storage):
    began("one", 1)
    assert choose(str(storage)) == ("one", "")


def test_of_several_the_one_that_runs_is_meant(began, storage):
    began("one", 1)
    began("two", 2)
    assert choose(str(storage)) == ("two", "the one that began last of 2 experiments; name another to see that")
    with ExperimentDir(storage / "one").locked():
        assert choose(str(storage)) == ("one", "the one that runs of 2 experiments; name another to see that")
        with ExperimentDir(storage / "two").locked():
            assert choose(str(storage))[0] == "two"


def test_one_that_was_resumed_last_began_last(began, storage):
    began("one", 1)
    began("two", 2)
    file = storage / "one" / "experiment.yaml"
    text = file.read_text() + "  resumed:\n  - started: '2026-01-02T12:00:00+00:00'\n    command: python -m tune.run\n"
    file.write_text(text)
    assert choose(str(storage))[0] == "one"


def test_there_is_none(storage):
    with pytest.raises(ResumeError, match=r"^status: no experiment has begun in .*; name another --storage, or begin"):
        choose(str(storage))
    with pytest.raises(ResumeError, match=r"^status: no experiment has begun in .*nowhere"):
        choose(str(storage / "nowhere"))
    assert all_of(str(storage / "nowhere")) == []


def test_those_that_cannot_be_read_do_not_stop_the_others(began, storage):
    began("one", 2, steps=4)
    began("two", 1)
    began("three", 3)
    (storage / "three" / "study.journal").write_text("no journal\n")
    (storage / "four").mkdir()
    (storage / "four" / "experiment.yaml").write_text("data: [\n")
    (storage / "no experiment").mkdir()
    told = all_of(str(storage))
    assert [line.name for line in told] == ["two", "one", "four", "three"]
    assert [bool(line.error) for line in told] == [False, False, True, True]
    assert choose(str(storage))[0] == "three", "which could be named to hear why"
    lines = printed(storage, terminal=False)
    assert lines[0] == "two: state interrupted; trials 0/4: 2 paused; time 0 s; began 2026-01-01 12:01 UTC"
    assert lines[1].startswith("one: state interrupted; trials 0/4: 4 paused; best 0.")
    assert lines[2].startswith(f"four: cannot be read: {storage}/four/experiment.yaml:")
    assert lines[3].startswith(f"three: cannot be read: {storage}/three/study.journal: no study can be read there")
    json_ = as_json(told)
    assert [each["name"] for each in json_] == ["two", "one", "four", "three"]
    assert (json_[1]["epochs"], "study.journal" in json_[3]["error"]) == (4, True)


def test_a_folder_with_a_plain_experiment_file_does_not_stop_the_others(began, storage, experiment):
    began("one", 1)
    (storage / "two").mkdir()
    experiments.to_yaml(experiment().to_dict(), storage / "two" / "experiment.yaml")
    told = all_of(str(storage))
    assert [line.name for line in told] == ["one", "two"]
    assert told[1].error == f"{storage}/two/experiment.yaml: is no record of a search: it has no provenance"


def test_all_fit_80_columns(began, storage):
    began("one", 1, steps=100)
    began("a-name-that-is-" + "very-" * 20 + "long", 2, steps=3)
    shown = printed(storage, terminal=True)
    assert max(map(len, shown)) <= 80
    assert shown[0].split() == ["experiment", "state", "trials", "best", "test", "time", "began"]
    for words in ("interrupted", "12:01 UTC"):
        assert words in "\n".join(shown)


def test_only_broken_ones_make_no_table(storage):
    for name in ("four", "five"):
        (storage / name).mkdir()
        (storage / name / "experiment.yaml").write_text("data: [\n")
    shown = "\n".join(printed(storage, terminal=True))
    assert shown.startswith("five: cannot be read: ")
    assert "experiment  state" not in shown
    with pytest.raises(ResumeError, match=r"^status: none of 2 experiments in .* can be read; name one to hear why$"):
        choose(str(storage))
