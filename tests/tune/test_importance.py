import math

import optuna
import pytest
from optuna.samplers import RandomSampler

from tune.importance import fanova, importances

LEVELS = (1, 4)


def searched(trials: int, direction: str = "maximize", reached: int = 4) -> optuna.Study:
    """A conditional space, of which the learning rate decides nearly all, and momentum something where it is."""
    study = optuna.create_study(direction=direction, sampler=RandomSampler(seed=0))
    sign = 1 if direction == "maximize" else -1
    for _ in range(trials):
        trial = study.ask()
        value = -abs(math.log10(trial.suggest_float("learning_rate", 1e-4, 1, log=True)) + 2)
        trial.suggest_float("weight_decay", 0, 1)
        if trial.suggest_categorical("optimizer", ["sgd", "adamw"]) == "sgd":
            value -= 2 * (trial.suggest_float("momentum", 0, 1) - 0.9) ** 2
        for epoch in range(1, (4 if trial.number < reached else 1) + 1):
            # at the first rung weight decay seems to be all
            trial.report(sign * (value if epoch > 1 else trial.params["weight_decay"]), epoch)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_decides_comes_first_and_a_conditional_parameter_has_its_share(direction):
    shares = importances(searched(200, direction, reached=200), LEVELS)
    assert next(iter(shares)) == "learning_rate"
    assert shares.keys() == {"learning_rate", "weight_decay", "optimizer", "momentum"}
    assert shares["momentum"] > shares["weight_decay"]
    assert sum(shares.values()) == pytest.approx(1)


def test_the_highest_rung_that_ten_trials_reached_is_asked():
    assert next(iter(importances(searched(100, reached=9), LEVELS))) == "weight_decay"
    assert next(iter(importances(searched(200, reached=150), LEVELS))) == "learning_rate"


def test_of_several_objectives_the_first_counts():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=RandomSampler(seed=0))
    for _ in range(200):
        trial = study.ask()
        study.tell(trial, [trial.suggest_float("width", 0, 1), trial.suggest_float("learning_rate", 0, 1)])
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    assert importances(study, LEVELS)["width"] > 0.9


def test_of_few_trials_nothing_is_said():
    assert importances(searched(9), LEVELS) == {}
    assert importances(optuna.create_study(), LEVELS) == {}


def test_where_all_have_one_value_nothing_mattered():
    study = optuna.create_study(sampler=RandomSampler(seed=1), direction="maximize")
    for _ in range(12):
        trial = study.ask()
        trial.suggest_float("learning_rate", 0, 1)
        for epoch in range(1, 5):
            trial.report(0.1, epoch)
        study.tell(trial, 0.1)
    assert importances(study, LEVELS) == fanova(study, LEVELS) == {}
