"""What it costs to pause a trial at a rung and go on with it: promoting against stopping, over the same epochs.

A search of one trial, whose rungs all let it through. Stopping trains its 16 epochs in one go; promoting pauses it at
epochs 1, 2, 4 and 8, and gives it a slot again each time. The difference of the two searches' times is that of four
resumes: Ray's scheduling, the checkpoint read, and Lightning's Trainer made again in a process that is there already.
"""

import statistics
import subprocess
import tempfile
from pathlib import Path

import click
import optuna
from measuring import ROOT, command, write
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

EPOCHS, RUNGS = 16, (1, 2, 4, 8)
SETTINGS = ("search.trials=1", "search.sampler=random", "scheduler.grace_period=1", "scheduler.reduction_factor=2")


def search_seconds(mode: str, epochs: int) -> float:
    """Of one search, from its first trial's proposal to its end."""
    settings = (
        *SETTINGS,
        f"scheduler.max_epochs={epochs}",
        f"scheduler.mode={mode}",
        "retrain.epochs=1",
        "retrain.seeds=0",
    )
    with tempfile.TemporaryDirectory() as folder:
        space = ROOT / "search_spaces" / "quickstart.yaml"
        subprocess.run(command(space, Path(folder), *settings), check=True, capture_output=True)
        journal = Path(folder) / "quickstart" / "study.journal"
        study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
        (trial,) = study.trials
        passed = sum(epoch < epochs for epoch in RUNGS) if mode == "promote" else 0
        assert len(trial.intermediate_values) == epochs, "it was not trained to the end"
        assert trial.user_attrs["attempts"] == 1 + passed, "it was not resumed at each rung"
        return float(study.user_attrs["elapsed_s"])


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True, help="Searches of each kind, in turns.")
@click.option("--quick", is_flag=True, help="Two epochs, one search of each kind; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/resume_cost.json")
def main(repeats: int, quick: bool, out: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    epochs = 2 if quick else EPOCHS
    seconds: dict[str, list[float]] = {"stop": [], "promote": []}
    for _ in range(1 if quick else repeats):
        for mode, taken in seconds.items():
            taken.append(search_seconds(mode, epochs))
    resumes = sum(epoch < epochs for epoch in RUNGS)
    pairs = zip(seconds["stop"], seconds["promote"], strict=True)
    costs = [(promoted - stopped) / resumes for stopped, promoted in pairs]
    record = {
        "epochs": epochs,
        "resumes": resumes,
        "search_seconds": seconds,
        "seconds_a_resume": {"median": statistics.median(costs), "lowest": min(costs), "highest": max(costs)},
    }
    for mode, taken in seconds.items():
        click.echo(f"{mode:8} {statistics.median(taken):6.2f} s  [{min(taken):.2f}, {max(taken):.2f}]")
    click.echo(f"a resume {statistics.median(costs):6.2f} s  [{min(costs):.2f}, {max(costs):.2f}]")
    if not quick:
        write(out, record)


if __name__ == "__main__":
    main()
