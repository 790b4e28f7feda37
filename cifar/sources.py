"""Named image sources: uint8 arrays, labels and class names, with the test split behind a door of its own.

Arrays are NumPy's, so that preparing data needs no torch where the source itself does not.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from cifar.config import DataConfig, Size
from cifar.errors import DataError, DownloadError
from cifar.image_folder import fitted, read_split

Split = Literal["train", "val", "test"]
Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]  # (k,)

# Published mean and standard deviation of the 50,000 training images, as shares of 255.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
DIGITS_TEST_SHARE, DIGITS_TEST_SEED = 0.2, 0
FOLDER_SIZE: Size = (32, 32)  # unless data.image_size says otherwise


@dataclass(frozen=True, eq=False)
class Images:
    """pixels: (n, channels, height, width) uint8; labels: (n,) int64, indices into the class names.

    In memory a pixel's channels lie together, so that a batch is cut and normalised without moving them.
    """

    pixels: Pixels
    labels: Labels
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        last = np.ascontiguousarray(np.asarray(self.pixels).transpose(0, 2, 3, 1))
        object.__setattr__(self, "pixels", last.transpose(0, 3, 1, 2))

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> Any:
        """Pickled as they lie in memory, so that Ray's processes on a node share one copy."""
        return _from_memory, (self.pixels.transpose(0, 2, 3, 1), self.labels, self.skipped)

    def take(self, indices: Indices) -> "Images":
        """The images at `indices`, copied."""
        return Images(self.pixels[indices], self.labels[indices], self.skipped)


def _from_memory(pixels: Pixels, labels: Labels, skipped: tuple[str, ...]) -> Images:
    return Images(pixels.transpose(0, 3, 1, 2), labels, skipped)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Everything a trial may see. mean, std: one per channel, of values in [0, 1].

    halves: indices into `train` of the images trained on and of those held out, once `divided` has drawn them.
    """

    train: Images
    validation: Images | None  # None: the source has no split of its own
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str  # of the training images' content
    halves: tuple[Indices, Indices] | None = None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Broken image files left out, each with the reason."""
        return self.train.skipped + (self.validation.skipped if self.validation else ())

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return int(self.train.pixels.shape[1])

    @property
    def image_size(self) -> Size:
        """(height, width) in pixels."""
        _, _, height, width = self.train.pixels.shape
        return height, width


def load_training(config: DataConfig) -> TrainingData:
    """The training images, and the validation images where the source has its own.

    Downloads or decodes what is not there yet, once, with progress shown. Raises DataError if that fails.
    """
    train, classes = read(config, "train", None)
    if len(classes) < 2:
        raise DataError(f"{_where(config)} has one class only, {classes[0]!r}; a classifier needs two or more")
    if config.limit is not None and config.limit < len(train):
        train = _limited(train, config.limit, len(classes))
    validation = None
    if config.source == "image_folder" and (resolved_root(config) / "val").is_dir():
        validation = matched(read(config, "val", classes)[0], train.pixels.shape[1])
    mean, std = (CIFAR10_MEAN, CIFAR10_STD) if config.source == "cifar10" else _statistics(train.pixels)
    return TrainingData(train, validation, classes, mean, std, _fingerprint(train))


def divided(data: TrainingData, config: DataConfig) -> TrainingData:
    """`data` with its halves, so that no process that trains on it draws them again. Raises DataError as `split`."""
    return replace(data, halves=split(data, config))


def split(data: TrainingData, config: DataConfig) -> tuple[Indices, Indices]:
    """Indices of the images trained on, and of those held out for validation, the same share of each class.

    Depends on the labels and `config.split_seed` alone. Raises DataError where a class is too small to be split.
    """
    if data.halves is not None:
        return data.halves
    everyone = np.arange(len(data.train), dtype=np.int64)
    if data.validation is not None:
        return everyone, everyone[:0]
    from sklearn.model_selection import train_test_split

    try:
        training, held_out = train_test_split(
            everyone,
            test_size=config.validation_fraction,
            random_state=config.split_seed,
            stratify=data.train.labels,
        )
    except ValueError as error:
        raise DataError(
            f"{len(data.train)} training images of {len(data.classes)} classes cannot be split with "
            f"data.validation_fraction {config.validation_fraction}: {error}"
        ) from None
    return np.sort(training), np.sort(held_out)


def counts(data: TrainingData, config: DataConfig) -> tuple[int, int]:
    """How many images are trained on, and how many are for validation. Raises DataError as `split`."""
    training, held_out = split(data, config)
    return len(training), len(held_out if data.validation is None else data.validation)


def save_image(pixels: Pixels, file: Path) -> None:
    """Writes an image, (1 or 3, height, width) uint8, as PNG."""
    from PIL import Image

    array = np.asarray(pixels)
    Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(file)


def prepare_test(config: DataConfig, like: TrainingData) -> None:
    """Downloads or decodes the test images into their cache and gives none of them, so that nothing fails late.

    Raises DataError if `cifar.testset` is going to.
    """
    if config.source in {"image_folder", "svhn"}:  # the others' come with the training images
        read(config, "test", like.classes)


def read(config: DataConfig, split: Split, classes: tuple[str, ...] | None) -> tuple[Images, tuple[str, ...]]:
    """Images of a split and the names of their classes, which are to be `classes` where these are given.

    Raises DataError if they are missing, or lack a class.
    """
    if config.source == "image_folder":
        size = config.size or FOLDER_SIZE
        pixels, labels, names, skipped = read_split(resolved_root(config), split, size, classes)
        return Images(pixels, labels, skipped), names
    if config.source == "digits":
        pixels, labels, names = _digits(split)
    else:
        pixels, labels, names = _torchvision(config, split)
    return Images(_resized(pixels, config.size), labels), names


def _where(config: DataConfig) -> str:
    return str(resolved_root(config)) if config.source == "image_folder" else config.source


def resolved_root(config: DataConfig) -> Path:
    """Where the images are, as an absolute path; a cache folder of the user's where no root is given."""
    default = user_cache_path("cifar-tune") / "downloads"
    return Path(config.root).expanduser().resolve() if config.root else default


def _digits(split: Split) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """scikit-learn's 1,797 digits of 8x8 pixels (Alpaydin and Kaynak, UCI, 1998); a fifth, stratified, is the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)),
        test_size=DIGITS_TEST_SHARE,
        random_state=DIGITS_TEST_SEED,
        stratify=digits.target,
    )
    chosen = test if split == "test" else train
    pixels = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)[:, None]
    return pixels, digits.target[chosen].astype(np.int64), tuple(str(name) for name in digits.target_names)


def _torchvision(config: DataConfig, split: Split) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """A data set that torchvision downloads and verifies; one process at a time, the others find it there."""
    from filelock import FileLock
    from torchvision import datasets

    root = resolved_root(config)
    chosen: Any = {"split": split} if config.source == "svhn" else {"train": split == "train"}
    classes: dict[str, Callable[..., Any]] = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "svhn": datasets.SVHN,
    }
    make = classes[config.source]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{config.source}.lock"):
            try:
                dataset = make(root, download=False, **chosen)
            except RuntimeError:  # torchvision's word for "not found or corrupted"
                dataset = make(root, download=True, **chosen)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(
            f"{config.source} is not in {root} and cannot be downloaded ({reason}): "
            "copy it there from a machine with a network, name its folder with --set data.root=FOLDER, "
            "or try the embedded images with --set data.source=digits"
        ) from None
    labels = np.asarray(dataset.labels if config.source == "svhn" else dataset.targets, dtype=np.int64)
    names = getattr(dataset, "classes", None) or [str(digit) for digit in range(10)]
    return _channels_first(np.asarray(dataset.data)), labels, tuple(names)


def _channels_first(pixels: Pixels) -> Pixels:
    """(n, h, w) or (n, h, w, 3) or (n, 3, h, w) to (n, channels, h, w)."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.shape[1] == 3:
        return pixels
    return pixels.transpose(0, 3, 1, 2)


def _resized(pixels: Pixels, size: Size | None) -> Pixels:
    if size is None or pixels.shape[2:] == size:
        return pixels
    from PIL import Image

    return np.stack([[np.asarray(fitted(Image.fromarray(plane), size)) for plane in image] for image in pixels])


def _limited(train: Images, limit: int, classes: int) -> Images:
    from sklearn.model_selection import train_test_split

    if limit < classes:
        raise DataError(f"data.limit is {limit}, must be at least the number of classes, {classes}")
    try:
        kept, _ = train_test_split(np.arange(len(train)), train_size=limit, random_state=0, stratify=train.labels)
    except ValueError as error:  # too few images on either side
        raise DataError(
            f"data.limit is {limit}, which {len(train)} training images of {classes} classes cannot be cut to: {error}"
        ) from None
    return train.take(np.sort(kept))


def matched(images: Images, channels: int) -> Images:
    """Grey test images beside coloured training images become coloured, and the other way round."""
    there = images.pixels.shape[1]
    if there == channels:
        return images
    if there == 1:
        return Images(np.repeat(images.pixels, channels, axis=1), images.labels, images.skipped)
    return Images(to_grey(images.pixels), images.labels, images.skipped)


def to_grey(pixels: Pixels) -> Pixels:
    """(n, 3, h, w) to (n, 1, h, w)."""
    luma = np.tensordot(pixels, np.array([0.299, 0.587, 0.114]), axes=(1, 0))  # ITU-R BT.601, as in PIL
    return np.round(luma).astype(np.uint8)[:, None]


def _statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from its histogram, so that nothing large is made."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(pixels.shape[1]):
        counts = np.bincount(pixels[:, channel].reshape(-1), minlength=256)
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        stds.append(max(variance**0.5, 1 / 255))  # a blank channel must not divide by zero
    return tuple(means), tuple(stds)


def _fingerprint(images: Images) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(images.pixels.shape).encode())
    digest.update(np.ascontiguousarray(images.pixels).data)
    digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()
