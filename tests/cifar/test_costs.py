import pytest
import torch
from torch import nn

from cifar.config import TrainerConfig
from cifar.costs import costs, flops
from cifar.train import make_classifier

CPU = TrainerConfig(accelerator="cpu")


def test_only_what_is_asked_for_is_measured(make_data, tiny):
    assert costs(tiny, make_data(), CPU, ["val_accuracy", "epoch_seconds"]) == {}
    assert costs(tiny, make_data(), CPU, ["val_accuracy", "flops"]).keys() == {"flops"}


def test_a_network_costs_its_parameters_arithmetic_and_time(make_data, tiny):
    names = ["parameters", "flops", "inference_ms"]
    small = costs(tiny, make_data(), CPU, names)
    large = costs(tiny.model_copy(update={"width": 1.0}), make_data(), CPU, names)
    assert small["parameters"] == make_classifier(tiny, make_data()).size
    assert small["parameters"] < large["parameters"] / 10
    assert small["flops"] < large["flops"] / 10
    assert 0 < small["inference_ms"] < 1000
    assert costs(tiny, make_data(), CPU, names[:2]) == {name: small[name] for name in names[:2]}


@pytest.mark.parametrize(("images", "expected"), [(1, 2 * 8 * 3), (5, 5 * 2 * 8 * 3)])
def test_a_multiplication_and_an_addition_are_two_operations(images, expected):
    assert flops(nn.Linear(8, 3), torch.zeros(images, 8)) == expected
