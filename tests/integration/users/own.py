"""Networks of "the user's own": tests copy this file to the folder that they call commands in."""

import os
import time
from pathlib import Path

import torch
from torch import nn


def linear(classes, channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


def broken(classes, channels, image_size, width):
    raise ValueError("this network was never finished")


class Exploding(nn.Module):
    """Gives NaN from its third training epoch on: 10 batches of at most 128 digits an epoch."""

    def __init__(self, classes, channels, image_size):
        super().__init__()
        self.net = linear(classes, channels, image_size)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        return self.net(images) * (float("nan") if self.steps > 20 else 1.0)


def first_only(classes, channels, image_size, width):
    """Raises for the second to the fourth network built."""
    calls = Path(__file__).with_name("calls")
    with calls.open("a") as file:
        file.write("x")
    if 1 < calls.stat().st_size <= 4:
        raise ValueError("no luck")
    return linear(classes, channels, image_size)


class Unexportable(nn.Module):
    """Branches on a value, which no graph can express."""

    def __init__(self, classes, channels, image_size):
        super().__init__()
        self.net = linear(classes, channels, image_size)

    def forward(self, images):
        return self.net(images) * (1.0 if float(images.sum()) > 0 else 2.0)


def unexportable(classes, channels, image_size, width):
    return Unexportable(classes, channels, image_size)


class Spare(nn.Module):
    """Has weights that no output depends on."""

    def __init__(self, classes, channels, image_size):
        super().__init__()
        self.net = linear(classes, channels, image_size)
        self.spare = nn.Linear(2, 2)

    def forward(self, images):
        return self.net(images)


def spare(classes, channels, image_size, width):
    return Spare(classes, channels, image_size)


def exploding(classes, channels, image_size, width):
    return (Exploding if width > 1 else linear)(classes, channels, image_size)


class Hungry(Exploding):
    """Has no memory left in its second epoch."""

    def forward(self, images):
        self.steps += self.training
        if self.steps > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.net(images)


def hungry(classes, channels, image_size, width):
    return (Hungry if width > 1 else linear)(classes, channels, image_size)


class Modest(Exploding):
    """As Hungry, with memory enough."""

    def forward(self, images):
        return self.net(images)


def crowded(classes, channels, image_size, width):
    """Has memory for all of its epochs on a GPU of its own only."""
    import ray

    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    with Path(__file__).with_name("shares").open("a") as file:
        print(width, share, file=file)
    return (Hungry if width > 1 and share < 1 else Modest)(classes, channels, image_size)


class Slow(Modest):
    """Half a second or more an epoch of ten batches, in which the processor has nothing to do."""

    def forward(self, images):
        time.sleep(0.05 * self.training)
        return super().forward(images)


def slow(classes, channels, image_size, width):
    return Slow(classes, channels, image_size)


class Hanging(Exploding):
    """The first of its kind says nothing more after its second epoch."""

    def forward(self, images):
        self.steps += self.training
        hung = Path(__file__).with_name("hung")
        if self.steps > 20 and not hung.exists():
            hung.touch()
            time.sleep(3600)
        return self.net(images)


def hanging(classes, channels, image_size, width):
    return Hanging(classes, channels, image_size)


def noted(classes, channels, image_size):
    """Writes down which process builds it, and the memory that is that process's own, in KiB."""
    memory = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    own = int(memory["Anonymous"].split()[0])
    with Path(__file__).with_name("noted").open("a") as file:
        print(os.getpid(), own, file=file)
    layers = [nn.Conv2d(channels, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16 * (image_size - 2) ** 2, classes))
