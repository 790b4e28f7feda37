"""`python -m tune.service.pack`: the job that writes an experiment into its log, for `fetch` to read."""

import os
import signal
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from cifar.errors import UserError
from tune.run import exit_status
from tune.service import package

_READ_WITHIN_S = 600


@click.command()
@click.argument("name")
@click.option("--storage", required=True)
@click.option("--checkpoints", is_flag=True)
def main(name: str, storage: str, checkpoints: bool) -> None:
    """Write experiment NAME to the log, wait for SIGTERM as the sign that it was read, and empty the log."""
    with exit_status():
        pack(name, storage, checkpoints=checkpoints)
        sys.stdout.flush()
        signal.sigtimedwait({signal.SIGTERM}, _READ_WITHIN_S)
        if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
            os.ftruncate(sys.stdout.fileno(), 0)  # it may be large, and none of the cluster's business


def pack(name: str, storage: str, *, checkpoints: bool) -> None:
    """Prints an experiment. Raises UserError if there is none of that name, or it is too large."""
    from tune.experiment import check_name
    from tune.storage import open_storage

    check_name(name)
    where = open_storage(storage)
    if not where.exists(f"{name}/experiment.yaml"):
        raise UserError(f"fetch: no experiment {name} has begun in {where.uri}")
    place = where.child(name)
    files = package.chosen(place, checkpoints=checkpoints)
    size = sum(bytes_ for _, bytes_ in files)
    if size > package.MOST_BYTES:
        raise UserError(
            f"fetch: {name} has {size / 2**30:.1f} GiB, and through a job it can be 1 GiB at most; leave out "
            "--checkpoints, or search with --storage s3://bucket/folder, which is read directly"
        )
    with TemporaryDirectory() as copied:
        folder = place.local or Path(copied)
        names = [file for file, _ in files]
        if place.local is None:
            package.download(place, names, folder)
        for line in package.lines(folder, names):
            print(line)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it is waited for
    main()
