"""The README's promise for a folder of one's own images, on real ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar.train import load


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("six_thousand")
def test_six_thousand_images_reach_seventy_per_cent(six_thousand, row, study):
    done, experiment = six_thousand
    assert len(study(experiment)) == 32
    assert float(row(done.out, "test accuracy").split("%")[0]) >= 70


STRIPES = {"across": (8, 0), "along": (0, 8), "aslant": (8, 8)}  # pixels down and to the right that a stripe is wide
HEIGHT, WIDTH = 48, 64


@pytest.fixture
def striped(folder):
    """Grey images, half of them twice as large and higher, of which 48x64 pixels from the middle are of use."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        for name, widths in STRIPES.items():
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                scale, more = (1, 0) if number % 2 else (2, 30)
                rows, columns = np.mgrid[: HEIGHT * scale + more, : WIDTH * scale] / scale
                phase = sum(each / width for each, width in zip((rows, columns), widths, strict=True) if width)
                grey = 128 + 50 * np.sin(np.pi * phase + random.uniform(0, 2 * np.pi))
                pixels = random.normal(grey, 25).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{number}.png")
    return folder / "images"


@pytest.mark.slow
@pytest.mark.timeout(600)  # it starts six processes, each of which imports torch
def test_images_that_are_not_square_go_through_everything(search, call, folder, row, striped):
    sets = ("data.root=images", f"data.image_size=[{HEIGHT}, {WIDTH}]", "search.trials=2", "scheduler.max_epochs=3")
    network = ("space.width=0.125", "space.batch_size=16", "space.translate=2", "space.cutout=8", "retrain.epochs=2")
    done = search("image_folder.yaml", *sets, *network, "space.flip=true", "trainer.prediction_images=4")
    assert done.code == 0, done.err
    experiment = folder / "experiments" / "test"
    assert float(row(done.out, "test accuracy").split("%")[0]) > 90
    assert re.match(r"\d+\.\d\d points between", row(done.out, "calibration error"))

    metrics = json.loads((experiment / "model" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert {name: figures["images"] for name, figures in metrics["per_class"].items()} == dict.fromkeys(STRIPES, 20)
    recalls = [figures["recall"] for figures in metrics["per_class"].values()]
    assert sum(recalls) / 3 == pytest.approx(metrics["test"]["accuracy"])
    assert 0 <= metrics["test"]["calibration_error"] <= 1
    assert metrics["onnx_error"] == ""

    model = load(experiment / "model" / "model.ckpt")
    assert (model.channels, model.image_size) == (1, (HEIGHT, WIDTH))
    files = sorted((striped / "test").rglob("*.png"))
    arguments = ("--json", *files)
    answers = []
    for name in ("model.ckpt", "model.onnx"):
        predicted = call("cifar.predict", "--model", experiment / "model" / name, *arguments)
        assert predicted.code == 0, predicted.err
        answers.append(json.loads(predicted.out)["images"])
    for ours, theirs in zip(*answers, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-4)
    right = [image["class"] == Path(image["image"]).parent.name for image in answers[1]]
    assert sum(right) / len(right) == pytest.approx(metrics["test"]["accuracy"]), "predict sees what the test saw"

    card = (experiment / "model" / "README.md").read_text()
    assert "Grey images of 48x64 pixels (height x width)" in card
    assert "input `images` (n, 1, 48, 64) uint8" in card
    assert "| images | 108 for training, 12 for validation, 60 for the test |" in card
    replayed = call("tune", "replay", "test")
    assert (replayed.code, replayed.out.splitlines()[-1]) == (0, "equal: every value to the last digit"), replayed.err
