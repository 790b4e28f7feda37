import gzip
import struct

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from cifar.config import DataConfig
from cifar.errors import DataError, DownloadError
from cifar.image_folder import decode
from cifar.sources import load_training, prepare_test, resolved_root
from cifar.testset import load_test

DIGITS = DataConfig(source="digits")


def contents(images):
    return {pixels.tobytes() for pixels in images.pixels}


def test_digits_are_grey_and_named():
    data = load_training(DIGITS)
    assert data.classes == tuple("0123456789")
    assert (data.channels, data.image_size, data.validation) == (1, (8, 8), None)
    assert data.train.pixels.shape == (1437, 1, 8, 8)
    assert (data.train.pixels.dtype, data.train.labels.dtype) == (np.uint8, np.int64)
    assert (data.train.pixels.min(), data.train.pixels.max()) == (0, 255)


def test_digits_split_every_class_alike():
    data = load_training(DIGITS)
    training, test = (np.bincount(images.labels) for images in (data.train, load_test(DIGITS, data)))
    assert np.array_equal(training + test, np.bincount(load_digits().target))
    assert np.abs(test / (training + test) - 0.2).max() < 0.005


def test_digits_test_images_are_not_among_the_training_images():
    data = load_training(DIGITS)
    # The 1,797 digits hold no image twice, so that equal content would mean the same image.
    assert len(contents(data.train)) == len(data.train)
    assert not contents(data.train) & contents(load_test(DIGITS, data))


def test_digits_are_the_same_each_time():
    first, second = load_training(DIGITS), load_training(DIGITS)
    assert np.array_equal(first.train.pixels, second.train.pixels)
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(load_test(DIGITS, first).pixels, load_test(DIGITS, second).pixels)


def test_split_seed_does_not_touch_the_test_images():
    other = DataConfig(source="digits", split_seed=5, validation_fraction=0.3)
    data = load_training(DIGITS)
    assert np.array_equal(load_test(DIGITS, data).pixels, load_test(other, data).pixels)


@pytest.mark.parametrize("size", [4, 16])
def test_image_size_resizes_training_and_test_images(size):
    config = DataConfig(source="digits", image_size=size, limit=50)
    data = load_training(config)
    test = load_test(config, data)
    assert data.image_size == (size, size)
    assert data.train.pixels.shape == (50, 1, size, size)
    assert test.pixels.shape == (360, 1, size, size)
    original = load_test(DIGITS, load_training(DIGITS)).pixels[0, 0]
    expected = np.asarray(Image.fromarray(original).resize((size, size), Image.Resampling.BICUBIC))
    assert np.array_equal(test.pixels[0, 0], expected)


def test_embedded_images_of_another_shape_are_cut_as_those_of_folders_are(tmp_path):
    config = DataConfig(source="digits", image_size=[12, 8], limit=50)
    data = load_training(config)
    assert data.image_size == (12, 8)
    original = load_test(DIGITS, load_training(DIGITS)).pixels[0, 0]
    Image.fromarray(original).save(tmp_path / "digit.png")
    assert np.array_equal(load_test(config, data).pixels[0], decode(tmp_path / "digit.png", (12, 8))[0][:1])


def test_limit_keeps_the_share_of_each_class():
    whole, part = load_training(DIGITS), load_training(DataConfig(source="digits", limit=300))
    assert len(part.train) == 300
    expected = np.bincount(whole.train.labels) * 300 / len(whole.train)
    assert np.abs(np.bincount(part.train.labels) - expected).max() <= 1
    assert contents(part.train) < contents(whole.train)


def test_limit_leaves_the_test_images_alone():
    config = DataConfig(source="digits", limit=50)
    assert len(load_test(config, load_training(config))) == 360


@pytest.mark.parametrize("limit", [1437, 5000])
def test_a_limit_above_the_images_there_are_keeps_all(limit):
    assert len(load_training(DataConfig(source="digits", limit=limit)).train) == 1437


def test_a_limit_below_the_classes_is_an_error():
    with pytest.raises(DataError, match=r"data\.limit is 9, must be at least the number of classes, 10"):
        load_training(DataConfig(source="digits", limit=9))


def test_a_limit_that_leaves_out_fewer_images_than_classes_is_an_error():
    with pytest.raises(DataError, match=r"data\.limit is 1430, .* 1437 training images"):
        load_training(DataConfig(source="digits", limit=1430))


def test_statistics_are_those_of_numpy():
    data = load_training(DIGITS)
    values = data.train.pixels / 255
    assert data.mean == pytest.approx(values.mean((0, 2, 3)))
    assert data.std == pytest.approx(values.std((0, 2, 3)))


def test_statistics_are_kept_by_channel(make_folder):
    root = make_folder(train={"a": 3, "b": 3})
    for file in root.rglob("*.png"):  # channels far apart
        pixels = np.asarray(Image.open(file)) // np.array([1, 2, 4], dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    data = load_training(DataConfig(source="image_folder", root=str(root), image_size=6))
    values = data.train.pixels / 255
    assert data.mean == pytest.approx(values.mean((0, 2, 3)))
    assert data.std == pytest.approx(values.std((0, 2, 3)))
    assert data.mean[0] > 1.5 * data.mean[1] > 2 * data.mean[2]


def test_blank_images_have_a_standard_deviation_to_divide_by(make_folder):
    root = make_folder(train={"a": 1, "b": 1})
    for file in root.rglob("*.png"):
        Image.new("RGB", (6, 6), (0, 100, 255)).save(file)
    data = load_training(DataConfig(source="image_folder", root=str(root)))
    assert data.mean == pytest.approx((0, 100 / 255, 1))
    assert data.std == (1 / 255,) * 3


def test_the_fingerprint_is_of_the_content(make_folder):
    root = make_folder(train={"a": 2, "b": 2})
    config = DataConfig(source="image_folder", root=str(root), image_size=6)
    before = load_training(config).fingerprint
    (root / "train").rename(root / "elsewhere")
    (root / "elsewhere").rename(root / "train")
    assert load_training(config).fingerprint == before
    Image.new("RGB", (6, 6)).save(root / "train/a/000.png")
    assert load_training(config).fingerprint != before


def test_the_fingerprint_tells_labels_apart(make_folder):
    root = make_folder(train={"a": 2, "b": 2})
    config = DataConfig(source="image_folder", root=str(root), image_size=6)
    before = load_training(config)
    (root / "train/b/000.png").rename(root / "train/a/zzz.png")  # same pixels in the same order, another label
    after = load_training(config)
    assert np.array_equal(before.train.pixels, after.train.pixels)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "mnist", "fashion_mnist", "svhn"])
@pytest.mark.usefixtures("no_network")
def test_a_download_without_a_network_is_one_line_that_tells_what_to_do(source, tmp_path):
    root = tmp_path / "downloads"
    with pytest.raises(DownloadError) as caught:
        load_training(DataConfig(source=source, root=str(root)))
    message = str(caught.value)
    assert message.startswith(f"{source} is not in {root} and cannot be downloaded (")
    assert message.endswith(
        "copy it there from a machine with a network, name its folder with --set data.root=FOLDER, "
        "or try the embedded images with --set data.source=digits"
    )
    assert "\n" not in message


@pytest.mark.usefixtures("no_network")
def test_a_root_that_cannot_be_made_is_the_same_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=f"mnist is not in {tmp_path}/file/below"):
        load_training(DataConfig(source="mnist", root=str(tmp_path / "file" / "below")))


@pytest.mark.parametrize(("source", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
@pytest.mark.usefixtures("no_network")
def test_images_already_in_the_root_need_no_network(source, folder, tmp_path):
    random = np.random.default_rng(0)
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    pixels, labels = {}, {}
    for split, count in (("train", 40), ("t10k", 10)):  # these two are not checked against a known hash
        pixels[split] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels[split] = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", pixels[split]), ("labels-idx1", labels[split])):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            (raw / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    config = DataConfig(source=source, root=str(tmp_path))
    data = load_training(config)
    assert np.array_equal(data.train.pixels, pixels["train"][:, None])
    assert np.array_equal(data.train.labels, labels["train"])
    assert len(data.classes) == 10
    assert np.array_equal(load_test(config, data).pixels, pixels["t10k"][:, None])


def test_a_single_class_is_an_error(make_folder):
    root = make_folder(train={"cat": 3})
    with pytest.raises(DataError, match=f"{root} has one class only, 'cat'; a classifier needs two or more"):
        load_training(DataConfig(source="image_folder", root=str(root)))


def test_images_are_32_pixels_wide_unless_said_otherwise(make_folder):
    root = make_folder(train={"a": 1, "b": 1}, size=(50, 40))
    assert load_training(DataConfig(source="image_folder", root=str(root))).image_size == (32, 32)


def test_images_may_be_higher_than_wide(make_folder):
    root = make_folder(train={"a": 1, "b": 1}, test={"a": 1, "b": 1}, size=(50, 40))
    config = DataConfig(source="image_folder", root=str(root), image_size=[10, 8])
    data = load_training(config)
    assert (data.image_size, data.train.pixels.shape) == ((10, 8), (2, 3, 10, 8))
    assert load_test(config, data).pixels.shape == (2, 3, 10, 8)
    there = {"source": "image_folder", "root": str(root)}
    assert data.fingerprint != load_training(DataConfig(**there, image_size=[8, 10])).fingerprint


def test_a_folder_of_validation_images_is_used(make_folder):
    root = make_folder(train={"a": 3, "b": 3}, val={"a": 1, "b": 2})
    data = load_training(DataConfig(source="image_folder", root=str(root), image_size=6))
    assert len(data.train) == 6
    assert data.validation.pixels.shape == (3, 3, 6, 6)
    assert data.validation.labels.tolist() == [0, 1, 1]


def test_no_validation_folder_means_none(make_folder):
    root = make_folder(train={"a": 3, "b": 3})
    assert load_training(DataConfig(source="image_folder", root=str(root))).validation is None


def test_grey_test_images_become_coloured_beside_coloured_training_images(make_folder):
    root = make_folder(train={"a": 1, "b": 1}, test={"a": 1, "b": 1})
    for file in (root / "test").rglob("*.png"):
        Image.open(file).convert("L").save(file)
    config = DataConfig(source="image_folder", root=str(root), image_size=6)
    test = load_test(config, load_training(config))
    assert test.pixels.shape == (2, 3, 6, 6)
    grey = np.asarray(Image.open(root / "test/a/000.png"))
    assert (test.pixels[0] == grey).all()


def test_coloured_test_images_become_grey_beside_grey_training_images(make_folder):
    root = make_folder(train={"a": 1, "b": 1}, test={"a": 1, "b": 1})
    for file in (root / "train").rglob("*.png"):
        Image.open(file).convert("L").save(file)
    config = DataConfig(source="image_folder", root=str(root), image_size=6)
    test = load_test(config, load_training(config))
    assert test.pixels.shape == (2, 1, 6, 6)
    expected = np.asarray(Image.open(root / "test/a/000.png").convert("L")).astype(int)
    assert np.abs(test.pixels[0, 0] - expected).max() <= 1


@pytest.mark.parametrize("read", [prepare_test, load_test])
def test_a_missing_test_folder_is_found_before_and_when_it_is_read(read, make_folder):
    root = make_folder(train={"a": 1, "b": 1})
    config = DataConfig(source="image_folder", root=str(root))
    with pytest.raises(DataError, match=f"{root} has no folder test/; images belong in {root}/test/<class>/"):
        read(config, load_training(config))


def test_broken_test_images_are_found_before_any_training(make_folder):
    root = make_folder(train={"a": 1, "b": 1}, test={"a": 1, "b": 1})
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"broken")
    config = DataConfig(source="image_folder", root=str(root))
    with pytest.raises(DataError, match=r"2 of 2 files in .*/test are broken"):
        prepare_test(config, load_training(config))


def test_prepared_test_images_are_not_decoded_again(make_folder, tmp_path):
    root = make_folder(train={"a": 1, "b": 1}, test={"a": 1, "b": 1})
    config = DataConfig(source="image_folder", root=str(root))
    data = load_training(config)
    assert prepare_test(config, data) is None
    cached = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(load_test(config, data)) == 2
    assert sorted((tmp_path / "cache").rglob("*.npy")) == cached


def test_root_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert resolved_root(DataConfig(source="mnist", root="here")) == tmp_path / "here"
    assert resolved_root(DataConfig(source="mnist", root="~/there")) == tmp_path / "me/there"
    assert resolved_root(DataConfig(source="mnist")).is_absolute()


def test_an_unknown_source_is_refused():
    with pytest.raises(ValidationError, match="Input should be 'digits', 'cifar10'"):
        DataConfig(source="imagenet")
