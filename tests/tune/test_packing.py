import pytest

from tune.cluster import Node
from tune.packing import Pace, Packing, extremes, most_of_use, most_that_fit, worthwhile
from tune.sections import ResourcesConfig


@pytest.mark.parametrize(
    ("memory", "most"),
    [
        ([(2.0, 16.0)], 7),  # a tenth stays free
        ([(12.0, 16.0)], 1),
        ([(30.0, 16.0)], 1),
        ([(2.0, 16.0), (3.0, 12.0)], 3),
    ],
)
def test_no_more_fit_than_every_memory_allows(memory, most):
    assert most_that_fit(memory) == most


@pytest.mark.parametrize(
    ("resources", "trials", "nodes", "most"),
    [
        ({}, 64, [Node(64, 1)], 16),
        ({}, 64, [Node(6, 1)], 6),
        ({}, 64, [Node(6, 2)], 3),
        ({}, 64, [Node(64, 8), Node(16, 8)], 2),
        ({}, 5, [Node(64, 4)], 2),
        ({}, 4, [Node(64, 4)], 1),
        ({}, 64, [Node(8, 0), Node(64, 2)], 16),
        ({"max_concurrent": 3}, 64, [Node(64, 1)], 3),
        ({"max_concurrent": 1}, 64, [Node(64, 1)], 1),
        ({"cpus_per_trial": 8}, 64, [Node(16, 1)], 2),
        ({"max_gpus": 2}, 8, [Node(64, 8)], 4),
    ],
)
def test_no_more_are_tried_than_are_of_use(resources, trials, nodes, most):
    assert most_of_use(ResourcesConfig(**resources), trials, nodes) == most


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.04}, 1),
        ({1: 1.0, 2: 1.6}, 2),
        ({1: 1.0, 2: 1.6, 4: 1.62}, 2),
        ({1: 1.0, 2: 1.6, 4: 2.4, 8: 2.2}, 4),
        ({1: 1.0, 2: 0.8, 4: 0.9}, 1),
    ],
)
def test_more_at_once_must_be_faster_together(speeds, best):
    assert worthwhile(speeds) == best


def test_the_largest_and_the_smallest_of_a_space_are_among_its_extremes(experiment):
    text = """
data: {source: digits}
space:
  network:
    type: categorical
    options:
      cnn: {width: {type: float, lower: 0.25, upper: 2.0}}
      resnet18:
  batch_size: {type: int, lower: 16, upper: 96, step: 16}
  dropout: {type: categorical, options: [0.0, 0.5]}
"""
    space = experiment(text=text).space
    points = extremes(space, 0)
    found = {(point["network"], point["width"], point["batch_size"]) for point in points}
    wide = {point["width"] for point in points if point["network"] == "resnet18"}
    assert wide == {1.0}, "the default, where it is not searched"
    assert {("cnn", 0.25, 16), ("cnn", 2.0, 96), ("resnet18", 1.0, 16), ("resnet18", 1.0, 96)} == found
    assert extremes(space, 0) == points


def test_it_says_what_was_measured():
    packing = Packing(2, {1: 1.0, 2: 1.625, 4: 1.63}, Pace(0.01, ((3 * 2**30, 16 * 2**30),)), 12.4)
    assert packing.gpus == 0.5
    assert str(packing) == (
        "2 trials share a GPU: the largest takes 3.00 of 16.0 GiB, "
        "speeds 1 at once 1.00, 2 at once 1.62, 4 at once 1.63 (probed in 12 s; resources.gpus_per_trial sets it)"
    )
