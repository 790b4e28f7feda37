"""Ray's Lightning callback, saying which epoch a report is of: a resumed trial does not begin with the first."""

import lightning as L
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

from cifar.config import METRICS
from tune.trials import CHECKPOINT_FILE, EPOCH


class ReportEpochs(TuneReportCheckpointCallback):
    """After each epoch, every metric and a checkpoint."""

    def __init__(self) -> None:
        super().__init__([*METRICS, EPOCH], filename=CHECKPOINT_FILE, on="train_epoch_end")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports. A trial that then stops or pauses gets no further, so its curves are brought up to date before."""
        means = {name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith("_epoch")}
        for logger in trainer.loggers:
            logger.log_metrics({**means, "epoch": trainer.current_epoch}, step=trainer.global_step - 1)
        pl_module.log(EPOCH, float(trainer.current_epoch + 1), logger=False)
        super().on_train_epoch_end(trainer, pl_module)
