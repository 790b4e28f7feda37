"""Points that no sampler drew; what is wrong with starting points is told by spec.load."""

import optuna
import pytest

from cifar.hparams import HParams
from tune.points import MUTABLE, fit, grid, grid_size, to_params
from tune.space import Space
from tune.space_parser import parse
from tune.spec import load


def space_of(raw: object) -> Space:
    space, problems = parse(raw)
    assert problems == []
    return space


def floats(lower: float, upper: float, **more: object) -> dict[str, object]:
    return {"type": "float", "lower": lower, "upper": upper, **more}


def ints(lower: int, upper: int, **more: object) -> dict[str, object]:
    return {"type": "int", "lower": lower, "upper": upper, **more}


def options(*values: object, **more: object) -> dict[str, object]:
    return {"type": "categorical", "options": more or list(values)}


NESTED = space_of(
    {
        "network": "resnet9",
        "learning_rate": floats(1e-3, 1.0, log=True),
        "cutout": ints(0, 16, step=4),
        "flip": options(True, False),
        "optimizer": options(
            sgd={
                "momentum": floats(0.5, 0.9),
                "lr_schedule": options(cosine={"min_lr_fraction": floats(0.0, 0.1)}, constant=None),
            },
            adam={"beta2": floats(0.9, 0.99), "lr_schedule": "step", "step_epochs": 5},
            adamw={"beta2": floats(0.8, 0.9), "lr_schedule": options("cosine", "constant")},
        ),
    }
)


@pytest.mark.parametrize(
    ("values", "params"),
    [
        ({}, {}),
        ({"network": "resnet9"}, {}),  # a constant is no parameter of the study
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"cutout": 4.0, "flip": False}, {"cutout": 4, "flip": False}),
        ({"optimizer": "sgd", "momentum": 0.6}, {"optimizer": "sgd", "momentum": 0.6}),
        ({"optimizer": "adam", "beta2": 0.95}, {"optimizer": "adam", "beta2[optimizer=adam]": 0.95}),
        ({"optimizer": "adamw", "beta2": 0.85}, {"optimizer": "adamw", "beta2[optimizer=adamw]": 0.85}),
        (
            {"min_lr_fraction": 0, "lr_schedule": "cosine", "optimizer": "sgd"},
            {"optimizer": "sgd", "lr_schedule[optimizer=sgd]": "cosine", "min_lr_fraction": 0.0},
        ),
    ],
)
def test_a_point_by_the_names_of_the_study(values, params):
    found = to_params(NESTED, values)
    assert found == params
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in params.items()}


def test_optuna_draws_a_starting_point_as_given_and_what_it_leaves_out():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    start = {"optimizer": "sgd", "lr_schedule": "cosine", "min_lr_fraction": 0, "flip": True, "network": "resnet9"}
    study.enqueue_trial(to_params(NESTED, start))
    drawn = NESTED.draw(study.ask())
    assert start.items() <= drawn.items()
    assert 0.5 <= drawn["momentum"] <= 0.9


def test_every_point_of_a_space_fits_into_it_as_the_study_has_it():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        hparams = HParams(**NESTED.draw(trial))
        assert fit(NESTED, hparams.model_dump()) == trial.params
        seen.add((hparams.optimizer, hparams.lr_schedule))
    assert len(seen) == 5


def test_whole_numbers_of_a_real_hparam_fit_a_domain_of_whole_numbers():
    space = space_of({"width": ints(1, 4)})
    params = fit(space, HParams(width=2).model_dump())
    assert params == {"width": 2}
    assert isinstance(params["width"], int)
    assert fit(space, HParams(width=2.5).model_dump()) == "width is 2.5, here a whole number from 1 to 4"


SGD = HParams(
    network="resnet9", learning_rate=0.1, cutout=4, optimizer="sgd", momentum=0.6, lr_schedule="constant"
).model_dump()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"learning_rate": 3.0}, "learning_rate 3.0 is above 1.0"),
        ({"learning_rate": 1e-4}, "learning_rate 0.0001 is below 0.001"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, here from 0.001 to 1.0"),
        ({"learning_rate": "0.1"}, "learning_rate is 0.1, here from 0.001 to 1.0"),
        ({"cutout": 3}, "cutout is 3, here a whole number from 0 to 16 in steps of 4"),
        ({"cutout": True}, "cutout is true, here a whole number from 0 to 16 in steps of 4"),
        ({"network": "resnet18"}, "network is resnet18, here resnet9"),
        ({"optimizer": "lion"}, "optimizer is lion, here sgd or adam or adamw"),
        ({"flip": 1}, "flip is 1, here true or false"),
        ({"momentum": 0.95}, "momentum 0.95 is above 0.9"),
        ({"lr_schedule": "one_cycle"}, "lr_schedule is one_cycle, here cosine or constant"),
        # under another option of the space only, or nowhere
        ({"optimizer": "adam", "lr_schedule": "step", "beta2": 0.95}, "step_epochs is 30, here 5"),
        ({"nesterov": True}, "nesterov is true, here false"),
        ({"batch_size": 64}, "batch_size is 64, here 128"),
        ({"pretrained": True}, "pretrained is true, here false"),
        ({"muon": 1}, "muon is no HParam here"),
        # of several reasons the first in the order of the file
        ({"batch_size": 64, "cutout": 3, "learning_rate": 2.0}, "learning_rate 2.0 is above 1.0"),
    ],
)
def test_why_a_training_is_no_point_of_the_space(changes, reason):
    assert isinstance(fit(NESTED, SGD), dict)
    assert fit(NESTED, SGD | changes) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"beta1": 0.5, "beta2": 0.1},  # of adam and adamw
        {"step_epochs": 7, "gamma": 0.5, "warmup_fraction": 0.5, "min_lr_fraction": 0.9},  # of other schedules
    ],
)
def test_what_has_no_effect_may_differ(changes):
    assert fit(NESTED, SGD | changes) == fit(NESTED, SGD)


def test_a_constant_without_effect_may_differ():
    space = space_of({"lr_schedule": options("step", "constant"), "gamma": 0.5})
    assert fit(space, HParams(lr_schedule="constant").model_dump()) == {"lr_schedule": "constant"}
    assert fit(space, HParams(lr_schedule="step").model_dump()) == "gamma is 0.1, here 0.5"


def test_an_hparam_that_an_older_experiment_did_not_have_had_its_default():
    old = {name: value for name, value in SGD.items() if name not in ("pretrained", "flip")}
    assert fit(NESTED, old) == fit(NESTED, SGD)


FINITE = space_of(
    {
        "network": "cnn",
        "optimizer": options(sgd={"momentum": options(0.5, 0.9), "nesterov": True}, adam=None),
        "translate": ints(0, 4, step=2),
        "flip": options(True),
    }
)


def test_a_grid_has_every_point_in_the_order_of_the_file():
    rest = [{"translate": value, "flip": True} for value in (0, 2, 4)]
    heads = [{"optimizer": "sgd", "momentum": 0.5}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}]
    assert grid(FINITE) == [head | more for head in heads for more in rest]
    assert grid_size(FINITE) == 9


def test_a_grids_parameters_have_the_names_of_the_study():
    space = space_of({"optimizer": options(adam={"beta2": options(0.9, 0.99)}, adamw={"beta2": options(0.8)})})
    assert grid(space) == [
        {"optimizer": "adam", "beta2[optimizer=adam]": 0.9},
        {"optimizer": "adam", "beta2[optimizer=adam]": 0.99},
        {"optimizer": "adamw", "beta2[optimizer=adamw]": 0.8},
    ]


def test_optuna_draws_each_point_of_a_grid():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for params in grid(FINITE):
        study.enqueue_trial(params)
    points = []
    for params in grid(FINITE):
        trial = study.ask()
        points.append(FINITE.draw(trial))
        assert trial.params == params
    assert len({tuple(point.items()) for point in points}) == 9


def test_the_size_of_a_grid_is_known_without_making_it():
    space = space_of({name: ints(0, 500) for name in ("translate", "cutout")} | {"batch_size": ints(1, 65536)})
    assert grid_size(space) == 501 * 501 * 65536
    assert grid_size(NESTED) is None
    assert grid_size(Space()) == 1
    assert grid(Space()) == [{}]


def test_real_numbers_have_no_grid():
    with pytest.raises(ValueError, match=r"^learning_rate is searched over real numbers"):
        grid(space_of({"learning_rate": floats(0.1, 1)}))


def test_what_changes_in_mid_training_is_an_hparam():
    assert {"learning_rate", "weight_decay", "momentum", "translate", "cutout", "label_smoothing"} <= set(MUTABLE)
    assert set(MUTABLE) < set(HParams.model_fields)
    assert not {"network", "width", "optimizer", "batch_size", "lr_schedule"} & set(MUTABLE)


FILE = """\
data: {source: digits}
space:
  network: resnet9
  learning_rate: {type: float, lower: 1e-3, upper: 1.0, log: true}
  cutout: {type: int, lower: 0, upper: 16, step: 4}
  width: {type: int, lower: 1, upper: 2}
  flip: {type: categorical, options: [true, false]}
  optimizer:
    type: categorical
    options:
      sgd:
        momentum: {type: float, lower: 0.5, upper: 0.9}
        lr_schedule: {type: categorical, options: {cosine: {min_lr_fraction: 0.1}, constant: }}
      adam:
        lr_schedule:
          type: categorical
          options: {cosine: , step: {step_epochs: {type: int, lower: 2, upper: 4}}}
search:
  start:
"""


@pytest.mark.parametrize(
    "point",
    [
        "{learning_rate: 1}",
        "{network: resnet9, learning_rate: 0.001, cutout: 16, width: 2.0, flip: false}",
        "{optimizer: sgd}",
        "{min_lr_fraction: 0.1, lr_schedule: cosine, optimizer: sgd}",
        "{optimizer: adam, lr_schedule: step, step_epochs: 3}",
        "{translate: 0, batch_size: 128, flip: true}",  # not of the space, at their defaults
    ],
)
def test_starting_points_of_the_space(experiment_file, point):
    experiment = load(experiment_file(f"{FILE}  - {point}\n"))
    assert len(experiment.search.start) == 1


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("learning_rate", "20:5: search.start.0: got 'learning_rate', must be a mapping"),
        ("[0.1]", "20:5: search.start.0: got [0.1], must be a mapping"),
        ("{}", "20:5: search.start.0: got {}, must name at least one HParam"),
        ("{lr: 0.1}", "20:6: search.start.0.lr: unknown parameter; did you mean 'learning_rate'?"),
        ("{7: 0.1}", "20:5: search.start.0.7: unknown parameter; HParams has network, pretrained, "),
        (
            "{flip: [1]}",
            "20:12: search.start.0.flip: got [1], must be true or false, or a whole number, or a number, or text",
        ),
        ("{flip: }", "20:6: search.start.0.flip: must be true or false, or a whole number, or a number, or text"),
        # values
        ("{learning_rate: '0.1'}", "20:21: search.start.0.learning_rate: got '0.1', must be a number"),
        ("{learning_rate: true}", "20:21: search.start.0.learning_rate: got true, must be a number"),
        ("{learning_rate: -1}", "20:21: search.start.0.learning_rate: got -1, must be above 0.0"),
        (
            "{learning_rate: 3.0}",
            "20:21: search.start.0.learning_rate: got 3.0, must be from 0.001 to 1.0, as in space.learning_rate",
        ),
        ("{cutout: 4.0}", "20:14: search.start.0.cutout: got 4.0, must be a whole number"),
        (
            "{cutout: 6}",
            "20:14: search.start.0.cutout: got 6, must be a whole number from 0 to 16 in steps of 4, as in space",
        ),
        ("{width: 1.5}", "20:13: search.start.0.width: got 1.5, must be a whole number from 1 to 2, as in space.width"),
        ("{flip: 1}", "20:12: search.start.0.flip: got 1, must be true or false"),
        (
            "{optimizer: adamw}",
            "20:17: search.start.0.optimizer: got 'adamw', must be sgd or adam, as in space.optimizer; "
            "did you mean 'adam'?",
        ),
        (
            "{network: resnet18}",
            "20:15: search.start.0.network: got 'resnet18', must be resnet9: space.network is a constant",
        ),
        (
            "{batch_size: 64}",
            "20:18: search.start.0.batch_size: got 64, must be 128, its default: it is not in the space; "
            "put it there, or leave it out here",
        ),
        # conditions
        (
            "{momentum: 0.6}",
            "20:6: search.start.0.momentum: is in the space with optimizer sgd only; give optimizer too",
        ),
        (
            "{optimizer: adam, momentum: 0.6}",
            "20:23: search.start.0.momentum: is in the space with optimizer sgd only; leave it out, or choose that",
        ),
        (
            "{lr_schedule: cosine}",
            "20:6: search.start.0.lr_schedule: is in the space with optimizer sgd or optimizer adam only; "
            "give optimizer too",
        ),
        (
            "{optimizer: adam, step_epochs: 3}",
            "20:23: search.start.0.step_epochs: is in the space with optimizer adam, lr_schedule step only; "
            "give lr_schedule too",
        ),
        (
            "{optimizer: adam, lr_schedule: cosine, step_epochs: 3}",
            "20:44: search.start.0.step_epochs: is in the space with optimizer adam, lr_schedule step only; "
            "leave it out, or choose that",
        ),
        (
            "{optimizer: sgd, lr_schedule: cosine, min_lr_fraction: 0}",
            "20:60: search.start.0.min_lr_fraction: got 0, must be 0.1: space.min_lr_fraction is a constant",
        ),
        (
            "{optimizer: sgd, lr_schedule: step}",
            "20:35: search.start.0.lr_schedule: got 'step', must be cosine or constant, as in space.lr_schedule",
        ),
    ],
)
def test_what_is_wrong_with_a_starting_point(complaints, point, message):
    (found,) = complaints(f"{FILE}  - {point}\n")
    assert found.startswith("search.yaml:20:")
    assert message in found


def test_the_same_starting_point_twice(complaints):
    points = ["{learning_rate: 1, network: resnet9}", "{learning_rate: 0.5}", "{learning_rate: 1.0}"]
    text = FILE + "".join(f"  - {point}\n" for point in points)
    assert complaints(text) == ["search.yaml:22:5: search.start.2: is the same point as search.start.0"]


def test_every_problem_of_every_starting_point_comes_at_once(complaints):
    text = f"{FILE}  - {{lr: 1, cutout: 3}}\n  - {{flip: true}}\n  - {{momentum: 0.6, optimizer: adam}}\n"
    assert [line.split(": ")[:2] for line in complaints(text)] == [
        ["search.yaml:20:6", "search.start.0.lr"],
        ["search.yaml:20:21", "search.start.0.cutout"],
        ["search.yaml:22:6", "search.start.2.momentum"],
    ]


def test_a_starting_point_may_come_by_an_override(complaints):
    text = FILE.replace("  start:\n", "  trials: 3\n")
    override = "search.start=[{cutout: 3}]"
    (found,) = complaints(text, override)
    assert found.startswith(f"--set {override}: search.start.0.cutout: got 3, must be")


def test_starting_points_wait_for_the_space_to_be_right(complaints):
    text = f"{FILE}  - {{cutout: 3}}\n".replace("step: 4", "step: 5")
    assert complaints(text) == ["search.yaml:5:50: space.cutout.step: got 5, must divide upper - lower, 16"]
