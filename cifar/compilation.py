"""torch.compile of a training's network, and what it costs."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
from torch import nn

from cifar.errors import UserError

_latest = ""  # the network that this process compiled last, layer by layer


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """Compiles `network` in place, at its first batches; what was compiled of the same layers just before serves again.

    Raises UserError where it cannot be compiled, and what ended a compilation for want of memory.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    global _latest
    layers = repr(network)
    if layers != _latest:
        torch.compiler.reset()  # of many networks Dynamo keeps few, and takes the next ones as they are
        _latest = layers
    network.compile()
    try:
        yield
    except (TorchDynamoException, InductorError, InvalidCxxCompiler, CppCompileError) as error:
        _latest = ""
        cause = getattr(error, "inner_exception", None)
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        reason = next(line for line in (*str(error).splitlines(), type(error).__name__) if line.strip())
        raise UserError(
            f"trainer.compile: the network cannot be compiled here: {reason.strip()}; "
            "leave it as it is, with --set trainer.compile=false"
        ) from error
    finally:
        network._compiled_call_impl = None  # what is done with it next, once, is not worth compiling


class CountCompiling(L.Callback):
    """Logs compile_seconds after each epoch: what the training has spent in torch.compile so far."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What was compiled before is not its own."""
        self._before = _seconds()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After training and validation; at once, since a trial that now stops gets no further."""
        seconds = _seconds() - self._before
        pl_module.log("compile_seconds", seconds, logger=False)
        for logger in trainer.loggers:
            logger.log_metrics({"compile_seconds": seconds}, trainer.global_step - 1)


def _seconds() -> float:
    """That this process has spent in torch.compile."""
    from torch._dynamo.utils import calculate_time_spent

    return calculate_time_spent()["total_wall_time"]
