"""How long one waits for the views of 5,000 trials: `status` against Optuna's own reading, and the report.

The search is that of the quick start, played without training: 27 epochs at most, asha with promotion in 8 slots,
curves made up. Each view is a process of its own, timed from its start to its end. Optuna's side loads the study and
names its best trial.
"""

import math
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
from measuring import ROOT, hardware, spread, write

SPACE = ROOT / "search_spaces" / "quickstart.yaml"
SETTINGS = ("search.sampler=random", "scheduler.max_epochs=27")
OPTUNA = """\
import sys, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
storage = JournalStorage(JournalFileBackend(sys.argv[1]))
study = optuna.load_study(study_name=None, storage=storage)
print(len(study.get_trials(deepcopy=False)), study.best_trial.number)
"""
SLOTS = 8


def value(rate: float, epoch: int) -> float:
    """A made-up learning curve, best near a rate of 0.01."""
    height = 0.9 - 0.1 * abs(math.log10(rate) + 2)
    return height * (1 - math.exp(-epoch / 4)) + 0.05 * random.Random(f"{rate} {epoch}").random()


def played(folder: Path, trials: int, url: str | None = None) -> None:
    """Leaves an experiment `views` that is over, with no model. url: the study's database, if it is in one."""
    from tune import experiment as experiments
    from tune import spec
    from tune.conductor import Conductor
    from tune.open_study import open_study
    from tune.trials import Report

    experiment = replace(spec.load(SPACE, [*SETTINGS, f"search.trials={trials}"]), name="views")
    directory = experiments.reserve(str(folder), "views")
    experiments.begin(directory, experiment, "python -m tune.run --name views", "f00d")
    record, _ = open_study(experiment, directory, str(folder), url, "f00d")
    conductor = Conductor(experiment, record, directory.place, lambda: SLOTS, lambda trial: None)
    at: dict[int, int] = {}
    while True:
        while (start := conductor.next()) is not None and start != "finished":
            at[start.trial.number] = start.checkpoints[0][0] if start.checkpoints else 0
            conductor.started(start.trial.number)
        if not at:
            break
        for number in list(at):
            at[number] += 1
            rate = conductor.trials[number].hparams["learning_rate"]
            stop = conductor.result(number, Report(at[number], value(rate, at[number]), float(at[number])))
            path = f"trials/{number:05d}/checkpoint_{at[number]:06d}"
            (directory.path / path).mkdir(parents=True, exist_ok=True)
            conductor.checkpointed(number, path)
            if stop or at[number] == experiment.scheduler.max_epochs:
                del at[number]
                conductor.ended(number)
    conductor.close()


def timed(*command: str) -> float:
    began = time.monotonic()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds


@click.command(help=__doc__)
@click.option("--trials", default=5000, show_default=True)
@click.option("--repeats", default=7, show_default=True, help="Of each view, in turns.")
@click.option("--quick", is_flag=True, help="50 trials, once; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/views.json")
def main(trials: int, repeats: int, quick: bool, out: Path) -> None:
    trials, repeats = (50, 1) if quick else (trials, repeats)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        played(folder, trials)
        of = ("views", "--storage", str(folder))
        commands = {
            "status": ("-m", "tune", "status", *of),
            "optuna": ("-c", OPTUNA, str(folder / "views" / "study.journal")),
            "report": ("-m", "tune", "report", *of),
        }
        runs: dict[str, list[float]] = {view: [] for view in commands}
        for _ in range(repeats):
            for view, command in commands.items():
                runs[view].append(timed(*command))
        megabytes = (folder / "views" / "report.html").stat().st_size / 1e6
    ratios = [one / other for one, other in zip(runs["status"], runs["optuna"], strict=True)]
    for view, seconds in runs.items():
        click.echo(f"{view}: {spread(seconds)} s, {trials} trials")
    click.echo(f"status / optuna {spread(ratios)}; report {megabytes:.2f} MB")
    click.echo(hardware())
    if not quick:
        write(out, {"trials": trials, "seconds": runs, "ratio": ratios, "report_mb": megabytes}, "optuna", "plotly")


if __name__ == "__main__":
    main()
