"""What 1,000, 10,000 and 100,000 trials make of a study: its size, how long it takes to read and to go on with it.

The trials are those of views.py's search, played without training: 200 of them, whose lines in the journal are repeated
under other numbers. `status` reads a study as views do, `--resume` as the search does that writes to it, which then
proposes by `gp`. A journal and a database in SQLite are compared on the same 200, by what the whole search takes.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from measuring import ROOT, hardware, write
from views import SETTINGS, SPACE, played

PLAYED, PROPOSALS = 200, 20


def lengthened(journal: Path, trials: int, out: Path) -> None:
    """Repeats the trials of `journal` until there are so many."""
    lines = journal.read_bytes().splitlines(keepends=True)
    parsed = [(line, json.loads(line)) for line in lines]
    study = [line for line, log in parsed if log["op_code"] < 4]
    trial = [(line, log.get("trial_id")) for line, log in parsed if log["op_code"] >= 4]
    with out.open("wb") as file:
        file.writelines(study)
        for first in range(0, trials, PLAYED):
            for line, number in trial:
                old, new = f'"trial_id":{number},'.encode(), f'"trial_id":{(number or 0) + first},'.encode()
                file.write(line if number is None else line.replace(old, new, 1))


def read(journal: Path, trials: int) -> dict[str, float]:
    """In this process: seconds of processor time, of which this is all made."""
    from tune import spec
    from tune.open_study import levels
    from tune.sampler import make_sampler
    from tune.study import StudyRecord
    from tune.study_storage import journal_storage, read_journal

    began = time.process_time()
    assert len(read_journal(journal).trials) == trials
    status = time.process_time() - began
    experiment = spec.load(SPACE, [*SETTINGS, f"search.trials={2 * trials}", "search.sampler=gp"])
    sampler = make_sampler(experiment.search, experiment.space, levels(experiment))
    began = time.process_time()
    record = StudyRecord(journal_storage(journal), "views", sampler, maximize=True, resume=True)
    record.trials()
    resumed = time.process_time() - began
    record.propose(experiment.space)  # which fits a kernel, as every seventh part more trials does
    began = time.process_time()
    for _ in range(PROPOSALS):
        record.propose(experiment.space)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    proposal = 1000 * (time.process_time() - began) / PROPOSALS
    return {"status_s": status, "resume_s": resumed, "proposal_ms": proposal, "memory_mib": memory}


def kept(folder: Path, url: str | None) -> dict[str, float]:
    """What a study of PLAYED trials takes where it is kept."""
    began = time.monotonic()
    played(folder, PLAYED, url)
    seconds = time.monotonic() - began
    file = folder / "study.db" if url else folder / "views" / "study.journal"
    return {"ms_a_trial": 1000 * seconds / PLAYED, "bytes_a_trial": file.stat().st_size / PLAYED}


@click.command(help=__doc__)
@click.option("--trials", multiple=True, default=[1_000, 10_000, 100_000], show_default=True)
@click.option("--quick", is_flag=True, help="1,000 trials; writes nothing.")
@click.option("--journal", type=click.Path(path_type=Path), help="One study, here.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/studies.json")
def main(trials: tuple[int, ...], quick: bool, journal: Path | None, out: Path) -> None:
    if journal:
        click.echo(json.dumps(read(journal, trials[0])))
        return
    record: dict[str, Any] = {"kept": {}, "trials": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        urls = {"journal": None, "sqlite": f"sqlite:///{folder}/sqlite/study.db"}
        for kind, url in urls.items():
            (folder / kind).mkdir()
            record["kept"][kind] = told = kept(folder / kind, url)
            click.echo(f"{kind}: {told['ms_a_trial']:.3g} ms and {told['bytes_a_trial']:.0f} bytes a trial")
        for count in [1_000] if quick else trials:
            file = folder / "study.journal"
            lengthened(folder / "journal" / "views" / "study.journal", count, file)
            command = [sys.executable, __file__, "--journal", str(file), "--trials", str(count)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            size = file.stat().st_size / 1e6
            record["trials"][count] = told = {"megabytes": size, **json.loads(done.stdout)}
            click.echo(f"{count} trials: " + ", ".join(f"{key} {value:.4g}" for key, value in told.items()))
    click.echo(hardware())
    if not quick:
        write(out, record, "optuna", "sqlalchemy")


if __name__ == "__main__":
    main()
