from pathlib import Path

import numpy as np
import pytest
import torch

from cifar.config import DataConfig
from cifar.errors import DataError
from cifar.sources import load_training
from cifar.testset import EvaluationDataModule


def drawn(batches):
    """All images and labels."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_test_images_come_in_order(digits, digits_config):
    data = EvaluationDataModule(digits_config, digits, 16)
    images, labels = drawn(data.test_dataloader())
    assert images.shape == (360, 1, 8, 8)
    assert np.array_equal(images.numpy(), data.test.pixels)
    assert np.array_equal(labels.numpy(), data.test.labels)
    assert np.bincount(labels).min() >= 34


def test_a_single_test_image_is_not_left_out(make_folder):
    root = make_folder(train={"cat": 1100, "dog": 2}, test={"cat": 1024, "dog": 1}, size=(1, 1))
    config = DataConfig(source="image_folder", root=str(root), image_size=4, validation_fraction=0.5)
    data = EvaluationDataModule(config, load_training(config), 4)
    assert [len(labels) for _, labels in data.test_dataloader()] == [1024, 1]


def test_missing_images_are_told_and_broken_ones_left_out(make_folder):
    root = make_folder(train={"cat": 9, "dog": 9})
    config = DataConfig(source="image_folder", root=str(root), image_size=6)
    images = load_training(config)
    with pytest.raises(DataError, match="has no folder test/"):
        EvaluationDataModule(config, images, 4)
    make_folder(test={"cat": 60, "dog": 60})
    Path(root, "test/cat/000.png").write_bytes(b"")
    data = EvaluationDataModule(config, images, 4)
    assert len(drawn(data.test_dataloader())[1]) == 119
    assert len(data.test.skipped) == 1
