"""`python -m cifar.predict`: classes of images, with probabilities, from a finished model."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cifar.errors import DataError, UserError

if TYPE_CHECKING:
    from cifar.predictor import Predictor

_BATCH = 256


class _Command(click.Command):
    """With --serve among the options, `python -m tune serve` takes the place of this process."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        if "--serve" in options:
            # another process, since nothing here imports Ray or the service
            words = [word.removeprefix("--model=") for word in args if word not in {"--serve", "--model"}]
            os.execv(sys.executable, [sys.executable, "-m", "tune", "serve", *words])
        return super().parse_args(ctx, args)


@click.command(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="Folder of a model, or its .ckpt or .onnx."
)
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="How many classes to show.")
@click.option("--json", "as_json", is_flag=True, help="Every class's probability, as one JSON document.")
@click.option("--allow-code", is_flag=True, help="Run a network of your own that a checkpoint names.")
@click.option(
    "--serve", is_flag=True, expose_value=False, help="Predict over HTTP instead: `--serve --help` says more."
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
def main(model: Path, top: int, as_json: bool, allow_code: bool, images: tuple[Path, ...]) -> None:
    """Shows the most probable classes of each of IMAGES: files, folders, or - for a list of them, one a line.

    Of a folder every image below it is taken; those that cannot be read are named and left out.
    """
    try:
        began = time.perf_counter()
        from cifar.predictor import load_predictor

        predictor = load_predictor(model, allow_code=allow_code)
        loaded = time.perf_counter()
        found = predict(predictor, images)
        seconds = time.perf_counter() - loaded
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    for words in found.skipped:
        click.echo(f"left out: {words}", err=True)
    if as_json:
        click.echo(json.dumps(_document(predictor, found, loaded - began, seconds), ensure_ascii=False, indent=1))
    else:
        _print_table(predictor, found, top)
    count = len(found.probabilities)
    click.echo(
        f"{count} image{'s' * (count != 1)} in {seconds:.2f} s, {count / seconds:.0f} a second, "
        f"after {loaded - began:.1f} s to load {predictor.file.name}",
        err=True,
    )


@dataclass
class Found:
    """What was predicted. probabilities: of each image, by class in label order. skipped: in words."""

    probabilities: dict[Path, list[float]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def predict(predictor: "Predictor", images: Iterable[Path]) -> Found:
    """Probabilities for `images`, which are files, folders or - as for the command.

    Raises DataError if a file that is named is missing or cannot be read, or a folder holds no image that can be.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    found = Found()
    files = dict(_files(images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        left = iter(files)
        while batch := list(islice(left, _BATCH)):
            pixels = dict(zip(batch, pool.map(predictor.read, batch), strict=True))
            wrong = {file: words for file, words in pixels.items() if isinstance(words, str)}
            for file, words in wrong.items():
                if files[file]:
                    raise DataError(f"{file} cannot be read: {words}")
                found.skipped.append(f"{file} ({words})")
            if good := [file for file in batch if file not in wrong]:
                rows = predictor.probabilities(np.stack([pixels[file] for file in good]))
                found.probabilities |= dict(zip(good, rows.tolist(), strict=True))
    if not found.probabilities:
        raise DataError(f"no image can be read; the first: {found.skipped[0]}")
    return found


def _files(images: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each image file, and whether it was named itself."""
    from cifar.image_folder import SUFFIXES, formats

    for image in images:
        if str(image) == "-":
            names = [line for line in (line.rstrip("\r\n") for line in sys.stdin) if line]
            if not names:
                raise DataError("-: standard input holds no path; write one a line, as `find FOLDER` does")
            yield from _files(map(Path, names))
        elif image.is_dir():
            below = sorted(file for file in image.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not below:
                raise DataError(f"{image} has no image below it; known formats are {formats()}")
            yield from ((file, False) for file in below)
        elif image.is_file():
            yield image, True
        else:
            raise DataError(f"{image}: no such file")


def answer(classes: tuple[str, ...], probabilities: list[float], image: str | None = None) -> dict[str, Any]:
    """What is told of one image in JSON: its name where it has one, and its classes, the most probable first."""
    ranked = _ranked(classes, probabilities)
    name, highest = ranked[0]
    return {"image": image, "class": name, "probability": highest, "probabilities": dict(ranked)}


def _ranked(classes: tuple[str, ...], probabilities: list[float]) -> list[tuple[str, float]]:
    return sorted(zip(classes, probabilities, strict=True), key=lambda pair: -pair[1])


def _document(predictor: "Predictor", found: Found, load_seconds: float, seconds: float) -> dict[str, Any]:
    return {
        "model": str(predictor.file),
        "images": [answer(predictor.classes, values, str(file)) for file, values in found.probabilities.items()],
        "skipped": found.skipped,
        "load_seconds": round(load_seconds, 3),
        "seconds": round(seconds, 3),
    }


def _print_table(predictor: "Predictor", found: Found, top: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "class", "probability", box=None, header_style="bold", pad_edge=False)
    more = min(top, len(predictor.classes)) - 1
    if more:
        table.add_column("then")
    for file, probabilities in found.probabilities.items():
        (name, highest), *others = _ranked(predictor.classes, probabilities)[: more + 1]
        then = ", ".join(f"{other} {probability:.1%}" for other, probability in others)
        cells = [str(file), name, f"{highest:.1%}", *([then] if more else [])]
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    console = Console()
    if not console.is_terminal:  # nothing is to be cut or broken where a program reads it
        console.width = 100_000
    console.print(table)


if __name__ == "__main__":
    main()
