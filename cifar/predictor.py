"""A finished model, from either of its files: probabilities of classes for images.

model.onnx needs neither torch nor a network of this project. Of model.ckpt only tensors and plain values are unpickled.
Neither runs code that the file brings, or names.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar.config import Size
from cifar.errors import CheckpointError, DataError, FormatError, UserError, first_line
from cifar.image_folder import SUFFIXES, decode, formats, to_size

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
        decoded = decode(image, self.image_size)
        return decoded if isinstance(decoded, str) else self._taken(decoded[0])

    def read_bytes(self, content: bytes) -> npt.NDArray[np.uint8]:
        """The pixels of an image file's content, as `read` gives them; for content of anybody's.

        Raises FormatError unless it is of a known format, and DataError if it is broken, or has more pixels than Pillow
        takes for honest.
        """
        from PIL import Image, UnidentifiedImageError

        extensions = Image.registered_extensions()
        known = sorted({extensions[suffix] for suffix in SUFFIXES})
        most = Image.MAX_IMAGE_PIXELS or float("inf")
        try:
            with Image.open(BytesIO(content), formats=known) as opened:
                if opened.width * opened.height > most:  # of which Pillow only warns, up to twice as many
                    raise DataError(f"it has {opened.width} x {opened.height} pixels, and may have {most}")
                return self._taken(to_size(opened, self.image_size)[0])
        except UnidentifiedImageError:
            raise FormatError(f"it is no image of a known format; those are {formats()}") from None
        except DataError:
            raise
        except Exception as error:  # of a broken image Pillow raises nearly anything
            raise DataError(f"it cannot be read: {type(error).__name__}: {error}") from None

    def _taken(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        from cifar.sources import to_grey

        return np.ascontiguousarray(pixels if self.channels == 3 else to_grey(pixels[None])[0])


def load_predictor(path: Path, *, allow_code: bool = False, threads: int = 0, device: str | None = None) -> Predictor:
    """From a model's folder, where model.onnx is preferred since it loads faster, or from one of its two files.

    allow_code: a checkpoint may name a network of the user's own, which is imported and called. threads: how many
    compute, in this process; 0 for what the library takes by default. device: of a checkpoint's network, a GPU by
    default where there is one. Raises UserError if there is no model, or none that can be read.
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
    if file.suffix == ".onnx":
        return _from_onnx(file, threads)
    return _from_checkpoint(file, allow_code, threads, device)


def _unreadable(file: Path, reason: object) -> UserError:
    first = first_line(reason)
    return UserError(f"{file} cannot be read as a model: {first[:200]}")


def _from_onnx(file: Path, threads: int) -> Predictor:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # its errors are told here
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
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


def _from_checkpoint(file: Path, allow_code: bool, threads: int, device: str | None) -> Predictor:
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
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    if threads:
        torch.set_num_threads(threads)

    def probabilities(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            values: npt.NDArray[np.float32] = model(torch.from_numpy(images).to(device)).softmax(1).cpu().numpy()
        return values

    return Predictor(file, tuple(model.classes), model.channels, model.image_size, probabilities)
