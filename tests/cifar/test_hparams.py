import pytest
from pydantic import ValidationError

from cifar.hparams import HParams, only_with


def test_every_field_has_a_default():
    assert HParams() == HParams(**HParams().model_dump())


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        HParams().dropout = 0.5


def test_unknown_names_are_refused():
    with pytest.raises(ValidationError, match=r"drop_out\n\s+Extra inputs are not permitted"):
        HParams(drop_out=0.5)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("width", 0.0, "greater than 0"),
        ("width", 16.5, "less than or equal to 16"),
        ("dropout", -0.1, "greater than or equal to 0"),
        ("dropout", 1.0, "less than 1"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("batch_size", 65537, "less than or equal to 65536"),
        ("label_smoothing", 1.0, "less than 1"),
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", float("nan"), "less than or equal to 100"),
        ("learning_rate", float("inf"), "less than or equal to 100"),
        ("weight_decay", -1e-9, "greater than or equal to 0"),
        ("momentum", 1.0, "less than 1"),
        ("beta1", 1.0, "less than 1"),
        ("beta2", -0.1, "greater than or equal to 0"),
        ("warmup_fraction", 0.0, "greater than 0"),
        ("warmup_fraction", 1.0, "less than 1"),
        ("div_factor", 0.5, "greater than or equal to 1"),
        ("final_div_factor", 0.5, "greater than or equal to 1"),
        ("min_lr_fraction", 1.1, "less than or equal to 1"),
        ("step_epochs", 0, "greater than or equal to 1"),
        ("gamma", 0.0, "greater than 0"),
        ("translate", -1, "greater than or equal to 0"),
        ("cutout", 513, "less than or equal to 512"),
        ("optimizer", "rmsprop", "'sgd', 'adam' or 'adamw'"),
        ("lr_schedule", "linear", "'one_cycle', 'cosine', 'step' or 'constant'"),
    ],
)
def test_values_out_of_range_are_refused(name, value, rule):
    with pytest.raises(ValidationError, match=rf"{name}\n\s+Input should be .*{rule}"):
        HParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("batch_size", "128", "integer"),
        ("batch_size", 128.0, "integer"),
        ("learning_rate", "0.1", "number"),
        ("learning_rate", True, "number"),
        ("nesterov", 1, "boolean"),
        ("nesterov", "yes", "boolean"),
        ("network", 18, "string"),
    ],
)
def test_types_are_not_guessed(name, value, kind):
    with pytest.raises(ValidationError, match=rf"{name}\n\s+Input should be a valid {kind}"):
        HParams(**{name: value})


def test_a_whole_number_is_a_number():
    assert HParams(learning_rate=1, width=2).learning_rate == 1.0


def test_a_network_with_a_typo_is_refused():
    with pytest.raises(ValidationError, match="did you mean 'resnet18'"):
        HParams(network="resnet-18")


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("momentum", {"optimizer": ["sgd"]}),
        ("nesterov", {"optimizer": ["sgd"]}),
        ("beta1", {"optimizer": ["adam", "adamw"]}),
        ("beta2", {"optimizer": ["adam", "adamw"]}),
        ("warmup_fraction", {"lr_schedule": ["one_cycle"]}),
        ("div_factor", {"lr_schedule": ["one_cycle"]}),
        ("final_div_factor", {"lr_schedule": ["one_cycle"]}),
        ("min_lr_fraction", {"lr_schedule": ["cosine"]}),
        ("step_epochs", {"lr_schedule": ["step"]}),
        ("gamma", {"lr_schedule": ["step"]}),
        ("learning_rate", {}),
        ("network", {}),
    ],
)
def test_only_with_tells_when_a_field_has_an_effect(name, conditions):
    assert only_with(name) == conditions


def test_every_condition_names_a_field_and_values_it_takes():
    for name in HParams.model_fields:
        for other, values in only_with(name).items():
            assert [getattr(HParams(**{other: value}), other) for value in values] == values
