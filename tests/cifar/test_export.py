import onnxruntime
import pytest
import torch

from cifar.classifier import ImageClassifier
from cifar.config import TrainerConfig
from cifar.export import TOLERANCE, to_onnx
from cifar.hparams import HParams
from cifar.train import fit, make_classifier


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(digits, digits_config, images, tmp_path_factory):
    """A trained network with batch norm and dropout, its file, and the difference that was found."""
    from cifar.datamodule import ImageDataModule

    hparams = HParams(network="resnet9", width=1 / 16, dropout=0.3, translate=1, flip=True, cutout=2)
    data = ImageDataModule(digits_config, digits, 40)
    model = fit(hparams, data, TrainerConfig(accelerator="cpu"), max_epochs=1, seed=0)
    file = tmp_path_factory.mktemp("export") / "model.onnx"
    return model, file, to_onnx(model, file, images)


def session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def test_the_graph_takes_images_and_gives_logits(exported):
    opened = session(exported[1])
    (given,), (result,) = opened.get_inputs(), opened.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [1, 8, 8])
    assert (result.name, result.type, result.shape[1:]) == ("logits", "tensor(float)", [10])
    assert isinstance(given.shape[0], str)  # a name: any number


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_any_number_of_images_agrees_with_torch(count, exported, images):
    model, file, _ = exported
    (logits,) = session(file).run(None, {"images": images[:count].numpy()})
    with torch.no_grad():
        expected = model(images[:count])
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)


def test_the_difference_found_is_small_and_returned(exported):
    assert 0 <= exported[2] <= TOLERANCE


def test_one_file_holds_the_whole_model(exported):
    assert [file.name for file in exported[1].parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("network", "channels"), [("cnn", 1), ("resnet9", 3), ("mobilenet_v3_small", 1)])
def test_a_graph_may_take_images_that_are_not_square(network, channels, tmp_path):
    model = ImageClassifier(
        {"network": network}, ["cat", "dog"], channels, (24, 40), mean=[0.5] * channels, std=[0.2] * channels
    )
    oblong = torch.randint(256, (3, channels, 24, 40), dtype=torch.uint8)
    assert to_onnx(model, tmp_path / "model.onnx", oblong) <= TOLERANCE
    (given,) = session(tmp_path / "model.onnx").get_inputs()
    assert given.shape[1:] == [channels, 24, 40]


def test_a_model_that_gives_no_numbers_is_an_error(digits, digits_config, images, tmp_path):
    from cifar.datamodule import ImageDataModule

    model = make_classifier(HParams(network="cnn", width=0.1), ImageDataModule(digits_config, digits, 40))
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"ONNX differs from torch by nan in a probability, must be at most 0\.0001"):
        to_onnx(model, tmp_path / "model.onnx", images)
