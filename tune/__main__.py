"""`python -m tune`: everything around a search."""

import sys
from pathlib import Path

import click

from cifar.errors import UserError
from tune.run import STORAGE, exit_status, on_a_cluster
from tune.run import main as run_command
from tune.serve import main as serve_command
from tune.service.commands import (
    fetch_command,
    jobs_command,
    logs_command,
    resume_command,
    stop_command,
    submit_command,
)
from tune.session import Where, run
from tune.status import STUDY, list_command, status_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Hyperparameter search for image classifiers."""


main.add_command(run_command, "run")
main.add_command(serve_command, "serve")
main.add_command(status_command)
main.add_command(list_command)
for command in (submit_command, jobs_command, logs_command, stop_command, resume_command, fetch_command):
    main.add_command(command)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable.")
def check(files: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Report every error of experiment FILES at once. Exit status 2 if there is any."""
    from tune import spec

    wrong = False
    for file in files:
        try:
            experiment = spec.load(file, overrides)
        except UserError as error:
            wrong = True
            click.echo(str(error), err=True)
        else:
            searched = [domain.key for domain in experiment.space.searched()]
            click.echo(f"{file}: ok, searches {', '.join(searched) or 'nothing'}")
    sys.exit(2 if wrong else 0)


@main.command()
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
def schema(output: Path | None) -> None:
    """Write the JSON Schema of experiment files, which editors complete them by."""
    import json

    from tune.schema import experiment_schema

    text = json.dumps(experiment_schema(), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"error: --output {output}: {error.strerror}; choose a file that can be written", err=True)
        sys.exit(2)


@main.command()
@click.argument("name")
@on_a_cluster
def retry(name: str, **where: str | None) -> None:
    """Run the failed trials of experiment NAME again, and go on to the model with what they give."""
    with exit_status():
        again = Where(**where)  # type: ignore[arg-type]
        run(None, (), name, again, "retry")


@main.command()
@click.argument("name")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.NAME=VALUE", help="Override a field; repeatable.")
@click.option("--devices", type=click.IntRange(min=1), help="Processes that train the model together.")
@on_a_cluster
def retrain(name: str, overrides: tuple[str, ...], devices: int | None, **where: str | None) -> None:
    """Make the model of experiment NAME anew: the last mile only.

    What the finalists gave before is not trained again. The test set was read by then, so that --again is needed.
    """
    from tune.resume import check_retrain

    with exit_status():
        check_retrain(overrides)
        if devices is not None:
            overrides = (*overrides, f"retrain.devices={devices}")
        run(None, overrides, name, Where(**where), "retrain")  # type: ignore[arg-type]


@main.command()
@click.argument("name")
@click.argument("trial", type=click.IntRange(min=0), required=False)
@STORAGE
@STUDY
def replay(name: str, trial: int | None, storage: str, study: str | None) -> None:
    """Train TRIAL of experiment NAME again from its record, the best one by default, and compare the curves.

    Exit status: 0 equal, or within noise; 1 different.
    """
    from rich.console import Console

    from tune import replay as replays

    with exit_status():
        told = replays.replay(name, trial, storage, lambda line: click.echo(line, err=True), study)
    replays.show(told, Console(highlight=False, emoji=False))
    sys.exit(told.verdict == "different")


@main.command("what-if")
@click.argument("name")
@click.option("--grace-period", type=click.IntRange(min=1), help="Epochs before the first comparison.")
@click.option("--reduction-factor", type=click.IntRange(min=2), help="One in so many trials passes a rung.")
@click.option("--max-epochs", type=click.IntRange(min=1), help="Length of a full training.")
@click.option("--mode", type=click.Choice(["stop", "promote"]), help="Of asha.")
@STORAGE
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Everything, trial by trial, as JSON.")
def what_if_command(name: str, storage: str, study: str | None, as_json: bool, **settings: int | str | None) -> None:
    """Replay the recorded curves of experiment NAME under other settings of asha: its cost, its stops, its best value.

    What is not given is as it was.
    """
    import json

    from rich.console import Console

    from tune import replayed, what_if

    with exit_status():
        known, told = replayed.replay_with(
            name, storage, {key: one for key, one in settings.items() if one is not None}, study
        )
    if as_json:
        click.echo(json.dumps(told.to_json(), indent=2))
    else:
        console = Console(highlight=False, emoji=False)
        what_if.show(told, known.experiment.scheduler, known.experiment.search.metric, console)


@main.command("next")
@click.argument("name")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@STORAGE
@STUDY
def next_command(name: str, output: Path | None, storage: str, study: str | None) -> None:
    """Write the experiment that might come after NAME: its file, what its trials say against it changed and marked."""
    from tune.experiment import write_text
    from tune.next_experiment import findings, next_yaml
    from tune.recorded import read_experiment

    with exit_status():
        known = read_experiment(storage, name, "next", study)
        found = findings(known)
        text = next_yaml(known, found)
        for one in found:
            click.echo(f"{one.about}: {one.evidence}; {one.suggestion}", err=True)
        if output is None:
            click.echo(text, nl=False)
            return
        try:
            write_text(output, text)
        except OSError as error:
            raise UserError(f"--output {output}: {error.strerror}; choose a file that can be written") from None


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME [NAME ...]")
@STORAGE
@STUDY
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: report.html of the experiment; comparison.html for several]",
)
def report(names: tuple[str, ...], storage: str, study: str | None, output: Path | None) -> None:
    """Write the report of experiment NAME, running or finished; of several, one that compares them.

    It is one HTML file that opens without a network.
    """
    with exit_status():
        from tune.report.command import report as write

        click.echo(write(names, storage, output, study))


@main.command()
@click.argument("name")
@STORAGE
@STUDY
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
def dashboard(name: str, storage: str, study: str | None, host: str, port: int) -> None:
    """Open optuna-dashboard on the study of experiment NAME, which may be running. Only for looking."""
    from tune.dashboard import dashboard as serve

    with exit_status():
        serve(name, storage, study, host, port)


if __name__ == "__main__":
    main(prog_name="python -m tune")
