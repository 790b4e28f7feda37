import math

import pytest
import torch
from torch import nn

from cifar.hparams import HParams
from cifar.optim import make_lr_schedule, make_optimizer, settings_after


def rates(hparams, total_steps, steps_per_epoch=1):
    """The learning rate of each step."""
    optimizer = make_optimizer(hparams, nn.Linear(2, 2).parameters())
    schedule = make_lr_schedule(hparams, optimizer, total_steps, steps_per_epoch)
    used = []
    for _ in range(total_steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return used


@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.8), (True, 0.8)])
def test_sgd_gets_its_parameters(nesterov, momentum):
    hparams = HParams(optimizer="sgd", learning_rate=0.3, weight_decay=0.01, momentum=momentum, nesterov=nesterov)
    optimizer = make_optimizer(hparams, nn.Linear(2, 2).parameters())
    assert type(optimizer) is torch.optim.SGD
    expected = {"lr": 0.3, "weight_decay": 0.01, "momentum": momentum, "nesterov": nesterov}
    assert {key: optimizer.defaults[key] for key in expected} == expected


def test_nesterov_without_momentum_is_plain_sgd():
    optimizer = make_optimizer(HParams(nesterov=True, momentum=0.0), nn.Linear(2, 2).parameters())
    assert optimizer.defaults["nesterov"] is False


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_gets_its_parameters(name, kind):
    hparams = HParams(optimizer=name, learning_rate=0.003, weight_decay=0.02, beta1=0.8, beta2=0.95, momentum=0.5)
    optimizer = make_optimizer(hparams, nn.Linear(2, 2).parameters())
    assert type(optimizer) is kind
    expected = {"lr": 0.003, "weight_decay": 0.02, "betas": (0.8, 0.95)}
    assert {key: optimizer.defaults[key] for key in expected} == expected


def test_one_cycle_rises_to_its_peak_and_falls_along_cosines():
    hparams = HParams(learning_rate=0.4, warmup_fraction=0.25, div_factor=10.0, final_div_factor=100.0)
    used = rates(hparams, 100)
    first, last, top = 0.04, 0.0004, 24  # the peak is the last step of the first quarter

    def cosine(start, end, share):
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    rising = [cosine(first, 0.4, step / top) for step in range(top)]
    falling = [cosine(0.4, last, (step - top) / (99 - top)) for step in range(top, 100)]
    assert used == pytest.approx(rising + falling)
    assert (used[0], max(used), used[-1]) == pytest.approx((first, 0.4, last))


def test_one_cycle_leaves_momentum_alone():
    optimizer = make_optimizer(HParams(momentum=0.7), nn.Linear(2, 2).parameters())
    schedule = make_lr_schedule(HParams(momentum=0.7), optimizer, 10, 1)
    for _ in range(9):
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize(("total_steps", "warmup_fraction"), [(10, 0.1), (2, 0.5), (20, 0.05), (1, 0.3)])
def test_one_cycle_may_warm_up_in_a_single_step(total_steps, warmup_fraction):
    used = rates(HParams(learning_rate=0.4, warmup_fraction=warmup_fraction), total_steps)
    assert all(0 < rate <= 0.4 for rate in used)
    assert used[-1] == pytest.approx(0.4 / 25 / 1e4)


def test_cosine_falls_from_the_peak_to_its_share():
    used = rates(HParams(lr_schedule="cosine", learning_rate=0.2, min_lr_fraction=0.1), 50)
    expected = [0.02 + 0.18 * (1 + math.cos(math.pi * step / 50)) / 2 for step in range(50)]
    assert used == pytest.approx(expected)
    assert used[0] == 0.2


def test_step_drops_after_whole_epochs():
    hparams = HParams(lr_schedule="step", learning_rate=0.5, step_epochs=2, gamma=0.2)
    used = rates(hparams, 20, steps_per_epoch=4)
    assert used == pytest.approx([0.5 * 0.2 ** (step // 8) for step in range(20)])


def test_constant_needs_no_schedule():
    hparams = HParams(lr_schedule="constant", learning_rate=0.3)
    assert make_lr_schedule(hparams, make_optimizer(hparams, nn.Linear(2, 2).parameters()), 10, 1) is None
    assert rates(hparams, 5) == [0.3] * 5


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "cosine", "step", "constant"])
def test_settings_after_some_steps_are_those_that_the_steps_lead_to(lr_schedule):
    hparams = HParams(lr_schedule=lr_schedule, learning_rate=0.3, step_epochs=1, min_lr_fraction=0.1)
    used = rates(hparams, 20, steps_per_epoch=4)
    after = [settings_after(hparams, steps, 20, 4) for steps in range(20)]
    assert [settings["lr"] for settings, _ in after] == used
    assert [state and state["last_epoch"] for _, state in after] == (
        [None] * 20 if lr_schedule == "constant" else list(range(20))
    )
