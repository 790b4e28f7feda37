"""What of this machine a job gets: this package, the user's own modules, the experiment file. Nothing else.

Data, experiments, keys and environments stay here, since only what is named below is copied.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from cifar.errors import UserError

SPACE = "space"  # the folder of the experiment file
_PACKAGES = ("cifar", "tune")
_SUFFIXES = {".py", ".j2", ".css", ".js"}  # of a package's files
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}
_MOST_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Code:
    """A folder that a job is to work in, and what it holds."""

    folder: Path
    files: int
    size: int

    def __str__(self) -> str:
        return f"{self.files} files, {max(1, self.size // 1024)} KiB"


@contextmanager
def staged(file: Path | None, current: Path) -> Iterator[Code]:
    """A folder with all that a job needs, as long as it is needed.

    file: of the experiment, if it is to be sent. current: the folder with the user's own modules. Raises UserError
    where they are more than anyone would write.
    """
    with TemporaryDirectory(prefix="cifar-tune-") as name:
        folder = Path(name)
        files = size = 0
        for source, place in _chosen(file, current):
            files, size = files + 1, size + source.stat().st_size
            if size > _MOST_BYTES:
                raise UserError(
                    f"the modules (*.py) below {current} are more than {_MOST_BYTES // 2**20} MiB; call it in the "
                    "folder of your own networks"
                )
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        yield Code(folder, files, size)


def _chosen(file: Path | None, current: Path) -> Iterator[tuple[Path, Path]]:
    """Every file to send, and its place in the job's folder."""
    for package in _PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0])
        yield from ((path, package / path.relative_to(root)) for path in _files(root, _SUFFIXES))
    for path in _files(current, {".py"}, left_out={current / package for package in _PACKAGES}):
        yield path, path.relative_to(current)
    if file is not None:
        yield file, Path(SPACE, file.name)


def _files(root: Path, suffixes: set[str], left_out: set[Path] = frozenset()) -> Iterator[Path]:  # type: ignore[assignment]
    """In an order that stays; not in hidden folders, nor in those of an environment or of other people's code."""
    for name, folders, files in os.walk(root):
        here = Path(name)
        folders[:] = sorted(one for one in folders if here / one not in left_out and _is_source(here / one))
        yield from (
            here / one
            for one in sorted(files)
            if Path(one).suffix in suffixes and not one.startswith(".") and (here / one).is_file()
        )


def _is_source(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _LEFT_OUT
    return not hidden and not (folder / "pyvenv.cfg").exists()
