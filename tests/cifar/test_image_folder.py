import os
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cifar.config import DataConfig
from cifar.errors import DataError
from cifar.image_folder import decode, read_split
from cifar.sources import load_training
from cifar.testset import load_test

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode="RGB", size=(16, 8)):
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def decoded(image, tmp_path, size=(8, 8), name="image.png", **options):
    image.save(tmp_path / name, **options)
    return decode(tmp_path / name, size)


def overwrite_unnoticed(file):
    """Breaks the file, leaving size and time as they were."""
    stat = file.stat()
    file.write_bytes(b"x" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("image.png", {}, 0),
        ("image.bmp", {}, 0),
        ("image.webp", {"lossless": True}, 0),
        ("image.webp", {"quality": 95}, 12),
        ("image.jpg", {"quality": 95}, 12),
        ("image.JPEG", {"quality": 95}, 12),
    ],
)
def test_every_format_is_decoded(name, options, tolerance, tmp_path):
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    pixels, grey = decoded(image, tmp_path, name=name, **options)
    assert (pixels.shape, pixels.dtype, grey) == ((3, 8, 8), np.uint8, False)
    assert np.abs(pixels.astype(int) - np.asarray(image).transpose(2, 0, 1)).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_images_are_known_as_grey(mode, tmp_path):
    image = Image.new("L", (8, 8), 255)
    image.paste(0, (0, 0, 4, 8))
    pixels, grey = decoded(image.convert(mode), tmp_path)
    assert grey is True
    assert (pixels == np.asarray(image)).all()


def test_a_grey_jpeg_is_grey(tmp_path):
    assert decoded(Image.new("L", (8, 8), 90), tmp_path, name="grey.jpg")[1] is True


def test_a_palette_is_looked_up(tmp_path):
    pixels, grey = decoded(halves(size=(8, 8)).quantize(4), tmp_path)
    assert grey is False
    assert pixels[:, 0, 0].tolist() == list(RED)
    assert pixels[:, 0, 7].tolist() == list(BLUE)


def test_transparency_is_dropped(tmp_path):
    image = halves("RGBA", (8, 8))
    image.putalpha(Image.linear_gradient("L").resize((8, 8)))
    pixels, _ = decoded(image, tmp_path)
    assert np.array_equal(pixels, np.asarray(halves(size=(8, 8))).transpose(2, 0, 1))


def test_a_transparent_palette_is_looked_up_without_a_warning(tmp_path):
    pixels, _ = decoded(halves(size=(8, 8)).quantize(4), tmp_path, transparency=bytes([0, 128, 255, 255]))
    assert pixels[:, 0, 0].tolist() == list(RED)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels, grey = decoded(Image.fromarray(values), tmp_path)
    assert grey is True
    assert (pixels == (values >> 8)).all()


@pytest.mark.parametrize("size", [(8, 8), (4, 9), (9, 4), (1024, 4)])
@pytest.mark.parametrize(("width", "height"), [(20, 8), (8, 20), (1, 1), (3, 50), (301, 200)])
def test_any_shape_becomes_the_one_asked_for(width, height, size, tmp_path):
    pixels, _ = decoded(Image.new("RGB", (width, height), (10, 20, 30)), tmp_path, size)
    assert pixels.shape == (3, *size)
    assert (pixels == np.array([10, 20, 30])[:, None, None]).all()


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (8, 4), (16, 12)])
def test_the_middle_is_kept(size, tmp_path):
    image = Image.new("RGB", (24, 8), RED)
    image.paste(BLUE, (8, 0, 16, 8))
    pixels, _ = decoded(image, tmp_path, size)
    assert (pixels[:, :, 1:-1] == np.array(BLUE)[:, None, None]).all()


def test_an_image_keeps_its_proportions(tmp_path):
    image = Image.new("RGB", (40, 40), RED)
    image.paste(BLUE, (10, 10, 30, 30))  # a square, of half the side
    pixels, _ = decoded(image, tmp_path, size=(8, 16))
    blue = pixels[2] > 128
    assert (blue.any(0).sum(), blue.any(1).sum()) == (8, 8)  # 16 pixels wide, so its height of 16 is cut to 8


@pytest.mark.parametrize(("orientation", "red_side"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_exif_rotation_is_applied(orientation, red_side, name, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, _ = decoded(halves(size=(8, 8)), tmp_path, name=name, exif=exif)
    redness = pixels[0].astype(int) - pixels[2]
    sides = {"left": redness[:, 0], "right": redness[:, -1], "top": redness[0], "bottom": redness[-1]}
    assert sides[red_side].min() > 200


def test_a_broken_image_is_described_by_its_name(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"no image")
    assert decode(tmp_path / "cat.png", (8, 8)) == "UnidentifiedImageError: cannot identify image file 'cat.png'"


def test_a_truncated_image_is_broken(tmp_path):
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "JPEG")
    (tmp_path / "cat.jpg").write_bytes(whole.getvalue()[:1000])
    assert "truncated" in decode(tmp_path / "cat.jpg", (8, 8))


def test_classes_are_sorted_and_images_labelled(make_folder):
    root = make_folder(train={"zebra": 1, "ant": 2, "cat": 1})
    pixels, labels, classes, skipped = read_split(root, "train", (6, 6), None)
    assert classes == ("ant", "cat", "zebra")
    assert labels.tolist() == [0, 0, 1, 2]
    assert skipped == ()
    assert np.array_equal(pixels[3], np.asarray(Image.open(root / "train/zebra/000.png")).transpose(2, 0, 1))


def test_folders_below_a_class_belong_to_it(make_folder):
    root = make_folder(train={"cat": 1, "dog": 1})
    (root / "train/cat/old/black").mkdir(parents=True)
    halves().save(root / "train/cat/old/black/1.png")
    assert read_split(root, "train", (6, 6), None)[1].tolist() == [0, 0, 1]


def test_other_files_and_hidden_folders_are_passed_over(make_folder):
    root = make_folder(train={"cat": 1, "dog": 1})
    (root / "train/.git").mkdir()
    (root / "train/notes.txt").write_text("mine")
    (root / "train/cat/Thumbs.db").write_text("theirs")
    (root / "train/cat/album.png").mkdir()
    pixels, _, classes, skipped = read_split(root, "train", (6, 6), None)
    assert (len(pixels), classes, skipped) == (2, ("cat", "dog"), ())


@pytest.mark.parametrize(("grey_of_three", "channels"), [(3, 1), (2, 3)])
def test_one_channel_where_every_image_is_grey(grey_of_three, channels, make_folder):
    root = make_folder(train={"cat": 2, "dog": 1})
    for file in sorted(root.rglob("*.png"))[:grey_of_three]:
        Image.open(file).convert("L").save(file)
    assert read_split(root, "train", (6, 6), None)[0].shape == (3, channels, 6, 6)


def test_images_are_decoded_once(make_folder):
    root = make_folder(train={"cat": 3, "dog": 3})
    first = read_split(root, "train", (6, 6), None)
    for file in root.rglob("*.png"):
        overwrite_unnoticed(file)
    second = read_split(root, "train", (6, 6), None)
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert second[3] == ()


def test_files_written_again_with_the_same_content_are_not_decoded_again(make_folder, image_cache):
    root = make_folder(train={"cat": 2, "dog": 2})
    read_split(root, "train", (6, 6), None)
    for file in root.rglob("*.png"):
        os.utime(file, ns=(1, 1))
    read_split(root, "train", (6, 6), None)
    assert len(list(image_cache.rglob("pixels.npy"))) == 1


def test_a_changed_file_is_noticed(make_folder):
    root = make_folder(train={"cat": 2, "dog": 2})
    before = read_split(root, "train", (6, 6), None)[0]
    Image.new("RGB", (6, 6), BLUE).save(root / "train/cat/001.png")
    after = read_split(root, "train", (6, 6), None)[0]
    assert (after[1] == np.array(BLUE)[:, None, None]).all()
    assert np.array_equal(after[[0, 2, 3]], before[[0, 2, 3]])


def test_a_file_come_or_gone_is_noticed(make_folder):
    root = make_folder(train={"cat": 2, "dog": 2})
    read_split(root, "train", (6, 6), None)
    halves().save(root / "train/cat/new.png")
    assert len(read_split(root, "train", (6, 6), None)[0]) == 5
    (root / "train/cat/new.png").unlink()
    assert len(read_split(root, "train", (6, 6), None)[0]) == 4


def test_sizes_are_cached_apart(make_folder):
    root = make_folder(train={"cat": 1, "dog": 1})
    sizes = [(4, 4), (6, 6), (4, 6), (6, 4), (4, 4)]
    assert [read_split(root, "train", size, None)[0].shape[2:] for size in sizes] == sizes


def test_few_broken_images_are_named_and_left_out(make_folder):
    root = make_folder(train={"cat": 60, "dog": 60}, size=(1, 1))
    (root / "train/dog/007.png").write_bytes(b"no image")
    for _ in range(2):  # the second is answered by the cache
        pixels, labels, _, skipped = read_split(root, "train", (4, 4), None)
        assert (len(pixels), np.bincount(labels).tolist()) == (119, [60, 59])
        assert skipped == ("train/dog/007.png (UnidentifiedImageError: cannot identify image file '007.png')",)


def test_broken_images_are_counted_in_what_is_loaded(make_folder):
    root = make_folder(train={"cat": 60, "dog": 60}, test={"cat": 60, "dog": 60}, size=(1, 1))
    (root / "train/dog/007.png").write_bytes(b"")
    (root / "test/cat/003.png").write_bytes(b"")
    config = DataConfig(source="image_folder", root=str(root), image_size=4)
    data = load_training(config)
    assert [name.split()[0] for name in data.train.skipped] == ["train/dog/007.png"]
    assert [name.split()[0] for name in load_test(config, data).skipped] == ["test/cat/003.png"]


def test_a_link_to_nowhere_is_a_broken_image(make_folder):
    root = make_folder(train={"cat": 60, "dog": 60}, size=(1, 1))
    (root / "train/cat/lost.png").symlink_to(root / "nowhere.png")
    pixels, _, _, skipped = read_split(root, "train", (4, 4), None)
    assert len(pixels) == 120
    assert [name.split(" (")[0] for name in skipped] == ["train/cat/lost.png"]


def test_more_than_one_in_a_hundred_broken_is_an_error(make_folder):
    root = make_folder(train={"cat": 60, "dog": 60}, size=(1, 1))
    for number in range(5):
        (root / f"train/cat/{number:03}.png").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"5 of 120 files in .*/train are broken, more than 1%: train/cat/000\.png .*; …$"
    ):
        read_split(root, "train", (4, 4), None)


def test_a_missing_root_is_an_error(tmp_path):
    root = tmp_path / "nowhere"
    with pytest.raises(DataError, match=rf"data\.root {root} does not exist; images belong in {root}/train/<class>/"):
        read_split(root, "train", (8, 8), None)


def test_a_root_without_the_split_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match=rf"{tmp_path} has no folder train/; images belong in {tmp_path}/train/<class>/"
    ):
        read_split(tmp_path, "train", (8, 8), None)


def test_an_empty_split_is_an_error(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"train is empty; images belong in .*, in bmp, jpeg, jpg, png, webp"):
        read_split(tmp_path, "train", (8, 8), None)


def test_an_empty_class_is_an_error(make_folder):
    root = make_folder(train={"cat": 1, "dog": 0})
    with pytest.raises(DataError, match=r"train has no image of the class 'dog'; images belong in"):
        read_split(root, "train", (8, 8), None)


def test_a_class_missing_in_the_test_split_is_an_error(make_folder):
    root = make_folder(train={"cat": 1, "dog": 1}, test={"cat": 1})
    with pytest.raises(DataError, match=rf"{root}/test has no image of the class 'dog'"):
        read_split(root, "test", (8, 8), ("cat", "dog"))


def test_a_class_of_the_test_split_alone_is_an_error(make_folder):
    root = make_folder(train={"cat": 1, "dog": 1}, test={"cat": 1, "dog": 1, "emu": 1})
    with pytest.raises(DataError, match=rf"{root}/test has the class 'emu', which {root}/train lacks"):
        read_split(root, "test", (8, 8), ("cat", "dog"))


def test_a_cache_that_cannot_be_written_is_an_error(make_folder, tmp_path, monkeypatch):
    root = make_folder(train={"cat": 1, "dog": 1})
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIFAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=rf"cannot be cached in {tmp_path}/file/images .*; set CIFAR_CACHE to a folder"):
        read_split(root, "train", (8, 8), None)
