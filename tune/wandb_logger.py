"""Lightning's side of W&B: a logger that hands on what a training logs, and waits for nothing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from tune.wandb_runs import Picture, Row

if TYPE_CHECKING:
    from PIL.Image import Image

    from tune.tracking import Tracking


class HandsOn(Logger):
    """Of the run `name`."""

    def __init__(self, tracking: "Tracking", name: str) -> None:
        super().__init__()
        self._tracking, self._name = tracking, name

    @property
    def name(self) -> str:
        """As in the group."""
        return self._name

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: who begins the run gives them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Values of an epoch if there is one among them, else of a step."""
        at = {} if "epoch" in metrics else {"step": float(step or 0)}
        self._tracking.tell(Row(self._name, {**at, **{name: float(value) for name, value in metrics.items()}}))

    @rank_zero_only
    def log_image(self, key: str, images: "list[Image]", step: int | None = None) -> None:
        """As Lightning's logger of W&B has it."""
        for image in images:
            self._tracking.tell(Picture(self._name, key, step or 0, image))
