"""ONNX export: uint8 images in, logits out, checked against torch."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from cifar.classifier import ImageClassifier
from cifar.predictor import CLASSES

TOLERANCE = 1e-4


def to_onnx(model: ImageClassifier, file: Path, images: torch.Tensor) -> float:
    """Writes `model` to `file` and returns the largest difference of a probability to torch's on `images`.

    images: (n, channels, height, width) uint8, n at least 2. The exported graph takes "images" of that type with any n
    and gives "logits", (n, classes) float32; its metadata names the classes. Raises ValueError where the difference is
    above 1e-4.
    """
    import onnx
    import onnxruntime

    model = model.to("cpu").eval()
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of what torch deprecates
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            model,
            (images[:2],),
            str(file),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {CLASSES: json.dumps(model.classes)})
    onnx.save(graph, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = model(images).softmax(1)
    difference = float(np.abs(torch.from_numpy(theirs).softmax(1).numpy() - ours.numpy()).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"ONNX differs from torch by {difference:.2g} in a probability, must be at most {TOLERANCE:g}")
    return difference
