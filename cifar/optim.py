"""Optimizer and learning-rate schedule from HParams."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from cifar.hparams import HParams


def make_optimizer(hparams: HParams, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The optimizer at the schedule's highest learning rate."""
    common: dict[str, Any] = {"lr": hparams.learning_rate, "weight_decay": hparams.weight_decay, "fused": True}
    if hparams.optimizer == "sgd":
        nesterov = hparams.nesterov and hparams.momentum > 0
        return optim.SGD(parameters, momentum=hparams.momentum, nesterov=nesterov, **common)
    kind = optim.Adam if hparams.optimizer == "adam" else optim.AdamW
    return kind(parameters, betas=(hparams.beta1, hparams.beta2), **common)


def make_lr_schedule(
    hparams: HParams, optimizer: optim.Optimizer, total_steps: int, steps_per_epoch: int
) -> LRScheduler | None:
    """The schedule over `total_steps` optimizer steps, to be advanced after each step; None if constant.

    one_cycle: Smith and Topin, 2018 (arXiv:1708.07120). cosine: Loshchilov and Hutter, ICLR 2017, without restarts.
    """
    peak = hparams.learning_rate
    match hparams.lr_schedule:
        case "one_cycle":
            warmup = hparams.warmup_fraction
            if warmup * total_steps == 1:  # a rise of one step, which OneCycleLR divides by the length of
                warmup *= 1 + 1e-9
            return OneCycleLR(
                optimizer,
                max_lr=peak,
                total_steps=total_steps,
                pct_start=warmup,
                div_factor=hparams.div_factor,
                final_div_factor=hparams.final_div_factor,
                cycle_momentum=False,
            )
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=peak * hparams.min_lr_fraction)
        case "step":
            return StepLR(optimizer, step_size=hparams.step_epochs * steps_per_epoch, gamma=hparams.gamma)
        case "constant":
            return None


def settings_after(
    hparams: HParams, steps: int, total_steps: int, steps_per_epoch: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The optimizer's settings and the schedule's state after `steps`, as if they had been `hparams`' from the start.

    The schedule is stepped there, since cosine's value is made from the one before: so they equal to the last digit.
    """
    optimizer = make_optimizer(hparams, [nn.Parameter(torch.zeros(()))])
    schedule = make_lr_schedule(hparams, optimizer, total_steps, steps_per_epoch)
    optimizer.step()  # changes nothing; else torch warns of a schedule ahead of its optimizer
    if schedule is not None:
        for _ in range(steps):
            schedule.step()
    settings = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    return settings, None if schedule is None else schedule.state_dict()
