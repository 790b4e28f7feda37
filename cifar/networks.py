"""Networks by name: (batch, channels, height, width) float32, normalised, to (batch, classes) logits."""

import importlib
import inspect
from collections.abc import Callable
from math import prod
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.resnet import BasicBlock

from cifar.config import Size, shown_size
from cifar.errors import DownloadError, UserError
from cifar.hparams import HParams

_RESNET_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def build(hparams: HParams, classes: int, channels: int, image_size: Size) -> nn.Module:
    """The network that `hparams.network` names, for images of `image_size`, (height, width) in pixels.

    Raises UserError if a factory cannot be imported, or a parameter is set that the network does not have;
    DownloadError if its ImageNet weights cannot be had.
    """
    if hparams.pretrained and hparams.network in ("cnn", "resnet9"):
        raise UserError(f"{hparams.network} has no ImageNet weights: set pretrained: false")
    if ":" in hparams.network:
        return _from_factory(hparams, classes, channels, image_size)
    # convolutions are faster on pixels that lie channel by channel; a user's own network may not bear it
    return _named(hparams, classes, channels, image_size).to(memory_format=torch.channels_last)


def _named(hparams: HParams, classes: int, channels: int, image_size: Size) -> nn.Module:
    if hparams.network == "cnn":
        return cnn(classes, channels, image_size, hparams.width, hparams.dropout)
    if hparams.network == "resnet9":
        if min(image_size) < 8:
            raise UserError(
                f"resnet9 halves images three times: data.image_size is {shown_size(image_size)}, must be at least 8"
            )
        return resnet9(classes, channels, hparams.width, hparams.dropout)
    if hparams.network in _RESNET_BLOCKS:
        return resnet(hparams, classes, channels)
    return _from_torchvision(hparams, classes, channels)


def _wide(width: float, *channels: int) -> list[int]:
    return [max(1, round(count * width)) for count in channels]


def cnn(classes: int, channels: int, image_size: Size, width: float = 1.0, dropout: float = 0.0) -> nn.Module:
    """Four 3x3 convolutions (32, 32, pool, 64, 64, pool) and two hidden layers (512, 128)."""
    first, second, large, small = _wide(width, 32, 64, 512, 128)
    pixels = prod(side // 4 for side in image_size)  # of those pooled twice
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(second, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * pixels, large),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(large, small),
        nn.ReLU(),
        nn.Linear(small, classes),
    )


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = images + self.layers(images)
        return result


class _GlobalMax(nn.Module):
    """AdaptiveMaxPool2d(1) and Flatten, in an operator that torch 2.11 exports to ONNX too."""

    def forward(self, images: Tensor) -> Tensor:
        return images.amax(dim=(2, 3))


def _conv_block(inputs: int, outputs: int, *pool: nn.Module) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *pool)


def resnet9(classes: int, channels: int, width: float = 1.0, dropout: float = 0.0) -> nn.Module:
    """The nine-layer residual network of DAWNBench entries (Page, "How to train your ResNet", 2018)."""
    c64, c128, c256, c512 = _wide(width, 64, 128, 256, 512)
    return nn.Sequential(
        _conv_block(channels, c64),
        _conv_block(c64, c128, nn.MaxPool2d(2)),
        _Residual(_conv_block(c128, c128), _conv_block(c128, c128)),
        _conv_block(c128, c256, nn.MaxPool2d(2)),
        _conv_block(c256, c512, nn.MaxPool2d(2)),
        _Residual(_conv_block(c512, c512), _conv_block(c512, c512)),
        _GlobalMax(),
        nn.Dropout(dropout),
        nn.Linear(c512, classes),
    )


def resnet(hparams: HParams, classes: int, channels: int) -> nn.Module:
    """ResNet-18 or -34 (He et al., CVPR 2016) for small images: 3x3 stem of stride 1, no max-pooling.

    With `pretrained`, every weight that has the shape of ImageNet's is taken over; stem and head are new.
    """
    plan = _wide(hparams.width, 64, 128, 256, 512)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, plan[0], 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(plan[0]),
        "relu": nn.ReLU(inplace=True),
    }
    inputs = plan[0]
    for stage, (outputs, count) in enumerate(zip(plan, _RESNET_BLOCKS[hparams.network], strict=True)):
        blocks = []
        for block in range(count):
            stride = 2 if stage and not block else 1
            changed = stride != 1 or inputs != outputs
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            blocks.append(BasicBlock(inputs, outputs, stride, shortcut if changed else None))
            inputs = outputs
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    layers |= {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(hparams.dropout),
    }
    layers["fc"] = nn.Linear(plan[-1], classes)
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if hparams.pretrained:
        if hparams.width != 1:
            raise UserError(f"width is {hparams.width}, must be 1 with pretrained: ImageNet's weights have one width")
        _take_over(network, _imagenet(hparams.network).state_dict())
    return network


def _take_over(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies what fits; the head stays new even where ImageNet's would fit."""
    mine = network.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in mine and mine[name].shape == value.shape and not name.startswith("fc.")
    }
    network.load_state_dict({**mine, **fitting})


def _imagenet(name: str) -> nn.Module:
    try:
        model: nn.Module = get_model(name, weights="DEFAULT")
    except (URLError, OSError) as error:
        folder = torch.hub.get_dir()
        raise DownloadError(
            f"ImageNet weights of {name} are not in {folder}/checkpoints and cannot be downloaded ({error}): "
            "copy them there from a machine with a network, or set pretrained: false"
        ) from None
    return model


def _from_torchvision(hparams: HParams, classes: int, channels: int) -> nn.Module:
    """Any torchvision classifier, with a new head, and a new first convolution where the channels differ."""
    if hparams.width != 1 or hparams.dropout != 0:
        raise UserError(f"width and dropout are not for torchvision's {hparams.network}: leave them at 1 and 0")
    if hparams.pretrained:
        model = _imagenet(hparams.network)
        *_, (name, head) = [found for found in model.named_modules() if isinstance(found[1], nn.Linear | nn.Conv2d)]
        _replace(model, name, _like(head, outputs=classes))
    else:
        model = get_model(hparams.network, weights=None, num_classes=classes)
    if channels != 3:
        name, first = next(found for found in model.named_modules() if isinstance(found[1], nn.Conv2d))
        _replace(model, name, _like(first, inputs=channels))
    return model


def _like(layer: nn.Module, inputs: int | None = None, outputs: int | None = None) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs or layer.in_features, outputs or layer.out_features, bias=layer.bias is not None)
    assert isinstance(layer, nn.Conv2d)
    return nn.Conv2d(
        inputs or layer.in_channels,
        outputs or layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _from_factory(hparams: HParams, classes: int, channels: int, image_size: Size) -> nn.Module:
    """The user's own network: `factory(classes, channels, image_size)`, with width and dropout if it takes them.

    It gets a square's side as an int, and of other images (height, width).
    """
    module, _, name = hparams.network.partition(":")
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"network {hparams.network} cannot be imported: {error}") from None
    takes = inspect.signature(factory).parameters
    extra = {key: getattr(hparams, key) for key in ("width", "dropout") if key in takes}
    for key in ("width", "dropout", "pretrained"):
        default = HParams.model_fields[key].default
        if key not in extra and getattr(hparams, key) != default:
            raise UserError(f"network {hparams.network} takes no {key}: leave it at {default}")
    height, width = image_size
    network = factory(classes, channels, height if height == width else image_size, **extra)
    if not isinstance(network, nn.Module):
        raise UserError(f"network {hparams.network} gave a {type(network).__name__}, must be a torch.nn.Module")
    return network
