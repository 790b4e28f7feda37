from typing import Any

import optuna
import pytest

from tune.space import Choice, Constant, Numeric, Space, with_keys

NOTHING = Space()


class FakeDrawer:
    """Draws the upper end of every interval and the named option of every choice, and remembers what it was asked."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.asked: list[tuple[Any, ...]] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(("float", name, low, high, log))
        return high

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.asked.append(("int", name, low, high, step, log))
        return high

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.asked.append(("categorical", name, choices))
        return self.options.get(name, choices[0])


def real(name: str, key: str = "", *, log: bool = False) -> Numeric:
    return Numeric(name, key or name, 0.25, 0.5, log, None)


def whole(name: str, step: int = 1) -> Numeric:
    return Numeric(name, name, 2, 8, False, step)


def choice(name: str, **parameters: Space) -> Choice:
    return Choice(name, name, tuple(parameters), tuple(parameters.values()))


def test_every_kind_of_domain_is_drawn_in_the_order_of_the_file():
    space = Space(
        (real("width", log=True), Constant("flip", True), whole("cutout", 2), choice("optimizer", sgd=NOTHING))
    )
    drawer = FakeDrawer()
    values = space.draw(drawer)
    assert list(values.items()) == [("width", 0.5), ("flip", True), ("cutout", 8), ("optimizer", "sgd")]
    assert drawer.asked == [
        ("float", "width", 0.25, 0.5, True),
        ("int", "cutout", 2, 8, 2, False),
        ("categorical", "optimizer", ["sgd"]),
    ]


def test_an_empty_space_draws_nothing():
    drawer = FakeDrawer()
    assert NOTHING.draw(drawer) == {}
    assert drawer.asked == []


NESTED = with_keys(
    Space(
        (
            choice(
                "optimizer",
                sgd=Space(
                    (
                        real("momentum"),
                        choice("lr_schedule", cosine=Space((real("min_lr_fraction"),)), constant=NOTHING),
                    )
                ),
                adam=Space((real("beta2"), choice("lr_schedule", step=NOTHING, constant=NOTHING))),
                adamw=Space((real("beta2"), Constant("lr_schedule", "constant"))),
            ),
            real("width"),
        )
    )
)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (
            {"optimizer": "sgd", "lr_schedule[optimizer=sgd]": "cosine"},
            ["optimizer", "momentum", "lr_schedule", "min_lr_fraction", "width"],
        ),
        (
            {"optimizer": "sgd", "lr_schedule[optimizer=sgd]": "constant"},
            ["optimizer", "momentum", "lr_schedule", "width"],
        ),
        (
            {"optimizer": "adam", "lr_schedule[optimizer=adam]": "step"},
            ["optimizer", "beta2", "lr_schedule", "width"],
        ),
        ({"optimizer": "adamw"}, ["optimizer", "beta2", "lr_schedule", "width"]),
    ],
)
def test_a_parameter_of_an_option_is_drawn_only_when_the_option_is(options, names):
    drawer = FakeDrawer(**options)
    values = NESTED.draw(drawer)
    assert list(values) == names
    assert {key: values[key.partition("[")[0]] for key in options} == options


def test_a_parameter_of_several_options_has_a_key_for_each():
    assert [domain.key for domain in NESTED.searched()] == [
        "momentum",
        "min_lr_fraction",
        "lr_schedule[optimizer=sgd]",
        "beta2[optimizer=adam]",
        "lr_schedule[optimizer=adam]",
        "beta2[optimizer=adamw]",
        "optimizer",
        "width",
    ]


def test_the_key_names_the_whole_way_to_a_parameter_two_levels_down():
    inner = choice("lr_schedule", one_cycle=Space((real("dropout"),)), constant=Space((real("dropout"),)))
    space = with_keys(Space((choice("flip", yes=Space((inner,)), no=Space((real("dropout"),))),)))
    keys = [domain.key for domain in space.searched() if domain.name == "dropout"]
    assert keys == [
        "dropout[flip=yes,lr_schedule=one_cycle]",
        "dropout[flip=yes,lr_schedule=constant]",
        "dropout[flip=no]",
    ]


def test_a_constant_beside_a_searched_namesake_takes_no_key():
    space = with_keys(
        Space((choice("optimizer", sgd=Space((Constant("dropout", 0.1),)), adam=Space((real("dropout"),))),))
    )
    assert [domain.key for domain in space.searched()] == ["dropout", "optimizer"]


def test_optuna_draws_points_of_the_space():
    """Same-named parameters of different options keep their own distribution: Optuna refuses one name with two."""
    narrow = Numeric("beta2", "beta2", 0.9, 0.95, False, None)
    wide = Numeric("beta2", "beta2", 0.1, 0.2, True, None)
    space = with_keys(
        Space(
            (
                choice("optimizer", sgd=NOTHING, adam=Space((narrow,)), adamw=Space((wide,))),
                whole("cutout", 3),
                Constant("network", "cnn"),
            )
        )
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        values = space.draw(trial)
        seen.add(values["optimizer"])
        assert values["network"] == "cnn"
        assert values["cutout"] in {2, 5, 8}
        match values["optimizer"]:
            case "sgd":
                assert "beta2" not in values
            case "adam":
                assert 0.9 <= values["beta2"] <= 0.95
                assert trial.params["beta2[optimizer=adam]"] == values["beta2"]
            case "adamw":
                assert 0.1 <= values["beta2"] <= 0.2
        assert "network" not in trial.params
    assert seen == {"sgd", "adam", "adamw"}
