"""`python -m tune report`."""

from collections.abc import Sequence
from pathlib import Path

from tune.recorded import read_experiment
from tune.report.page import write_report

COMPARISON = Path("comparison.html")


def report(names: Sequence[str], storage: str, output: Path | None, study: str | None = None) -> str:
    """Writes the report of an experiment, or one that compares several. Returns where it is.

    study: the database of their studies, where that is behind a password. Raises what
    `tune.recorded.read_experiment` and `write_report` raise.
    """
    known = [read_experiment(storage, name, "report", study) for name in dict.fromkeys(names)]
    if len(known) > 1:
        from tune.report.compare import write_comparison

        return str(write_comparison(known, output or COMPARISON))
    file = write_report(known[0], output)
    if output is None and known[0].directory.remote is not None:
        directory = known[0].directory
        directory.publish(directory.report)
        return directory.place.child(directory.report.name).uri
    return str(file)
