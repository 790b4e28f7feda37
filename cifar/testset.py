"""The door to the test images. Only tune.evaluation opens it, which import-linter holds."""

import numpy as np

from cifar.config import DataConfig
from cifar.datamodule import Batches, ImageDataModule
from cifar.sources import Images, TrainingData, matched, read


def load_test(config: DataConfig, like: TrainingData) -> Images:
    """The test images, with the classes and channels of the training images.

    Raises DataError if they are missing, or lack a class.
    """
    return matched(read(config, "test", like.classes)[0], like.channels)


class EvaluationDataModule(ImageDataModule):
    """The images of one test. Reads them when it is made; raises DataError as `load_test`."""

    def __init__(self, config: DataConfig, data: TrainingData, batch_size: int) -> None:
        super().__init__(config, data, batch_size)
        self.test = load_test(config, data)

    def test_dataloader(self) -> Batches:
        """The test images, in order."""
        return self.batches(self.test, np.arange(len(self.test)), self.large, train=False)
