"""Sessions as people see them: a table in a terminal, elsewhere a line each."""

import io
from itertools import pairwise

import pytest
from rich.cells import cell_len
from rich.console import Console

from tune.service.sessions import Session
from tune.service.table import print_sessions

NOW = 1_767_226_500.0  # 2026-01-01 00:15 UTC
RUNNING = Session("a-1", "quickstart", "running", "/shared", "", NOW - 65, None, None, "")
FAILED = Session(
    *("b-1", "the second search of the images", "failed", "s3://a-bucket/of/experiments/with-a-long-name", ""),
    *(NOW - 900, NOW - 300, 2, "error: data.root /data/images does not exist; images belong in /data/images/train"),
)


@pytest.fixture
def printed():
    """The lines of these sessions, 80 columns wide."""

    def show(*sessions: Session, terminal: bool = True) -> list[str]:
        stream = io.StringIO()
        console = Console(file=stream, width=80, force_terminal=terminal, color_system=None, legacy_windows=False)
        print_sessions(list(sessions), NOW, console)
        return [line.rstrip() for line in stream.getvalue().splitlines()]

    return show


def columns(lines: list[str]) -> list[str]:
    """Each column of a table's first row, put together again where it was folded; its heads say where they begin."""
    heads = ("experiment", "state", "submitted", "took", "storage", "message")
    starts = [*(lines[0].index(head) for head in heads), None]
    row = lines[1:]
    return ["".join(line[begin:end].strip() for line in row) for begin, end in pairwise(starts)]


def named(name: str) -> Session:
    return Session("a-1", name, "waiting", "", "", NOW, None, None, "")


def test_a_table_keeps_to_80_columns_and_folds_rather_than_cuts(printed):
    lines = printed(FAILED)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    name, state, submitted, took, storage, message = (cell.replace(" ", "") for cell in columns(lines))
    assert (name, state, took) == ("thesecondsearchoftheimages", "failed", "10min0s")
    assert submitted == "2026-01-0100:00UTC"
    assert storage == "s3://a-bucket/of/experiments/with-a-long-name"
    assert message == FAILED.message.replace(" ", "")


def test_state_and_time_are_in_one_line_each(printed):
    first = printed(FAILED)[1]
    assert " failed " in first
    assert " 10 min 0 s " in first


def test_every_session_has_a_row_of_its_own_in_the_order_given(printed):
    lines = printed(named("one"), named("two"), named("three"))
    starts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert starts == ["experiment", "one", "two", "three"]


@pytest.mark.parametrize("name", ["köln 🚀", "犬と猫", "[red]x[/red]", "[bold]", ":dog:"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_is_shown_as_it_is(printed, name, terminal):
    line = printed(named(name), terminal=terminal)[1 if terminal else 0]
    assert line.startswith(f"{name}  " if terminal else f"{name}: state waiting; ")
    assert cell_len(line) <= 80 or not terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_in_it_steers_a_terminal(printed, terminal):
    hostile = Session("a-1", "a\x1b[2Jb", "failed", "/x\ny", "", NOW, NOW, 1, "error: \x1b]0;title\x07no")
    shown = "\n".join(printed(hostile, terminal=terminal))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "a [2Jb" in shown


def test_elsewhere_it_is_a_line_each_however_long(printed):
    lines = printed(RUNNING, FAILED, terminal=False)
    assert lines == [
        "quickstart: state running; submitted 2026-01-01 00:13 UTC; took 1 min 5 s; storage /shared",
        "the second search of the images: state failed; submitted 2026-01-01 00:00 UTC; took 10 min 0 s; "
        f"storage {FAILED.storage}; message {FAILED.message}",
    ]


def test_a_storage_that_was_not_named_is_the_clusters(printed):
    (line,) = printed(named("one"), terminal=False)
    assert line.endswith("storage the cluster's")
