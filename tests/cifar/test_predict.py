import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cifar.hparams import HParams
from cifar.predict import main, predict
from cifar.train import load, make_classifier, save


@pytest.fixture
def model_dir(make_data, tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "model"
    folder.mkdir()
    save(make_classifier(HParams(network="resnet9", width=1 / 16), make_data()), folder / "model.ckpt")
    return folder


@pytest.fixture
def digit_files(digits, tmp_path):
    files = [tmp_path / f"digit{number}.png" for number in range(3)]
    for file, pixels in zip(files, digits.train.pixels, strict=False):
        Image.fromarray(pixels[0]).save(file)
    return files


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result):
    """What was said, once sure that it was an error in one line and no traceback."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_each_image_gets_its_classes_most_probable_first(model_dir, digit_files, digits):
    result = run("--model", model_dir, "--top", 10, *digit_files)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    with torch.no_grad():
        expected = load(model_dir / "model.ckpt").eval()(torch.from_numpy(digits.train.pixels[:3])).softmax(1)
    for file, line, probabilities in zip(digit_files, lines, expected, strict=True):
        assert line.startswith(f"{file}: ")
        shown = re.findall(r"(\d) (\d+\.\d)%", line.removeprefix(f"{file}: "))
        assert [name for name, _ in shown] == [str(label) for label in probabilities.argsort(descending=True).tolist()]
        values = [float(value) / 100 for _, value in shown]
        assert values == pytest.approx(sorted(probabilities.tolist(), reverse=True), abs=6e-4)


def test_three_classes_are_shown_unless_said_otherwise(model_dir, digit_files):
    assert run("--model", model_dir, digit_files[0]).stdout.count("%") == 3


def test_no_more_classes_are_shown_than_there_are(model_dir, digit_files):
    assert run("--model", model_dir, "--top", 99, digit_files[0]).stdout.count("%") == 10


def test_images_of_any_size_and_colour_are_taken(model_dir, tmp_path):
    Image.new("RGB", (50, 30), (9, 90, 200)).save(tmp_path / "colour.jpg")
    Image.new("RGBA", (3, 7)).save(tmp_path / "clear.webp")
    result = run("--model", model_dir, tmp_path / "colour.jpg", tmp_path / "clear.webp")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2


def test_a_coloured_image_becomes_grey_as_the_test_images_do(model_dir, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(np.round(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)).save(tmp_path / "grey.png")
    (_, colour), (_, grey) = predict(model_dir, [tmp_path / "colour.png", tmp_path / "grey.png"], 10)
    assert colour == grey


def test_a_directory_without_a_model_is_an_error(digit_files, tmp_path):
    message = refused(run("--model", tmp_path, digit_files[0]))
    assert f"{tmp_path} has no model.ckpt; name the model/ folder of a finished experiment" in message


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "state"])
def test_a_broken_model_is_an_error(content, digit_files, tmp_path):
    file = tmp_path / "model.ckpt"
    if content == "state":  # of somebody else's network
        torch.save({"weight": torch.zeros(3)}, file)
    else:
        file.write_bytes(content)
    assert f"{file} cannot be read as a model" in refused(run("--model", tmp_path, digit_files[0]))


def test_a_missing_image_is_an_error(model_dir, digit_files, tmp_path):
    message = refused(run("--model", model_dir, digit_files[0], tmp_path / "none.png"))
    assert f"{tmp_path}/none.png: no such file" in message


def test_a_broken_image_is_an_error(model_dir, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    message = refused(run("--model", model_dir, tmp_path / "broken.png"))
    assert f"{tmp_path}/broken.png cannot be read: UnidentifiedImageError" in message


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "model"], "Missing argument 'IMAGES...'"),
        (["image.png"], "Missing option '--model'"),
        (["--model", "model", "--top", "0", "image.png"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_is_explained(arguments, complaint):
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_help_needs_no_torch():
    code = "import sys, cifar.predict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
