"""The ledger of the test set: a line for every reading, which names the model, and a seal that tells of changes.

What is chosen by test figures fits the test images by chance (Dwork et al., Science 2015, doi:10.1126/science.aaa9375):
the first reading is blind, a later one of the same experiment is not, and says so.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tune.errors import LedgerError


@dataclass(frozen=True)
class Reading:
    """One reading. model: a hash of the model's file; made_from: what that was made from; figures: what came out."""

    time: str
    model: str
    made_from: dict[str, Any]
    git_commit: str
    version: str
    accuracy: float
    images: int
    figures: dict[str, Any]


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
            raise LedgerError(f"{ledger}:{number}: {line[:60]!r} is no reading of the test set; put it back") from None
    return readings


def note(ledger: Path, reading: Reading) -> None:
    """Adds a line, which is on the disk when this returns."""
    with ledger.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(reading)) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def seal(ledger: Path, count: int) -> dict[str, Any]:
    """What `check` needs to tell later whether all lines are still there. count: of readings up to now."""
    lines = _lines(ledger)
    return {"readings": count, "lines": len(lines), "digest": _digest(lines)}


def check(ledger: Path, sealed: Mapping[str, Any]) -> None:
    """Raises LedgerError if one of the readings that were `sealed` is gone or changed."""
    lines, count = _lines(ledger), sealed.get("lines", 0)
    if count and _digest(lines[:count]) != sealed["digest"]:
        of = "the line" if count == 1 else f"one of the {count} lines"
        raise LedgerError(
            f"{ledger}: {of} that the study knows of is gone or was changed; put the file back, or add --again, which "
            "reads the test set once more and says so in the report"
        )


def readings(ledger: Path, sealed: Mapping[str, Any]) -> int:
    """How often the test set was read, by what is known. Raises LedgerError as `read`."""
    return max(len(read(ledger)), int(sealed.get("readings", 0)))


def file_hash(file: Path) -> str:
    """Of a model's file, as readings name it."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _lines(ledger: Path) -> list[bytes]:
    return ledger.read_bytes().splitlines() if ledger.exists() else []


def _digest(lines: list[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(lines), digest_size=16).hexdigest()
