"""The README's promise for a folder of one's own images, on real ones."""

import os
import tarfile
from pathlib import Path

import pytest

DATA = Path(os.environ.get("CIFAR_DATA", Path(__file__).parents[3] / "shared" / "data"))
ARCHIVE = DATA / "cifar10-lossless-6k.tar"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not ARCHIVE.exists(), reason="needs the lossless CIFAR-10 subset; CIFAR_DATA names its folder")
def test_six_thousand_images_reach_seventy_per_cent(call, folder, row, study):
    with tarfile.open(ARCHIVE) as archive:
        # extractall's own argument for it came with Python 3.11.4
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder / "images")
    space = Path(__file__).parents[2] / "search_spaces" / "image_folder.yaml"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    precision = "bf16-mixed" if "avx512_bf16" in flags else "32"  # in half the time, where the processor has it
    sets = ("--set", f"data.root={folder / 'images'}", "--set", f"trainer.precision={precision}")
    done = call("tune.run", "--space", space, *sets, timeout=1100)
    assert done.code == 0, done.err
    assert len(study(folder / "experiments" / "image_folder")) >= 8
    assert float(row(done.out, "test accuracy").split("%")[0]) >= 70
