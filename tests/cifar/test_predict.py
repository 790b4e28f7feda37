import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cifar.classifier import ImageClassifier
from cifar.export import to_onnx
from cifar.hparams import HParams
from cifar.predict import main
from cifar.train import load, make_classifier, save


@pytest.fixture(scope="module")
def models(digits, digits_config, tmp_path_factory):
    """A folder with both files of a model."""
    from cifar.datamodule import ImageDataModule

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = make_classifier(HParams(network="resnet9", width=1 / 16), ImageDataModule(digits_config, digits, 40))
    save(model, folder / "model.ckpt")
    to_onnx(model, folder / "model.onnx", torch.from_numpy(digits.train.pixels[:4]))
    return folder


@pytest.fixture(params=["model.ckpt", "model.onnx"])
def model(models, request):
    return models / request.param


@pytest.fixture
def digit_files(digits, tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    files = [folder / f"digit{number}.png" for number in range(3)]
    for file, pixels in zip(files, digits.train.pixels, strict=False):
        Image.fromarray(pixels[0]).save(file)
    return files


@pytest.fixture
def expected(models, digits):
    with torch.no_grad():
        return load(models / "model.ckpt").eval()(torch.from_numpy(digits.train.pixels[:3])).softmax(1)


def run(*arguments, text=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def refused(result):
    """What was said, once sure that it was an error in one line and no traceback."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def document(*arguments, text=None):
    result = run(*arguments, "--json", text=text)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_each_image_has_a_row_its_classes_most_probable_first(model, digit_files, expected):
    result = run("--model", model, "--top", 10, *digit_files)
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["image", "class", "probability", "then"]
    for file, row, probabilities in zip(digit_files, rows, expected, strict=True):
        assert row.startswith(f"{file}  ")
        shown = re.findall(r"(\d) +(\d+\.\d)%", row.removeprefix(str(file)))
        assert [name for name, _ in shown] == [str(label) for label in probabilities.argsort(descending=True).tolist()]
        values = [float(value) / 100 for _, value in shown]
        assert values == pytest.approx(sorted(probabilities.tolist(), reverse=True), abs=6e-4)


def test_json_has_every_class(model, digit_files, expected):
    told = document("--model", model, *digit_files)
    assert told["model"] == str(model)
    assert told["skipped"] == []
    for file, image, probabilities in zip(digit_files, told["images"], expected.tolist(), strict=True):
        assert image["image"] == str(file)
        assert image["probabilities"] == pytest.approx({str(name): p for name, p in enumerate(probabilities)}, abs=1e-4)
        assert image["probability"] == max(image["probabilities"].values())
        assert image["probabilities"][image["class"]] == image["probability"]


def test_it_says_how_fast_it_was(model, digit_files):
    said = run("--model", model, *digit_files).stderr
    assert re.fullmatch(rf"3 images in \d+\.\d\d s, \d+ a second, after \d+\.\d s to load {model.name}\n", said)


def test_of_a_folder_the_graph_is_taken_and_else_the_checkpoint(models, digit_files, tmp_path):
    assert document("--model", models, *digit_files)["model"] == str(models / "model.onnx")
    shutil.copy(models / "model.ckpt", tmp_path)
    assert document("--model", tmp_path, *digit_files)["model"] == str(tmp_path / "model.ckpt")


def test_three_classes_are_shown_unless_said_otherwise(model, digit_files):
    assert run("--model", model, digit_files[0]).stdout.count("%") == 3


@pytest.mark.parametrize(("top", "shown"), [(1, 1), (99, 10)])
def test_as_many_classes_are_shown_as_asked_for_and_there_are(model, digit_files, top, shown):
    assert run("--model", model, "--top", top, digit_files[0]).stdout.count("%") == shown


def test_a_folder_is_every_image_below_it_and_broken_ones_are_named(model, digit_files):
    folder = digit_files[0].parent
    (folder / "more").mkdir()
    shutil.copy(digit_files[0], folder / "more" / "UPPER.PNG")
    (folder / "more" / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not one")
    result = run("--model", model, folder, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert [image["image"] for image in told["images"]] == [
        *map(str, digit_files),
        f"{folder}/more/UPPER.PNG",
    ]
    assert told["skipped"] == [
        f"{folder}/more/broken.png (UnidentifiedImageError: cannot identify image file 'broken.png')"
    ]
    assert f"left out: {folder}/more/broken.png (Unidentified" in result.stderr


def test_a_dash_is_a_list_of_files(model, digit_files):
    told = document("--model", model, "-", text=f"{digit_files[1]}\n\n{digit_files[0]}\r\n")
    assert [image["image"] for image in told["images"]] == [str(digit_files[1]), str(digit_files[0])]


def test_images_of_any_size_and_colour_are_taken(model, tmp_path):
    Image.new("RGB", (50, 30), (9, 90, 200)).save(tmp_path / "colour.jpg")
    Image.new("RGBA", (3, 7)).save(tmp_path / "clear.webp")
    assert len(document("--model", model, tmp_path / "colour.jpg", tmp_path / "clear.webp")["images"]) == 2


def test_both_files_of_a_model_for_images_that_are_not_square_agree(tmp_path):
    model = ImageClassifier({"network": "resnet9", "width": 0.1}, ["cat", "dog"], 1, (12, 16), [0.5], [0.2])
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 12, 16), dtype=np.uint8)
    save(model, tmp_path / "model.ckpt")
    to_onnx(model, tmp_path / "model.onnx", torch.from_numpy(pixels))
    Image.fromarray(pixels[0, 0]).save(tmp_path / "right.png")
    Image.fromarray(np.pad(pixels[0, 0], ((5, 5), (0, 0)))).save(tmp_path / "high.png")  # the middle is the same
    Image.fromarray(pixels[0, 0]).resize((50, 30)).save(tmp_path / "large.png")
    files = [tmp_path / name for name in ("right.png", "high.png", "large.png")]
    by_file = [document("--model", tmp_path / name, *files)["images"] for name in ("model.ckpt", "model.onnx")]
    for ours, theirs in zip(*by_file, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-4)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(pixels[:1])).softmax(1)[0].tolist()
    for image in by_file[0][:2]:
        assert list(image["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-6)


def test_a_coloured_image_becomes_grey_as_the_test_images_do(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(np.round(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)).save(tmp_path / "grey.png")
    colour, grey = document("--model", model, tmp_path / "colour.png", tmp_path / "grey.png")["images"]
    assert colour["probabilities"] == pytest.approx(grey["probabilities"], abs=1e-6)


def test_what_is_not_there_is_an_error(models, digit_files, tmp_path):
    said = refused(run("--model", tmp_path, digit_files[0]))
    assert f"{tmp_path} has no model.onnx and no model.ckpt; name the model/ folder of an experiment" in said
    assert f"{tmp_path}/model.ckpt: no such file; name" in refused(
        run("--model", tmp_path / "model.ckpt", digit_files[0])
    )
    assert f"{tmp_path}/none.png: no such file" in refused(
        run("--model", models, digit_files[0], tmp_path / "none.png")
    )
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty has no image below it; known formats are bmp, jpeg" in refused(
        run("--model", models, tmp_path / "empty")
    )
    assert "-: standard input holds no path; write one a line" in refused(run("--model", models, "-", text="\n"))


def test_a_broken_image_is_an_error(model, digit_files, tmp_path):
    (tmp_path / "broken").mkdir()
    broken = tmp_path / "broken" / "broken.png"
    broken.write_bytes(b"no image")
    said = refused(run("--model", model, digit_files[0], broken))
    assert f"{broken} cannot be read: UnidentifiedImageError" in said
    assert f"no image can be read; the first: {broken} (Unidentified" in refused(run("--model", model, broken.parent))


class Malicious:
    """Unpickled, it leaves a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def rezipped(source, target, change):
    """A copy of a checkpoint with its pickle changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("content", ["empty", "text", "cut", "flipped", "foreign", "code", "saved code"])
def test_a_checkpoint_that_is_none_is_refused_and_runs_nothing(content, models, digit_files, tmp_path):
    file, trace = tmp_path / "model.ckpt", tmp_path / "it ran"
    whole = (models / "model.ckpt").read_bytes()
    middle = len(whole) // 2
    match content:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_bytes(b"no checkpoint")
        case "cut":
            file.write_bytes(whole[:middle])
        case "flipped":
            file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        case "foreign":
            torch.save({"weight": torch.zeros(3)}, file)
        case "code":
            file.write_bytes(pickle.dumps(Malicious(trace)))
        case "saved code":
            rezipped(models / "model.ckpt", file, lambda _: pickle.dumps(Malicious(trace), protocol=2))
    assert f"{file} cannot be read as a model: " in refused(run("--model", file, digit_files[0]))
    assert not trace.exists()


def test_a_network_that_a_checkpoint_names_is_run_only_if_allowed(models, digit_files, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "from pathlib import Path\n"
        "from cifar.networks import resnet9\n"
        "Path(__file__).with_name('it ran').touch()\n"
        "def network(classes, channels, image_size):\n    return resnet9(classes, channels, 1 / 16)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(models / "model.ckpt", weights_only=True)
    content["hyper_parameters"]["hparams"] |= {"network": "theirs:network", "width": 1.0}
    file = tmp_path / "model.ckpt"
    torch.save(content, file)
    said = refused(run("--model", file, digit_files[0]))
    assert f"{file} needs the network theirs:network, which is code outside of this program" in said
    assert not (tmp_path / "it ran").exists()
    theirs = document("--model", file, "--allow-code", digit_files[0])["images"][0]
    ours = document("--model", models / "model.ckpt", digit_files[0])["images"][0]
    assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=1e-6)


@pytest.mark.parametrize("content", ["empty", "text", "cut", "without classes", "of another type"])
def test_a_graph_that_is_no_model_is_refused(content, models, digit_files, tmp_path):
    file = tmp_path / "model.onnx"
    whole = (models / "model.onnx").read_bytes()
    graph = onnx.load_from_string(whole)
    match content:
        case "empty":
            whole = b""
        case "text":
            whole = b"no graph"
        case "cut":
            whole = whole[: len(whole) // 2]
        case "without classes":
            del graph.metadata_props[:]
            whole = graph.SerializeToString()
        case "of another type":
            node = onnx.helper.make_node("Identity", ["images"], ["logits"])
            value = [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 10])
                for name in ("images", "logits")
            ]
            whole = onnx.helper.make_model(
                onnx.helper.make_graph([node], "other", value[:1], value[1:])
            ).SerializeToString()
    file.write_bytes(whole)
    assert f"{file} cannot be read as a model: " in refused(run("--model", file, digit_files[0]))


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


def test_a_graph_needs_no_torch(models, digit_files):
    code = (
        "import sys; from cifar.predict import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "--model", str(models), str(digit_files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("False\n")
