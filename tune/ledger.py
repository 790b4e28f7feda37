"""The ledger of the test set: a line for every reading, which names the model, and a seal that tells of changes.

What is chosen by test figures fits the test images by chance (Dwork et al., Science 2015, doi:10.1126/science.aaa9375):
the first reading is blind, a later one of the same experiment is not, and says so.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune.errors import LedgerError
from tune.experiment import write_text

_REPAIR = "put the file back as it was, or take it away and go on with --again: the readings stay counted"


@dataclass(frozen=True)
class Reading:
    """One reading. model: a hash of the model's file; made_from: what that was made from; figures: what came out.

    Noted before it begins, without figures, so that one that was cut short is known too.
    """

    time: str
    model: str
    git_commit: str
    version: str
    accuracy: float | None = None
    images: int = 0
    made_from: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def read(ledger: Path) -> list[Reading]:
    """All readings, the first one first. Raises LedgerError where a line is none."""
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    readings = []
    for number, line in enumerate(lines, start=1):
        try:
            readings.append(Reading(**json.loads(line)))
        except (ValueError, TypeError):
            raise LedgerError(f"{ledger}:{number}: {line[:60]!r} is no reading of the test set; {_REPAIR}") from None
    return readings


def note(ledger: Path, reading: Reading) -> None:
    """Adds a line, which is on the disk when this returns."""
    _write(ledger, [*_lines(ledger), reading])


def complete(ledger: Path, reading: Reading) -> None:
    """Puts `reading` in the place of the last line, which was it without its figures."""
    _write(ledger, [*_lines(ledger)[:-1], reading])


def seal(ledger: Path, before: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What `check` needs to tell later whether all lines are still there. before: the last seal; count: of readings."""
    lines = _lines(ledger)
    return {"readings": max(count, before.get("readings", 0)), "lines": len(lines), "digest": _digest(lines)}


def holds(ledger: Path, sealed: Mapping[str, Any]) -> bool:
    """Whether all readings that were `sealed` are there, as they were."""
    lines, count = _lines(ledger), sealed.get("lines", 0)
    return not count or _digest(lines[:count]) == sealed["digest"]


def check(ledger: Path, sealed: Mapping[str, Any]) -> None:
    """Raises LedgerError if one of the readings that were `sealed` is gone or changed."""
    if not holds(ledger, sealed):
        of = "the line" if sealed["lines"] == 1 else f"one of the {sealed['lines']} lines"
        raise LedgerError(f"{ledger}: {of} that the study knows of is gone or was changed; {_REPAIR}")


def second_reading(ledger: Path, model: str) -> LedgerError:
    """The error where the test set was read, and would be again for `model`, which is to be made anew."""
    last = read(ledger)[-1:]
    trial = f" for the model of trial {last[0].made_from['trial']}" if last and last[0].made_from else ""
    of = f" on {last[0].time}{trial}" if last else ""
    return LedgerError(
        f"the test set was read{of}, and {model} is to be made anew: what is chosen after the first reading is not "
        "blind to it; to read it once more, and have the report say so, add --again"
    )


def readings(ledger: Path, sealed: Mapping[str, Any]) -> int:
    """How often the test set was read, by what is known. Raises LedgerError as `read`."""
    return max(len(read(ledger)), int(sealed.get("readings", 0)))


def file_hash(file: Path) -> str:
    """Of a model's file, as readings name it."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _write(ledger: Path, lines: list[bytes | Reading]) -> None:
    told = [json.dumps(asdict(line)) if isinstance(line, Reading) else line.decode() for line in lines]
    write_text(ledger, "".join(f"{line}\n" for line in told))


def _lines(ledger: Path) -> list[bytes]:
    return ledger.read_bytes().splitlines() if ledger.exists() else []


def _digest(lines: list[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(lines), digest_size=16).hexdigest()
