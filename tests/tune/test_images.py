import subprocess
import sys

import numpy as np
import pytest

from cifar.config import DataConfig
from cifar.errors import DataError
from cifar.sources import split
from tune.images import load


def test_the_images_come_with_their_split():
    config = DataConfig(source="digits", limit=200, validation_fraction=0.2)
    data = load(config)
    assert [len(half) for half in data.halves] == [160, 40]
    again = split(load(config.model_copy(update={"split_seed": 1})), config)
    assert not np.array_equal(data.halves[1], again[1])


def test_a_class_too_small_to_split_is_told_before_any_trial():
    with pytest.raises(DataError, match=r"10 training images of 10 classes cannot be split with data\."):
        load(DataConfig(source="digits", limit=10))


def test_what_torchvision_reads_is_read_elsewhere_and_its_errors_are_told_here(tmp_path):
    script = f"""
import sys
from cifar.config import DataConfig
from cifar.errors import DownloadError
from tune.images import load

if __name__ == "__main__":
    try:
        load(DataConfig(source="cifar10", root={str(tmp_path)!r}))
    except DownloadError as error:
        print(error)
    assert "torch" not in sys.modules
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    closed = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    path = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, env=closed | path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cifar10 is not in {tmp_path} and cannot be downloaded (")
