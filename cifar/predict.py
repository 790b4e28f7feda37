"""`python -m cifar.predict`: classes of images, with probabilities, from a model directory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cifar.errors import DataError, UserError

if TYPE_CHECKING:
    from cifar.classifier import ImageClassifier


@click.command()
@click.option("--model", "model_dir", required=True, type=click.Path(path_type=Path), help="Directory with model.ckpt.")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="How many classes to show.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(model_dir: Path, top: int, images: tuple[Path, ...]) -> None:
    """Prints the most probable classes of each of IMAGES."""
    try:
        for image, classes in predict(model_dir, list(images), top):
            click.echo(f"{image}: " + ", ".join(f"{name} {probability:.1%}" for name, probability in classes))
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def predict(model_dir: Path, images: list[Path], top: int) -> list[tuple[Path, list[tuple[str, float]]]]:
    """For each image the `top` classes, most probable first.

    Raises UserError if the model or an image cannot be read.
    """
    checkpoint = model_dir / "model.ckpt"
    if not checkpoint.is_file():
        raise UserError(f"{model_dir} has no model.ckpt; name the model/ folder of a finished experiment")
    import torch

    from cifar.train import load

    try:
        model = load(checkpoint).eval()
    except UserError:
        raise
    except Exception as error:  # a broken file makes torch raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{checkpoint} cannot be read as a model: {reason}") from None
    batch = torch.stack([_tensor(image, model) for image in images])
    with torch.no_grad():
        probabilities = model(batch).softmax(1)
    values, labels = probabilities.topk(min(top, len(model.classes)), dim=1)
    return [
        (image, [(model.classes[label], value) for value, label in zip(*row, strict=True)])
        for image, row in zip(images, zip(values.tolist(), labels.tolist(), strict=True), strict=True)
    ]


def _tensor(image: Path, model: "ImageClassifier") -> "torch.Tensor":  # type: ignore[name-defined]  # noqa: F821
    """(channels, image_size, image_size) uint8."""
    import torch

    from cifar.image_folder import decode
    from cifar.sources import to_grey

    if not image.is_file():
        raise DataError(f"{image}: no such file")
    decoded = decode(image, model.image_size)
    if isinstance(decoded, str):
        raise DataError(f"{image} cannot be read: {decoded}")
    pixels = decoded[0]
    return torch.tensor(pixels if model.channels == 3 else to_grey(pixels[None])[0])


if __name__ == "__main__":
    main()
