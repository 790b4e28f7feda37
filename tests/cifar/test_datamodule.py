from pathlib import Path

import numpy as np
import pytest
import torch

from cifar.config import DataConfig
from cifar.datamodule import ImageDataModule, split
from cifar.errors import DataError
from cifar.sources import load_training


def drawn(batches):
    """All of an epoch's images and labels."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def multiset(images):
    return sorted(image.numpy().tobytes() for image in images)


@pytest.fixture
def folder_data(make_folder):
    def load(batch_size=4, **options):
        root = make_folder(train={"cat": 9, "dog": 9}, val={"cat": 2, "dog": 3})
        config = DataConfig(source="image_folder", root=str(root), image_size=6)
        return ImageDataModule(config, load_training(config), batch_size, **options)

    return load


def test_the_split_is_the_same_in_every_instance(make_data):
    first, second = make_data(), make_data(batch_size=7)
    assert np.array_equal(first.training, second.training)
    assert np.array_equal(first.held_out, second.held_out)


def test_the_split_is_disjoint_and_complete(make_data):
    data = make_data()
    assert sorted([*data.training, *data.held_out]) == list(range(200))
    assert (len(data.training), len(data.held_out)) == (160, 40)


def test_the_split_has_the_same_share_of_each_class(make_data, digits):
    data = make_data()
    held_out, everyone = np.bincount(digits.train.labels[data.held_out]), np.bincount(digits.train.labels)
    assert np.abs(held_out - 0.2 * everyone).max() < 1


def test_the_split_is_drawn_from_the_split_seed(digits):
    halves = [split(digits, DataConfig(source="digits", split_seed=seed))[1].tolist() for seed in (0, 0, 1)]
    assert halves[0] == halves[1] != halves[2]


def test_the_split_does_not_depend_on_the_global_seed(digits, digits_config):
    np.random.seed(1)
    first = split(digits, digits_config)[1]
    np.random.seed(2)
    assert np.array_equal(split(digits, digits_config)[1], first)


def test_a_class_too_small_to_split_is_an_error(make_folder):
    root = make_folder(train={"cat": 9, "dog": 1})
    config = DataConfig(source="image_folder", root=str(root))
    with pytest.raises(
        DataError, match=r"10 training images of 2 classes cannot be split with data\.validation_fraction 0\.1: "
    ):
        ImageDataModule(config, load_training(config), 4)


@pytest.mark.parametrize("batch_size", [1, 32, 40, 160, 1000])
def test_batches_cover_every_training_image_once(batch_size, make_data, digits):
    data = make_data(batch_size)
    batches = data.train_dataloader()
    images, labels = drawn(batches)
    assert len(batches) == len(list(batches)) == -(-160 // batch_size)
    assert (images.dtype, images.shape, labels.dtype) == (torch.uint8, (160, 1, 8, 8), torch.int64)
    assert multiset(images) == multiset(torch.from_numpy(digits.train.pixels[data.training]))


def test_images_keep_their_labels(make_data, digits):
    known = {pixels.tobytes(): label for pixels, label in zip(digits.train.pixels, digits.train.labels, strict=True)}
    images, labels = drawn(make_data().train_dataloader())
    assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_a_last_batch_of_one_image_is_left_out_of_training(make_data):
    batches = make_data(53).train_dataloader()  # 160 = 3 * 53 + 1
    assert [len(labels) for _, labels in batches] == [53, 53, 53]
    assert len(batches) == 3


def test_training_is_shuffled_anew_by_torch_s_generator(make_data):
    batches = make_data().train_dataloader()
    torch.manual_seed(3)
    first, second = drawn(batches)[1], drawn(batches)[1]
    torch.manual_seed(3)
    assert torch.equal(drawn(batches)[1], first)
    assert not torch.equal(first, second)


def test_validation_images_come_in_order(make_data, digits):
    data = make_data(7)
    images, labels = drawn(data.val_dataloader())
    assert np.array_equal(images.numpy(), digits.train.pixels[data.held_out])
    assert np.array_equal(labels.numpy(), digits.train.labels[data.held_out])


def test_test_images_come_in_order(make_data):
    images, labels = drawn(make_data().test_dataloader())
    assert images.shape == (360, 1, 8, 8)
    assert np.bincount(labels).min() >= 34


def test_a_single_test_image_is_not_left_out(make_folder):
    root = make_folder(train={"cat": 1100, "dog": 2}, test={"cat": 1024, "dog": 1}, size=(1, 1))
    config = DataConfig(source="image_folder", root=str(root), image_size=4, validation_fraction=0.5)
    data = ImageDataModule(config, load_training(config), 4)
    assert [len(labels) for _, labels in data.test_dataloader()] == [1024, 1]


def test_validation_images_of_their_own_leave_all_others_for_training(folder_data):
    data = folder_data()
    assert len(drawn(data.train_dataloader())[1]) == 18
    assert drawn(data.val_dataloader())[1].tolist() == [0, 0, 1, 1, 1]


def test_everything_trains_on_the_held_out_images_too(make_data, digits):
    images, _ = drawn(make_data(everything=True).train_dataloader())
    assert multiset(images) == multiset(torch.from_numpy(digits.train.pixels))


def test_everything_trains_on_validation_images_of_their_own_too(folder_data):
    data = folder_data(everything=True)
    images, labels = drawn(data.train_dataloader())
    own = torch.from_numpy(np.concatenate([data.data.train.pixels, data.data.validation.pixels]))
    assert multiset(images) == multiset(own)
    assert np.bincount(labels).tolist() == [11, 12]


def test_test_images_are_read_when_asked_for_and_not_before(folder_data, make_folder):
    data = folder_data()
    drawn(data.train_dataloader())
    drawn(data.val_dataloader())
    with pytest.raises(DataError, match="has no folder test/"):  # there is none, and nobody had noticed
        data.test_dataloader()
    make_folder(test={"cat": 60, "dog": 60})
    Path(data.config.root, "test/cat/000.png").write_bytes(b"")
    assert data.test_skipped == ()
    assert len(drawn(data.test_dataloader())[1]) == 119
    assert len(data.test_skipped) == 1
