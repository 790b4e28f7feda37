"""`python -m tune`: everything around a search."""

import sys
from pathlib import Path

import click

from cifar.errors import UserError
from tune.run import exit_status, on_a_cluster
from tune.run import main as run_command
from tune.serve import main as serve_command
from tune.session import Where, run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Hyperparameter search for image classifiers."""


main.add_command(run_command, "run")
main.add_command(serve_command, "serve")


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
@click.option("--storage", default="experiments", show_default=True, help="Folder or URI of the experiments.")
def replay(name: str, trial: int | None, storage: str) -> None:
    """Train TRIAL of experiment NAME again from its record, the best one by default, and compare the curves.

    Exit status: 0 equal, or within noise; 1 different.
    """
    from rich.console import Console

    from tune import replay as replays

    with exit_status():
        told = replays.replay(name, trial, storage, lambda line: click.echo(line, err=True))
    replays.show(told, Console(highlight=False))
    sys.exit(told.verdict == "different")


@main.command()
@click.argument("name")
@click.option("--storage", default="experiments", show_default=True, help="Folder or URI of the experiments.")
@click.option("--study", metavar="URL", help="Database of the study, where it is behind a password.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
def dashboard(name: str, storage: str, study: str | None, host: str, port: int) -> None:
    """Open optuna-dashboard on the study of experiment NAME, which may be running. Only for looking."""
    from tune.dashboard import dashboard as serve

    with exit_status():
        serve(name, storage, study, host, port)


if __name__ == "__main__":
    main(prog_name="python -m tune")
