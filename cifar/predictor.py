"""A finished model, from either of its files: probabilities of classes for images.

model.onnx needs neither torch nor a network of this project. Of model.ckpt only tensors and plain values are unpickled.
Neither runs code that the file brings, or names.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar.config import Size
from cifar.errors import CheckpointError, UserError
from cifar.image_folder import decode

CLASSES = "classes"  # of model.onnx's metadata: their names in label order, as JSON


@dataclass(frozen=True)
class Predictor:
    """image_size: (height, width). probabilities: of (n, channels, height, width) uint8, (n, classes) float32."""

    file: Path
    classes: tuple[str, ...]
    channels: int
    image_size: Size
    probabilities: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

    def read(self, image: Path) -> npt.NDArray[np.uint8] | str:
        """A file's pixels as the model takes them, (channels, height, width); or what is wrong with it."""
        from cifar.sources import to_grey

        decoded = decode(image, self.image_size)
        if isinstance(decoded, str):
            return decoded
        pixels = decoded[0]
        return np.ascontiguousarray(pixels if self.channels == 3 else to_grey(pixels[None])[0])


def load_predictor(path: Path, *, allow_code: bool = False) -> Predictor:
    """From a model's folder, where model.onnx is preferred since it loads faster, or from one of its two files.

    allow_code: a checkpoint may name a network of the user's own, which is imported and called. Raises UserError if
    there is no model, or none that can be read.
    """
    file = path
    if path.is_dir():
        there = [path / name for name in ("model.onnx", "model.ckpt") if (path / name).is_file()]
        if not there:
            raise UserError(f"{path} has no model.onnx and no model.ckpt; name the model/ folder of an experiment")
        file = there[0]
    if not file.is_file():
        raise UserError(f"{file}: no such file; name the model/ folder of an experiment, its model.ckpt or model.onnx")
    if file.stat().st_size == 0:
        raise _unreadable(file, "it is empty")
    return _from_onnx(file) if file.suffix == ".onnx" else _from_checkpoint(file, allow_code)


def _unreadable(file: Path, reason: object) -> UserError:
    first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    return UserError(f"{file} cannot be read as a model: {first[:200]}")


def _from_onnx(file: Path) -> Predictor:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # its errors are told here
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # of a broken file it raises many kinds
        raise _unreadable(file, error) from None
    (image, *more), (logits, *others) = session.get_inputs(), session.get_outputs()
    try:
        classes = tuple(json.loads(session.get_modelmeta().custom_metadata_map[CLASSES]))
        channels, height, width = map(int, image.shape[1:])  # none is a name
        expected = (image.name, image.type, logits.name) == ("images", "tensor(uint8)", "logits")
        if more or others or not expected or channels not in (1, 3) or len(classes) < 2:
            raise ValueError(f"it takes {image.name} of {image.type} {image.shape}")
    except (KeyError, TypeError, ValueError):
        raise _unreadable(file, "it is of another program, or of an earlier version of this one") from None

    def probabilities(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        (values,) = session.run(None, {"images": images})
        powers = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)

    return Predictor(file, classes, channels, (height, width), probabilities)


def _from_checkpoint(file: Path, allow_code: bool) -> Predictor:
    import torch

    from cifar.checkpoint import read_file
    from cifar.train import from_checkpoint

    try:
        content: Any = read_file(file)
    except CheckpointError as error:
        raise _unreadable(file, error.reason) from None
    try:
        network = str(content["hyper_parameters"]["hparams"]["network"])
        if ":" in network and not allow_code:
            raise UserError(
                f"{file} needs the network {network}, which is code outside of this program: where you trust both, "
                "run it with --allow-code"
            )
        model = from_checkpoint(content).eval()
    except UserError:
        raise
    except Exception:  # what is missing or of another shape
        raise _unreadable(file, "it is of another program, or of another version of this one") from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)

    def probabilities(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            values: npt.NDArray[np.float32] = model(torch.from_numpy(images).to(device)).softmax(1).cpu().numpy()
        return values

    return Predictor(file, tuple(model.classes), model.channels, model.image_size, probabilities)
