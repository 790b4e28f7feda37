import re
from dataclasses import replace

import pytest

from tune.errors import LedgerError
from tune.ledger import Reading, check, complete, note, read, readings, seal


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "test_ledger.jsonl"


def reading(accuracy: float = 0.9, trial: int = 3) -> Reading:
    figures = {"loss": 0.3}
    return Reading("2026-11-22T10:00:00+00:00", "abc", "f00d", "1.0", accuracy, 100, {"trial": trial}, figures)


def test_readings_are_read_back_in_their_order(ledger):
    assert read(ledger) == []
    note(ledger, reading(0.8))
    note(ledger, reading(0.9))
    assert read(ledger) == [reading(0.8), reading(0.9)]
    assert ledger.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "{}", '{"time": 1}'])
def test_a_line_that_is_none_is_named(ledger, line):
    note(ledger, reading())
    with ledger.open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(LedgerError, match=rf"^{ledger}:2: '{re.escape(line)}' is no reading .*; put the file back"):
        read(ledger)


def test_nothing_is_missed_of_an_untouched_ledger(ledger):
    check(ledger, {})
    note(ledger, reading())
    check(ledger, {})
    sealed = seal(ledger, {}, 1)
    check(ledger, sealed)
    note(ledger, reading())  # a later one, whose session was killed before the seal
    check(ledger, sealed)
    assert readings(ledger, sealed) == 2


def deleted(ledger):
    ledger.unlink()


def emptied(ledger):
    ledger.write_bytes(b"")


def shortened(ledger):
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[1])


def improved(ledger):
    ledger.write_bytes(ledger.read_bytes().replace(b"0.8", b"0.9"))


@pytest.mark.parametrize("change", [deleted, emptied, shortened, improved])
def test_a_changed_ledger_is_noticed_and_what_was_read_stays_read(ledger, change):
    note(ledger, reading(0.8))
    note(ledger, reading(0.85))
    sealed = seal(ledger, {}, 2)
    change(ledger)
    with pytest.raises(LedgerError, match=rf"^{ledger}: one of the 2 lines that the study knows .* --again"):
        check(ledger, sealed)
    assert readings(ledger, sealed) == 2
    note(ledger, reading())
    again = seal(ledger, sealed, 3)
    check(ledger, again)
    assert readings(ledger, again) == 3


def test_a_reading_that_was_cut_short_is_known_and_goes_on(ledger):
    note(ledger, reading(0.8))
    begun = Reading("2026-11-22T11:00:00+00:00", "def", "f00d", "1.0", made_from={"trial": 4})
    note(ledger, begun)
    assert read(ledger) == [reading(0.8), begun]
    assert readings(ledger, {}) == 2
    complete(ledger, replace(begun, accuracy=0.9, images=10, figures={"loss": 0.2}))
    assert [line.accuracy for line in read(ledger)] == [0.8, 0.9]
