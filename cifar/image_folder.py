"""Images in folders, `<split>/<class>/**`: decoded once in parallel, cached by their content.

The cache holds each split as .npy files that every process of a machine maps, so that trials share one copy.
`CIFAR_CACHE` moves it from the user's cache folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from platformdirs import user_cache_path

from cifar.config import Size, shown_size
from cifar.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
MAX_BROKEN_SHARE = 0.01
_GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "F"}
_LAYOUT = "channels last"  # of cached pixels


@dataclass(frozen=True)
class _Listing:
    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]


Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...], tuple[str, ...]]


def read_split(root: Path, split: str, size: Size, classes: tuple[str, ...] | None) -> Decoded:
    """Pixels (n, 1 or 3, height, width) uint8, channels last in memory; labels (n,) int64, class names, broken files.

    `classes`, where given, must be the split's own. Grey where every image is. Raises DataError if the folder is
    missing, empty or laid out otherwise, or if more than 1 % of the files are broken.
    """
    listing = list_split(root, split, classes)
    cache = Path(os.environ.get("CIFAR_CACHE") or user_cache_path("cifar-tune")) / "images"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{_stat_key(root, listing, size)}.lock"):
            folder = _cached(cache, root, listing, size, split)
    except OSError as error:
        raise DataError(
            f"decoded images cannot be cached in {cache} ({error.strerror or error}); "
            "set CIFAR_CACHE to a folder with room that can be written"
        ) from None
    meta = json.loads((folder / "meta.json").read_text())
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return pixels.transpose(0, 3, 1, 2), np.load(folder / "labels.npy"), listing.classes, tuple(meta["skipped"])


def list_split(root: Path, split: str, classes: Sequence[str] | None) -> _Listing:
    """The files of a split by class. Raises DataError if they are not laid out as `<split>/<class>/**`."""
    layout = f"images belong in {root}/{split}/<class>/"
    folder = root / split
    if not root.exists():
        raise DataError(f"data.root {root} does not exist; {layout}")
    if not folder.is_dir():
        raise DataError(f"data.root {root} has no folder {split}/; {layout}")
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files: list[Path] = []
    labels: list[int] = []
    names = tuple(classes or found)
    if strange := sorted(set(found) - set(names)):
        raise DataError(f"{folder} has the class {strange[0]!r}, which {root}/train lacks; remove it, or add it there")
    for label, name in enumerate(names):
        below = (folder / name).rglob("*")
        mine = sorted(path for path in below if path.suffix.lower() in SUFFIXES and not path.is_dir())
        if not mine:
            raise DataError(f"{folder} has no image of the class {name!r}; {layout}, in {formats()}")
        files += mine
        labels += [label] * len(mine)
    if not files:
        raise DataError(f"{folder} is empty; {layout}, in {formats()}")
    return _Listing(files, labels, names)


def formats() -> str:
    """The names of those that are read."""
    return ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))


def _stat_key(root: Path, listing: _Listing, size: Size) -> str:
    """Changes when a file comes, goes, or is written; costs no reading."""
    digest = hashlib.blake2b(f"{root}:{shown_size(size)}:{_LAYOUT}".encode(), digest_size=16)
    for file in listing.files:
        try:
            stat = file.stat()
            written = f"{stat.st_size}:{stat.st_mtime_ns}"
        except OSError:  # a link to nowhere: decoding is going to name it
            written = "missing"
        digest.update(f"{file.relative_to(root)}:{written}\n".encode())
    return digest.hexdigest()


def _content_key(root: Path, listing: _Listing, size: Size) -> str:
    digest = hashlib.blake2b(f"{shown_size(size)}:{_LAYOUT}".encode(), digest_size=16)
    for file in listing.files:
        digest.update(f"{file.relative_to(root)}\n".encode())
        try:
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
        except OSError:  # decoding is going to name it
            digest.update(b"unreadable")
    return digest.hexdigest()


def _cached(cache: Path, root: Path, listing: _Listing, size: Size, split: str) -> Path:
    index = cache / f"{_stat_key(root, listing, size)}.key"
    if index.exists() and (folder := cache / index.read_text()).is_dir():
        return folder
    folder = cache / _content_key(root, listing, size)
    if not folder.is_dir():
        _decode_all(root, listing, size, split, folder)
    beside = index.with_suffix(".tmp")
    beside.write_text(folder.name)
    beside.replace(index)
    return folder


def _decode_all(root: Path, listing: _Listing, size: Size, split: str, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda file: decode(file, size), listing.files)
        bar = track(
            decoded,
            f"Decoding {split} images",
            total=len(listing.files),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        results = list(bar)
    good = [index for index, result in enumerate(results) if not isinstance(result, str)]
    skipped = [
        f"{file.relative_to(root)} ({result})"
        for file, result in zip(listing.files, results, strict=True)
        if isinstance(result, str)
    ]
    if len(skipped) > MAX_BROKEN_SHARE * len(results):
        raise DataError(
            f"{len(skipped)} of {len(results)} files in {root / split} are broken, more than "
            f"{MAX_BROKEN_SHARE:.0%}: {'; '.join(skipped[:3])}{'; …' if len(skipped) > 3 else ''}"
        )
    pixels = np.stack([results[index][0] for index in good])
    if all(results[index][1] for index in good):
        pixels = pixels[:, :1]
    partial = Path(mkdtemp(dir=folder.parent, prefix="partial-"))
    np.save(partial / "pixels.npy", np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    np.save(partial / "labels.npy", np.array(listing.labels, dtype=np.int64)[good])
    (partial / "meta.json").write_text(json.dumps({"root": str(root), "split": split, "skipped": skipped}))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not folder.is_dir():  # else another process was first, with the same content
            raise


def decode(file: Path, size: Size) -> Any:
    """The image as `to_size` gives it, or what is wrong with the file."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            return to_size(opened, size)
    except Exception as error:  # a broken file makes PIL raise nearly anything
        return f"{type(error).__name__}: {error}".replace(str(file), file.name)


def to_size(opened: "Image.Image", size: Size) -> tuple[npt.NDArray[np.uint8], bool]:
    """The image as ((3, height, width) uint8, whether it is grey). Raises nearly anything if it is broken.

    It is `fitted` to `size`; EXIF's rotation is applied, transparency dropped.
    """
    from PIL import Image, ImageOps

    image: Image.Image = ImageOps.exif_transpose(opened)
    grey = image.mode in _GREY_MODES
    if image.mode.startswith("I"):  # 16 bits: PIL's own conversion would clip
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    image = image.convert("RGB")
    return np.asarray(fitted(image, size)).transpose(2, 0, 1), grey


def fitted(image: "Image.Image", size: Size) -> "Image.Image":
    """The image scaled until it just covers `size`, keeping its proportions, and its middle cut out."""
    from PIL import Image, ImageOps

    height, width = size
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
