import pickle

import lightning as L
import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from cifar.config import DataConfig, TrainerConfig
from cifar.datamodule import Batches, ImageDataModule
from cifar.errors import DataError, NoTestImagesError
from cifar.hparams import HParams
from cifar.sources import divided, load_training, split
from cifar.train import fit, make_classifier


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


def test_there_are_no_test_images(folder_data, make_folder):
    make_folder(test={"cat": 60, "dog": 60})
    data = folder_data()
    message = (
        "^a training has no test images: they are read once, after the search, by tune.evaluation, .*val_dataloader"
    )
    with pytest.raises(NoTestImagesError, match=message):
        data.test_dataloader()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(NoTestImagesError, match=message):
        trainer.test(make_classifier(HParams(), data), datamodule=data)


def test_images_are_given_with_their_channels_together_in_memory(folder_data):
    data = folder_data()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        images, _ = next(iter(loader))
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_trainings_in_a_process_share_the_images(make_data):
    one, other = make_data(40).train_dataloader(), make_data(20).train_dataloader()
    assert one.pixels.data_ptr() == other.pixels.data_ptr()


def test_pickled_images_are_not_copied(digits):
    buffers = []
    pickled = pickle.dumps(digits, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 5000
    again = pickle.loads(pickled, buffers=buffers)
    assert np.shares_memory(again.train.pixels, digits.train.pixels)
    assert np.array_equal(again.train.pixels, digits.train.pixels)


def test_divided_data_keep_their_split(digits, digits_config):
    apart = divided(digits, digits_config)
    other = digits_config.model_copy(update={"split_seed": 7})  # is not looked at any more
    assert [half.tolist() for half in split(apart, other)] == [half.tolist() for half in split(digits, digits_config)]


def test_alternating_flips_mirror_each_image_in_every_second_epoch(make_data, tiny):
    seen = []

    class Watching(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((trainer.current_epoch, batch[0].clone()))

    plain = {"translate": 0, "cutout": 0, "dropout": 0.0, "flip": "alternating"}
    data = make_data()
    fit(
        tiny.model_copy(update=plain),
        data,
        TrainerConfig(accelerator="cpu"),
        max_epochs=4,
        seed=1,
        callbacks=[Watching()],
    )
    originals = torch.from_numpy(data.data.train.pixels[data.training])
    mirrored = []
    for epoch in range(4):
        images = {image.numpy().tobytes() for number, batch in seen if number == epoch for image in batch}
        same = torch.tensor([image.numpy().tobytes() in images for image in originals])
        turned = torch.tensor([image.flip(2).numpy().tobytes() in images for image in originals])
        assert (same ^ turned).all()
        mirrored.append(turned)
    assert torch.equal(mirrored[0], mirrored[2])
    assert torch.equal(mirrored[0], ~mirrored[1])
    assert torch.equal(mirrored[1], mirrored[3])
    assert binomtest(int(mirrored[0].sum()), 160, 0.5).pvalue > 0.01


def test_shares_of_a_batch_make_the_batch_up(make_data):
    batches = make_data(40).training_batches()
    torch.manual_seed(3)
    whole = [labels.tolist() for _, labels in batches]
    shares = []
    for share in range(2):
        batches.part = (share, 2)
        torch.manual_seed(3)
        shares.append([labels.tolist() for _, labels in batches])
        assert len(shares[-1]) == len(batches) == len(whole)
    for batch, first, second in zip(whole, *shares, strict=True):
        assert (batch[::2], batch[1::2]) == (first, second)


def test_each_share_changes_its_images_by_chances_of_its_own(make_data):
    drawn = []
    batches = make_data(40).training_batches()
    batches.change = lambda images, indices: drawn.append(torch.rand(3).tolist()) or images
    for share in range(2):
        batches.part = (share, 2)
        torch.manual_seed(3)
        next(iter(batches))
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("count", "shares", "length"), [(160, 2, 4), (163, 2, 4), (164, 2, 5), (161, 1, 4), (162, 1, 5)]
)
def test_a_rest_that_leaves_a_share_one_image_is_left_out(count, shares, length):
    indices = torch.arange(count)
    pixels = torch.zeros(count, 2, 2, 1, dtype=torch.uint8)
    batches = Batches(pixels, indices, indices, 40, train=True, part=(0, shares))
    assert len(batches) == length
    assert len(list(batches)) == length
