import subprocess
import sys

import pytest

from cifar.network_names import OWN_NAMES, checked_name, torchvision_names


def test_torchvision_names_are_those_torchvision_registers():
    import torchvision

    assert list(torchvision_names()) == sorted(torchvision.models.list_models(module=torchvision.models))


def test_names_are_known_without_importing_torch():
    code = (
        "import sys; from cifar.network_names import checked_name; checked_name('vgg11'); "
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [*OWN_NAMES, "mobilenet_v3_small", "cifar.networks:cnn"])
def test_right_names_are_returned(name):
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("typo", "right"), [("resnet8", "resnet18"), ("mobilenet_v3smal", "mobilenet_v3_small"), ("ccn", "cnn")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo, right):
    with pytest.raises(ValueError, match=rf"did you mean '{right}'\?$"):
        checked_name(typo)


def test_a_name_like_no_other_is_answered_with_the_rule_alone():
    with pytest.raises(ValueError, match=r"must be one of cnn, .* or package\.module:factory$"):
        checked_name("@@@@")


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "r3d_18", "deeplabv3_resnet50"])
def test_networks_that_do_not_classify_images_are_refused(name):
    with pytest.raises(ValueError, match="must be one of"):
        checked_name(name)


def test_a_factory_needs_a_package_that_is_there():
    with pytest.raises(ValueError, match="no package named 'my_networks_nowhere' can be imported"):
        checked_name("my_networks_nowhere.small:make")


@pytest.mark.parametrize("name", ["cifar.networks:", ":cnn", "cifar..networks:cnn", "cifar.networks:cnn()", "a b:c"])
def test_a_factory_is_written_as_package_module_and_name(name):
    with pytest.raises(ValueError, match="must be one of"):
        checked_name(name)
