import optuna
import pytest

from cifar.hparams import HParams
from tune.space import Choice, Constant, Numeric, Space
from tune.space_parser import parse


def messages(raw: object) -> list[str]:
    return [str(problem) for problem in parse(raw)[1]]


def test_each_kind_of_entry_becomes_its_domain():
    space, problems = parse(
        {
            "learning_rate": {"type": "float", "lower": 1e-3, "upper": 1, "log": True},
            "cutout": {"type": "int", "lower": 0, "upper": 8, "step": 4},
            "batch_size": {"type": "int", "lower": 16, "upper": 64, "log": True},
            "flip": {"type": "categorical", "options": [True, False]},
            "network": "cnn",
        }
    )
    assert problems == []
    assert space.domains == (
        Numeric("learning_rate", "learning_rate", 1e-3, 1, True, None),
        Numeric("cutout", "cutout", 0, 8, False, 4),
        Numeric("batch_size", "batch_size", 16, 64, True, 1),
        Choice("flip", "flip", (True, False), (Space(), Space())),
        Constant("network", "cnn"),
    )


def test_an_empty_space_searches_nothing():
    assert parse({}) == (Space(), [])


def test_a_number_without_fraction_may_be_searched_over_whole_numbers():
    space, problems = parse({"width": {"type": "int", "lower": 1, "upper": 4}})
    assert problems == []
    values = space.draw(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask())
    assert HParams(**values).width in {1, 2, 3, 4}


OPTIMIZERS = {
    "type": "categorical",
    "options": {
        "sgd": {
            "momentum": {"type": "float", "lower": 0.5, "upper": 0.9},
            "lr_schedule": {
                "type": "categorical",
                "options": {
                    "cosine": {"min_lr_fraction": {"type": "float", "lower": 0, "upper": 0.1}},
                    "constant": None,
                },
            },
        },
        "adam": {"beta2": {"type": "float", "lower": 0.9, "upper": 0.99}, "lr_schedule": "step", "step_epochs": 5},
        "adamw": {"beta2": {"type": "float", "lower": 0.8, "upper": 0.9}},
    },
}


def test_options_nest_two_levels_deep_and_what_is_drawn_makes_hparams():
    space, problems = parse({"optimizer": OPTIMIZERS, "width": 0.5})
    assert problems == []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = [HParams(**space.draw(study.ask())) for _ in range(40)]
    assert {point.optimizer for point in points} == {"sgd", "adam", "adamw"}
    assert {point.width for point in points} == {0.5}
    for point in points:
        assert (point.momentum == 0.9) == (point.optimizer != "sgd")
        assert (point.min_lr_fraction > 0) == (point.optimizer == "sgd" and point.lr_schedule == "cosine")
        assert (point.step_epochs == 5) == (point.optimizer == "adam")
    assert [domain.key for domain in space.searched()] == [
        "momentum",
        "min_lr_fraction",
        "lr_schedule",
        "beta2[optimizer=adam]",
        "beta2[optimizer=adamw]",
        "optimizer",
    ]


@pytest.mark.parametrize("raw", [None, 3, "width", [1], True])
def test_a_space_that_is_no_section(raw):
    (message,) = messages(raw)
    assert message.startswith("space: ")
    assert message.endswith("must be a section: lines of name: domain")


def floats(lower: object, upper: object, **more: object) -> dict[str, object]:
    return {"type": "float", "lower": lower, "upper": upper, **more}


def ints(lower: object, upper: object, **more: object) -> dict[str, object]:
    return {"type": "int", "lower": lower, "upper": upper, **more}


def options(*values: object) -> dict[str, object]:
    return {"type": "categorical", "options": list(values)}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        # names
        ({"learning_rte": 0.1}, "space.learning_rte: unknown parameter; did you mean 'learning_rate'?"),
        ({"lr": 0.1}, "space.lr: unknown parameter; did you mean 'learning_rate'?"),
        ({3: 0.1}, f"space.3: unknown parameter; HParams has {', '.join(HParams.model_fields)}"),
        ({"width": floats(1, 2, steps=1)}, "space.width.steps: unknown name; known here: type, lower, upper, log"),
        ({"width": {"type": "float", "upper": 2}}, "space.width: lower is missing"),
        ({"width": floats(1, 2, max=2)}, "space.width.max: unknown name; did you mean 'upper'?"),
        ({"width": {"type": "categorical"}}, "space.width: options is missing"),
        # the type
        ({"width": {"lower": 1}}, "space.width: type is missing: float, int or categorical"),
        ({"width": {"type": "flaot"}}, "got 'flaot', must be one of float, int, categorical; did you mean 'float'?"),
        ({"width": {"type": "loguniform"}}, "must be one of float, int, categorical; did you mean 'float'?"),
        ({"width": {"type": [1]}}, "space.width.type: got [1], must be one of float, int, categorical"),
        (
            {"batch_size": floats(8, 64)},
            "space.batch_size.type: got 'float', batch_size takes whole numbers: use type: int",
        ),
        ({"network": floats(1, 2)}, "space.network.type: got 'float', network takes no numbers: use type: categorical"),
        (
            {"optimizer": ints(1, 2)},
            "space.optimizer.type: got 'int', optimizer takes no numbers: use type: categorical",
        ),
        ({"flip": ints(0, 1)}, "space.flip.type: got 'int', flip takes no numbers: use type: categorical"),
        # bounds
        ({"width": floats(2, 1)}, "space.width.lower: got 2.0, must be below upper, 1.0"),
        ({"width": floats(1.5, 1.5)}, "space.width.lower: got 1.5, must be below upper, 1.5"),
        ({"dropout": floats(0.0, 0.5, log=True)}, "space.dropout.lower: got 0.0, must be above 0 when log is true"),
        ({"cutout": ints(0, 8, log=True)}, "space.cutout.lower: got 0, must be above 0 when log is true"),
        ({"dropout": floats(0.1, 1.0)}, "space.dropout.upper: got 1.0, must be below 1.0"),
        ({"width": floats(0, 1)}, "space.width.lower: got 0.0, must be above 0.0"),
        ({"batch_size": ints(1, 65537)}, "space.batch_size.upper: got 65537, must be at most 65536"),
        ({"width": floats("1", 2)}, "space.width.lower: got '1', must be a number"),
        ({"width": floats(True, 2)}, "space.width.lower: got true, must be a number"),
        ({"width": floats(1, float("inf"))}, "space.width.upper: got inf, must be a finite number"),
        ({"cutout": ints(0, 8.0)}, "space.cutout.upper: got 8.0, must be a whole number"),
        ({"width": floats(1, 2, log="yes")}, "space.width.log: got 'yes', must be true or false"),
        # steps
        ({"cutout": ints(0, 8, step=0)}, "space.cutout.step: got 0, must be at least 1"),
        ({"cutout": ints(1, 8, step=2, log=True)}, "space.cutout.step: got 2, must be 1 when log is true"),
        ({"cutout": ints(0, 10, step=4)}, "space.cutout.step: got 4, must divide upper - lower, 10"),
        # constants
        ({"learning_rate": "fast"}, "space.learning_rate: got 'fast', must be a number"),
        ({"learning_rate": True}, "space.learning_rate: got true, must be a number"),
        ({"learning_rate": None}, "space.learning_rate: must be a number"),
        ({"learning_rate": [0.1, 0.2]}, "space.learning_rate: got [0.1, 0.2], must be a number"),
        ({"learning_rate": 0}, "space.learning_rate: got 0, must be above 0.0"),
        ({"batch_size": 32.0}, "space.batch_size: got 32.0, must be a whole number"),
        ({"flip": 1}, "space.flip: got 1, must be true or false, or alternating"),
        ({"optimizer": "sdg"}, "space.optimizer: got 'sdg', must be one of sgd, adam, adamw; did you mean 'sgd'?"),
        ({"network": "rsnet18"}, "or package.module:factory; did you mean 'resnet18'?"),
        # options
        ({"width": options()}, "space.width.options: got [], must hold at least one option"),
        ({"optimizer": {"type": "categorical", "options": {}}}, "got {}, must hold at least one option"),
        ({"width": {"type": "categorical", "options": 5}}, "space.width.options: got 5, must be a list, or a mapping"),
        ({"width": options(0.5, 1.0, 0.5)}, "space.width.options.2: got 0.5, is given twice"),
        ({"width": options(1, 1.0)}, "space.width.options.1: got 1.0, is given twice"),
        ({"width": options(0.5, "1")}, "space.width.options.1: got '1', must be a number"),
        ({"width": options(0.5, [1])}, "space.width.options.1: got [1], must be a number"),
        ({"batch_size": options(32, True)}, "space.batch_size.options.1: got true, must be a whole number"),
        (
            {"optimizer": options("sgd", "rms")},
            "space.optimizer.options.1: got 'rms', must be one of sgd, adam, adamw",
        ),
        (
            {"optimizer": {"type": "categorical", "options": {"sgd": 5}}},
            "space.optimizer.options.sgd: got 5, must be a section: lines of name: domain",
        ),
        (
            {"optimizer": {"type": "categorical", "options": {"sgd": {"momentun": 0.5}}}},
            "space.optimizer.options.sgd.momentun: unknown parameter; did you mean 'momentum'?",
        ),
        (
            {"optimizer": {"type": "categorical", "options": {"sgd": {"momentum": floats(0.9, 0.5)}}}},
            "space.optimizer.options.sgd.momentum.lower: got 0.9, must be below upper, 0.5",
        ),
    ],
)
def test_what_is_wrong_in_a_space(raw, message):
    (found,) = messages(raw)
    assert found.startswith("space.")
    assert found.endswith(message)


MOMENTUM = floats(0.5, 0.9)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"optimizer": "adam", "momentum": MOMENTUM},
            "space.momentum: has no effect with optimizer adam; search it under the option sgd",
        ),
        (
            {"momentum": MOMENTUM, "optimizer": options("adam", "sgd", "adamw")},
            "space.momentum: has no effect with optimizer adam, adamw; search it under the option sgd",
        ),
        (
            # the optimizer is sgd unless the file says otherwise
            {"beta2": floats(0.9, 0.99)},
            "space.beta2: has no effect with optimizer sgd; search it under the option adam or adamw",
        ),
        (
            {
                "optimizer": {
                    "type": "categorical",
                    "options": {"sgd": None, "adam": {"nesterov": options(True, False)}},
                }
            },
            "space.optimizer.options.adam.nesterov: has no effect with optimizer adam; search it under the option sgd",
        ),
        (
            {
                "lr_schedule": {
                    "type": "categorical",
                    "options": {"cosine": {"gamma": floats(0.1, 0.5)}, "step": None},
                },
            },
            "space.lr_schedule.options.cosine.gamma: has no effect with lr_schedule cosine; "
            "search it under the option step",
        ),
        (
            {"lr_schedule": "constant", "warmup_fraction": floats(0.1, 0.5)},
            "space.warmup_fraction: has no effect with lr_schedule constant; search it under the option one_cycle",
        ),
    ],
)
def test_a_parameter_searched_where_it_has_no_effect(raw, message):
    assert messages(raw) == [message]


@pytest.mark.parametrize(
    "raw",
    [
        {"momentum": MOMENTUM},
        {"optimizer": "adam", "momentum": 0.9},  # not searched: it misleads nobody
        {"optimizer": options("adam", "adamw"), "beta2": floats(0.9, 0.99)},
        {"beta1": floats(0.8, 0.9), "optimizer": "adamw"},
        {
            # the outer choice settles it for the inner space
            "lr_schedule": {"type": "categorical", "options": {"one_cycle": {"momentum": MOMENTUM}, "constant": None}},
            "optimizer": "sgd",
        },
    ],
)
def test_a_parameter_searched_where_it_always_has_an_effect(raw):
    assert messages(raw) == []


def test_a_misspelt_option_is_told_once_and_not_again_by_what_depends_on_it():
    assert messages({"optimizer": "sdg", "momentum": MOMENTUM}) == [
        "space.optimizer: got 'sdg', must be one of sgd, adam, adamw; did you mean 'sgd'?"
    ]


WITH_WIDTH = {"sgd": {"width": 1.0}, "adam": {"width": 0.5}}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (
            {"width": 0.5, "optimizer": {"type": "categorical", "options": WITH_WIDTH}},
            [
                "space.optimizer.options.sgd.width: is given already by space.width",
                "space.optimizer.options.adam.width: is given already by space.width",
            ],
        ),
        (
            {"optimizer": {"type": "categorical", "options": {"sgd": {"width": 1.0}}}, "width": floats(1, 2)},
            ["space.width: is given already by space.optimizer.options.sgd.width"],
        ),
        (
            # two choices are drawn side by side, so an option of each can be taken together
            {
                "optimizer": {"type": "categorical", "options": {"sgd": {"width": 1.0}, "adam": None}},
                "flip": {"type": "categorical", "options": {True: {"width": 0.5}, False: None}},
            },
            ["space.flip.options.True.width: is given already by space.optimizer.options.sgd.width"],
        ),
        (
            {"optimizer": {"type": "categorical", "options": {"sgd": {"optimizer": "adam"}}}},
            ["space.optimizer.options.sgd.optimizer: is given already by space.optimizer"],
        ),
        ({"optimizer": {"type": "categorical", "options": WITH_WIDTH}}, []),  # never together
    ],
)
def test_a_parameter_in_two_places_that_can_be_drawn_together(raw, found):
    assert messages(raw) == found


def test_every_problem_is_told_at_once():
    found = messages(
        {
            "lr": 1,
            "width": floats(2, 1, log=3),
            "dropout": floats(0.5, 2.0),
            "optimizer": {"type": "categorical", "options": {"sgd": {"dropout": 0.1}, "adan": 5}},
        }
    )
    assert [message.partition(": ")[0] for message in found] == [
        "space.lr",
        "space.width.log",
        "space.dropout.upper",
        "space.optimizer.options.adan",
        "space.optimizer.options.adan",
        "space.optimizer.options.sgd.dropout",
    ]


def test_a_log_domain_with_two_faults_tells_both():
    assert messages({"dropout": floats(0.5, 0.0, log=True)}) == [
        "space.dropout.lower: got 0.5, must be below upper, 0.0"
    ]
    assert messages({"width": floats(-1, -2, log=True)}) == [
        "space.width.lower: got -1.0, must be above 0.0",
        "space.width.upper: got -2.0, must be above 0.0",
        "space.width.lower: got -1.0, must be below upper, -2.0",
        "space.width.lower: got -1.0, must be above 0 when log is true",
    ]
