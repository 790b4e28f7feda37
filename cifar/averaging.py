"""Averages of the weights that one training passes through, each with batch-norm statistics of its own."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from cifar.config import Average
from cifar.datamodule import Batches

HORIZON = 0.2  # of a training's steps: how far the exponential average looks back


class Averages(L.Callback):
    """The weights that a training ends with, and two averages of those that it had on the way, by name in `states`.

    raw: the last ones. swa: the equal average of those after each epoch (Izmailov et al., "Averaging Weights Leads to
    Wider Optima and Better Generalization", UAI 2018). ema: an exponential average over the steps, whose horizon is a
    fifth of them (Polyak and Juditsky, SIAM J. Control Optim. 1992; Morales-Brotons et al., "Exponential Moving
    Average of Weights in Deep Learning: Dynamics and Benefits", TMLR 2024). Running statistics of averaged weights are
    not the average of running statistics: one more pass over the training images makes them. The module ends as raw.
    """

    def __init__(self) -> None:
        self.states: dict[Average, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Both begin with the weights as they are; the equal one forgets them at its first epoch."""
        self._swa, self._ema = _copy(pl_module), _copy(pl_module)
        horizon = max(2.0, HORIZON * float(trainer.estimated_stepping_batches))
        self._update_swa = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        self._update_ema = get_ema_multi_avg_fn(1 - 1 / horizon)  # type: ignore[no-untyped-call]
        self._epochs = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each step."""
        self._update_ema(self._ema, _weights(pl_module), None)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After each epoch."""
        if self._epochs:
            self._update_swa(self._swa, _weights(pl_module), self._epochs)
        else:
            torch._foreach_copy_(self._swa, _weights(pl_module))
        self._epochs += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the statistics."""
        batches: Batches = trainer.datamodule.training_batches()  # type: ignore[attr-defined]
        self.states["raw"] = _state(pl_module)
        averages: tuple[tuple[Average, list[Tensor]], ...] = (("swa", self._swa), ("ema", self._ema))
        for name, weights in averages:
            with torch.no_grad():
                torch._foreach_copy_(_weights(pl_module), weights)
            update_bn((images for images, _ in batches), pl_module)
            self.states[name] = _state(pl_module)
            pl_module.load_state_dict(self.states["raw"])


def _weights(module: L.LightningModule) -> list[Tensor]:
    return [parameter.detach() for parameter in module.parameters()]


def _copy(module: L.LightningModule) -> list[Tensor]:
    return [weights.clone() for weights in _weights(module)]


def _state(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
