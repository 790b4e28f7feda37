import numpy as np
import pytest
import torch
from PIL import Image

from cifar.config import DataConfig
from cifar.datamodule import ImageDataModule
from cifar.hparams import HParams
from cifar.sources import load_training
from cifar.testset import EvaluationDataModule


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small only lose by sharing their work out, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits_config():
    return DataConfig(source="digits", limit=200, validation_fraction=0.2)


@pytest.fixture(scope="session")
def digits(digits_config):
    return load_training(digits_config)


@pytest.fixture
def make_data(digits_config, digits):
    """Batches of 160 training and 40 validation digits of 8x8 pixels."""

    def make(batch_size=40, **options):
        return ImageDataModule(digits_config, digits, batch_size, **options)

    return make


@pytest.fixture
def make_test_data(digits_config, digits):
    """The 360 test digits."""

    def make(batch_size=40):
        return EvaluationDataModule(digits_config, digits, batch_size)

    return make


@pytest.fixture
def tiny():
    """A network of a few thousand weights, with everything random that a training can have."""
    return HParams(
        network="cnn", width=0.1, dropout=0.3, learning_rate=0.05, batch_size=40, translate=1, flip=True, cutout=2
    )


@pytest.fixture
def image_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("CIFAR_CACHE", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Every download meets a closed port, on a machine with a network too."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the one that it made first, and its proxies


@pytest.fixture
def make_folder(tmp_path, image_cache):
    """Writes `<split>/<class>/<number>.png`, colourful noise, and returns the root."""

    def make(root=tmp_path / "images", size=(6, 6), **splits):
        random = np.random.default_rng(0)
        for split, classes in splits.items():
            for name, count in classes.items():
                folder = root / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:03}.png")
        return root

    return make
