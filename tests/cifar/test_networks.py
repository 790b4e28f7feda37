from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from cifar.errors import DownloadError, UserError
from cifar.hparams import HParams
from cifar.networks import build


def run(network, channels, size):
    network.eval()
    with torch.no_grad():
        return network(torch.randn(2, channels, *size))


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes the user's module, under a name no other test uses, and returns that name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def put_weights(home, name, weights):
    """Leaves an untrained torchvision network where its ImageNet weights would be; only downloads are verified."""
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = models.get_model(name, weights=None).state_dict()
    torch.save(state, folder / Path(weights.url).name)
    return state


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (9, 21), (21, 9)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18", "resnet34"])
def test_own_networks_take_any_channels_and_size(name, channels, size):
    network = build(HParams(network=name, width=0.1), 7, channels, size)
    assert run(network, channels, size).shape == (2, 7)


def test_cnn_has_the_layers_it_names():
    network = build(HParams(network="cnn"), 10, 3, (32, 32))
    convolutions, linear = layers(network, nn.Conv2d), layers(network, nn.Linear)
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64]
    assert {(layer.kernel_size, layer.stride, layer.padding) for layer in convolutions} == {((3, 3), (1, 1), (1, 1))}
    shapes = [(layer.in_features, layer.out_features) for layer in linear]
    assert shapes == [(64 * 8 * 8, 512), (512, 128), (128, 10)]
    assert len(layers(network, nn.MaxPool2d)) == 2


@pytest.mark.parametrize(("name", "published"), [("resnet18", 11_173_962), ("resnet34", 21_282_122)])
def test_resnets_have_the_published_number_of_parameters(name, published):
    assert parameters(build(HParams(network=name), 10, 3, (32, 32))) == published


def test_resnet9_has_the_published_number_of_parameters():
    network = build(HParams(network="resnet9"), 10, 3, (32, 32))
    # Widely copied implementations have 6,575,370, of which 2,240 are biases that batch norm makes redundant.
    assert parameters(network) == 6_575_370 - 2_240
    assert len(layers(network, nn.Conv2d)) + len(layers(network, nn.Linear)) == 9


def test_resnet_keeps_small_images_large():
    network = build(HParams(network="resnet18"), 10, 3, (32, 32))
    stem = network.get_submodule("conv1")
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    assert not layers(network, nn.MaxPool2d)
    shapes = []
    network.get_submodule("layer1").register_forward_hook(lambda *call: shapes.append(call[-1].shape))
    network.get_submodule("layer4").register_forward_hook(lambda *call: shapes.append(call[-1].shape))
    run(network, 3, (32, 32))
    assert shapes == [(2, 64, 32, 32), (2, 512, 4, 4)]


@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18"])
def test_width_multiplies_the_channels(name):
    plain = [layer.out_channels for layer in layers(build(HParams(network=name), 10, 3, (32, 32)), nn.Conv2d)]
    halved = [
        layer.out_channels for layer in layers(build(HParams(network=name, width=0.5), 10, 3, (32, 32)), nn.Conv2d)
    ]
    assert halved == [count // 2 for count in plain]


@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18"])
def test_no_width_leaves_a_layer_without_channels(name):
    assert run(build(HParams(network=name, width=0.001), 3, 1, (8, 8)), 1, (8, 8)).shape == (2, 3)


@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18", "resnet34"])
def test_dropout_is_set(name):
    network = build(HParams(network=name, width=0.1, dropout=0.4), 10, 3, (32, 32))
    assert [layer.p for layer in layers(network, nn.Dropout)] == [0.4]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_torchvision_s_classifiers_get_head_and_channels(name, channels):
    network = build(HParams(network=name), 7, channels, (32, 32))
    assert run(network, channels, (32, 32)).shape == (2, 7)
    assert layers(network, nn.Conv2d)[0].in_channels == channels


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "resnet50"])
def test_torchvision_s_classifiers_take_images_that_are_not_square(name):
    assert run(build(HParams(network=name), 7, 1, (40, 64)), 1, (40, 64)).shape == (2, 7)


@pytest.mark.parametrize(("size", "shown"), [((4, 4), "4"), ((7, 64), r"\[7, 64\]"), ((64, 7), r"\[64, 7\]")])
def test_resnet9_needs_eight_pixels_each_way(size, shown):
    message = f"^resnet9 halves images three times: data.image_size is {shown}, must be at least 8$"
    with pytest.raises(UserError, match=message):
        build(HParams(network="resnet9"), 7, 1, size)


def test_torchvision_s_first_convolution_keeps_its_form():
    ours = layers(build(HParams(network="mobilenet_v3_small"), 7, 1, (32, 32)), nn.Conv2d)[0]
    theirs = layers(models.mobilenet_v3_small(weights=None), nn.Conv2d)[0]
    for name in ("out_channels", "kernel_size", "stride", "padding"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.bias is None) == (theirs.bias is None)


@pytest.mark.parametrize("options", [{"width": 0.5}, {"dropout": 0.5}])
def test_width_and_dropout_are_not_for_torchvision_s_networks(options):
    with pytest.raises(UserError, match="width and dropout are not for torchvision's squeezenet1_1"):
        build(HParams(network="squeezenet1_1", **options), 7, 3, (32, 32))


@pytest.mark.parametrize("name", ["cnn", "resnet9"])
def test_pretrained_is_not_for_networks_without_imagenet_weights(name):
    with pytest.raises(UserError, match=f"{name} has no ImageNet weights: set pretrained: false"):
        build(HParams(network=name, pretrained=True), 7, 3, (32, 32))


def test_a_factory_gets_the_images_form(own_module):
    name = own_module(
        "networks_plain",
        "from torch import nn\n"
        "def make(classes, channels, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))\n",
    )
    assert run(build(HParams(network=f"{name}:make"), 7, 3, (8, 8)), 3, (8, 8)).shape == (2, 7)


def test_a_factory_gets_width_and_dropout_if_it_takes_them(own_module):
    name = own_module(
        "networks_taking",
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes, channels, image_size, width=1.0, dropout=0.0):\n"
        "        super().__init__()\n"
        "        self.seen = (classes, channels, image_size, width, dropout)\n",
    )
    network = build(HParams(network=f"{name}:Net", width=0.5, dropout=0.2), 7, 3, (8, 8))
    assert network.seen == (7, 3, 8, 0.5, 0.2)


def test_a_factory_gets_height_and_width_of_images_that_are_not_square(own_module):
    name = own_module(
        "networks_oblong",
        "from torch import nn\n"
        "def make(classes, channels, image_size):\n"
        "    height, width = image_size\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))\n",
    )
    assert run(build(HParams(network=f"{name}:make"), 7, 3, (8, 5)), 3, (8, 5)).shape == (2, 7)


@pytest.mark.parametrize("options", [{"width": 0.5}, {"dropout": 0.2}, {"pretrained": True}])
def test_a_parameter_that_a_factory_does_not_take_is_an_error(options, own_module):
    name = own_module("networks_strict", "def make(classes, channels, image_size): ...")
    (parameter,) = options
    with pytest.raises(UserError, match=f"network {name}:make takes no {parameter}: leave it"):
        build(HParams(network=f"{name}:make", **options), 7, 3, (8, 8))


def test_a_factory_that_is_not_there_is_an_error(own_module):
    name = own_module("networks_empty", "")
    with pytest.raises(UserError, match=f"network {name}:make cannot be imported: .*no attribute 'make'"):
        build(HParams(network=f"{name}:make"), 7, 3, (8, 8))


def test_a_factory_whose_module_cannot_be_imported_is_an_error(own_module):
    name = own_module("networks_broken", "import surely_not_installed")
    with pytest.raises(UserError, match="cannot be imported: No module named 'surely_not_installed'"):
        build(HParams(network=f"{name}:make"), 7, 3, (8, 8))


def test_a_factory_must_give_a_module(own_module):
    name = own_module("networks_number", "def make(classes, channels, image_size): return 3")
    with pytest.raises(UserError, match=r"gave a int, must be a torch\.nn\.Module"):
        build(HParams(network=f"{name}:make"), 7, 3, (8, 8))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
@pytest.mark.usefixtures("no_network")
def test_weights_that_cannot_be_downloaded_are_one_line(name, torch_home):
    with pytest.raises(DownloadError) as caught:
        build(HParams(network=name, pretrained=True), 10, 3, (32, 32))
    message = str(caught.value)
    assert message.startswith(f"ImageNet weights of {name} are not in {torch_home}/hub/checkpoints and cannot be ")
    assert message.endswith("copy them there from a machine with a network, or set pretrained: false")
    assert "\n" not in message


@pytest.mark.usefixtures("no_network")
def test_pretrained_resnet_takes_over_all_but_stem_and_head(torch_home):
    # As many classes as ImageNet has, so that its head would fit.
    theirs = put_weights(torch_home, "resnet18", models.ResNet18_Weights.DEFAULT)
    network = build(HParams(network="resnet18", pretrained=True), 1000, 3, (32, 32))
    ours = network.state_dict()
    same = {name for name in ours if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])}
    assert set(ours) - same == {"conv1.weight", "fc.weight", "fc.bias"}
    assert ours["conv1.weight"].shape == (64, 3, 3, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("no_network")
def test_pretrained_torchvision_networks_get_a_new_head(channels, torch_home):
    theirs = put_weights(torch_home, "squeezenet1_1", models.SqueezeNet1_1_Weights.DEFAULT)
    network = build(HParams(network="squeezenet1_1", pretrained=True), 7, channels, (32, 32))
    ours = network.state_dict()
    new = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    first = {"features.0.weight", "features.0.bias"} if channels == 1 else set()
    assert new == {"classifier.1.weight", "classifier.1.bias"} | first
    assert run(network, channels, (32, 32)).shape == (2, 7)


def test_pretrained_weights_have_one_width():
    with pytest.raises(UserError, match=r"width is 0\.5, must be 1 with pretrained"):
        build(HParams(network="resnet18", pretrained=True, width=0.5), 10, 3, (32, 32))
