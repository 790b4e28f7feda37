"""Ray's Lightning callback, saying which epoch a report is of: a resumed trial does not begin with the first.

And how long its slot was busy: training, validating and saving, not waiting for the driver.
"""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import ray
from ray import tune as ray_tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

from cifar.config import METRICS
from tune.trials import BUSY, CHECKPOINT_FILE, EPOCH, EPOCH_SECONDS, GPU_MEMORY, NODE


class ReportEpochs(TuneReportCheckpointCallback):
    """After each epoch, every metric and a checkpoint. measured: what is known of the training besides, by name."""

    def __init__(self, measured: Mapping[str, float]) -> None:
        super().__init__([*METRICS, EPOCH], filename=CHECKPOINT_FILE, on="train_epoch_end")
        self._measured, self._busy, self._since = measured, 0.0, 0.0
        self._node = ray.get_runtime_context().get_node_id()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first epoch begins."""
        _peak_memory(trainer)
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports. A trial that then stops or pauses gets no further."""
        pl_module.log(EPOCH, float(trainer.current_epoch + 1), logger=False)
        super().on_train_epoch_end(trainer, pl_module)

    def _handle(self, trainer: L.Trainer, pl_module: Any) -> None:
        """As Ray's, in between its two steps."""
        report = self._get_report_dict(trainer, pl_module)
        saved: Any = self._get_checkpoint(trainer)
        with saved as checkpoint:
            seconds = time.monotonic() - self._since
            self._busy += seconds
            spent = {BUSY: round(self._busy, 3), EPOCH_SECONDS: round(seconds, 3)}
            there = {NODE: self._node, **_peak_memory(trainer)}
            ray_tune.report({**report, **self._measured, **spent, **there}, checkpoint=checkpoint)
        self._since = time.monotonic()


def _peak_memory(trainer: L.Trainer) -> dict[str, int]:
    """The most that torch had allocated on the GPU since it was asked last; nothing without one."""
    import torch

    device = trainer.strategy.root_device
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return {GPU_MEMORY: peak}
