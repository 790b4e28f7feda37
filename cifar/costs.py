"""What a network costs: numbers trained, arithmetic, time."""

import time
from collections.abc import Collection
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifar.config import TrainerConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams
from cifar.train import device_of, make_classifier

_WARM_UP, _TIMED, _TIMED_AT_LEAST, _TIMED_S = 5, 50, 5, 2.0


def costs(hparams: HParams, data: ImageDataModule, config: TrainerConfig, names: Collection[str]) -> dict[str, float]:
    """Those of these that `names` holds, of the network of `hparams` for the images of `data`.

    parameters: how many numbers are trained. flops: of a forward of one image, in matrix products, convolutions and
    attention, a multiplication and an addition counted as two (torch.utils.flop_counter). inference_ms: median
    milliseconds of a forward of one image on the device of `config`, beside whatever else runs there; in float32 and
    not compiled, as cifar.predict has it.

    Draws from torch's random numbers, so before a training is seeded.
    """
    asked = {"parameters", "flops", "inference_ms"} & set(names)
    if not asked:
        return {}
    model = make_classifier(hparams.model_copy(update={"pretrained": False}), data).eval()
    image = torch.zeros(1, model.channels, *model.image_size, dtype=torch.uint8)
    found: dict[str, float] = {"parameters": model.size}
    if "flops" in asked:
        found["flops"] = flops(model, image)
    if "inference_ms" in asked:
        device = device_of(config)
        found["inference_ms"] = _milliseconds(model.to(device), image.to(device))
    return {name: found[name] for name in found if name in asked}


def flops(network: nn.Module, images: Tensor) -> int:
    """Floating-point operations of a forward of `images`, as `costs` counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return int(counter.get_total_flops())


@torch.inference_mode()
def _milliseconds(model: nn.Module, image: Tensor) -> float:
    """Of a forward, the median of 50, or of as many as 2 seconds allow, and 5 at least."""
    for _ in range(_WARM_UP):
        model(image)
    taken: list[float] = []
    began = _now(image.device)
    while len(taken) < _TIMED_AT_LEAST or (len(taken) < _TIMED and sum(taken) < _TIMED_S):
        model(image)
        began, before = _now(image.device), began
        taken.append(began - before)
    return round(1000 * median(taken), 4)


def _now(device: torch.device) -> float:
    """When all that was asked of the device is done."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter()
