import copy
import warnings
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.sampler import History, derived_seed, make_sampler, startup_trials
from tune.sections import SearchConfig

LEVELS = (2, 8, 32)
NAMES = ["tpe", "gp", "plain_tpe", "cmaes", "qmc", "random", "grid"]

pytestmark = pytest.mark.filterwarnings(
    # Optuna says so once, when its Gaussian process could be faster
    "ignore:.*greenlet.*",
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def sampler(name: str = "tpe", seed: int = 0, trials: int = 40) -> optuna.samplers.BaseSampler:
    return make_sampler(
        SearchConfig.model_validate({"sampler": name, "seed": seed, "trials": trials}), LEVELS, trials=trials
    )


def study_of(trials: list[FrozenTrial], name: str = "tpe", seed: int = 0, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction, sampler=sampler(name, seed))
    study.add_trials(trials)
    return study


def past(
    curve: dict[int, float], state: TrialState = TrialState.PRUNED, number: int = 0, why: str = "", **params: float
) -> FrozenTrial:
    """A trial that reported `curve`; its parameters lie in [0, 1]."""
    trial = create_trial(
        state=state,
        value=max(curve.values(), default=0.0) if state is TrialState.COMPLETE else None,
        params=params,
        distributions={name: FloatDistribution(0, 1) for name in params},
        intermediate_values=curve,
        user_attrs={"state": why} if why else {},
    )
    trial.number = number
    return trial


def flat(until: int, value: float = 0.5) -> dict[int, float]:
    return dict.fromkeys(range(1, until + 1), value)


def seen(trials: list[FrozenTrial], maximize: bool = True) -> dict[int, tuple[str, float | None]]:
    """What a sampler is shown: by number, state and value."""
    trials = [copy.copy(trial) for trial in trials]
    for number, trial in enumerate(trials):
        trial.number = number
    view = History(LEVELS).comparable(trials, maximize)
    return {trial.number: (trial.state.name, trial.value) for trial in view}


def conditional(trial: optuna.Trial) -> dict[str, Any]:
    values: dict[str, Any] = {
        "rate": trial.suggest_float("rate", 1e-4, 1, log=True),
        "depth": trial.suggest_int("depth", 1, 9),
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adam"]),
    }
    if values["optimizer"] == "sgd":
        return values | {"momentum": trial.suggest_float("momentum", 0, 1)}
    return values | {"beta": trial.suggest_float("beta", 0.9, 0.999)}


def numeric(trial: optuna.Trial) -> dict[str, Any]:
    return {"rate": trial.suggest_float("rate", 1e-4, 1, log=True), "depth": trial.suggest_int("depth", 1, 9)}


def searched(
    name: str, draw: Callable[[optuna.Trial], dict[str, Any]], trials: int = 24, seed: int = 0
) -> tuple[optuna.Study, list[dict[str, Any]]]:
    """A search of which every fourth trial gets to the end."""
    study = optuna.create_study(direction="maximize", sampler=sampler(name, seed))
    drawn = []
    for number in range(trials):
        trial = study.ask()
        drawn.append(draw(trial))
        value = -abs(trial.params["depth"] - 5) - trial.params["rate"]
        for epoch in range(1, 33 if number % 4 == 0 else 3):
            trial.report(value + epoch / 100, epoch)
        if number % 4:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study, drawn


def test_the_highest_level_is_learned_from_that_two_more_trials_than_parameters_reached() -> None:
    long, short = [past(flat(8, 0.8), a=0.1, b=0.2)] * 4, [past(flat(2, 0.2), a=0.1, b=0.2)] * 9
    few = [past(flat(32, 0.9), TrialState.COMPLETE, a=0.3, b=0.3)] * 3
    assert set(seen([*short, *long]).values()) == {("COMPLETE", 0.8)}
    assert len(seen([*short, *long])) == 4
    assert len(seen([*short, *long[1:]])) == 12  # one fewer, and it is the level below, which all reached
    assert sorted(seen([*short, *long, *few]).values()) == [("COMPLETE", 0.8)] * 4 + [("COMPLETE", 0.9)] * 3
    assert seen(short[:3]) == {}


def test_values_are_those_at_the_level_whatever_came_later() -> None:
    rising = [past({1: 0.0, 2: 0.1, 5: 0.6}, a=0.5) for _ in range(3)]
    assert seen(rising) == dict.fromkeys(range(3), ("COMPLETE", 0.1))


def test_a_trial_that_ended_early_by_itself_counts_with_its_last_value() -> None:
    early = past({1: 0.3, 2: 0.4, 3: 0.7}, TrialState.COMPLETE, a=0.5)
    others = [past(flat(8), a=0.5) for _ in range(2)]
    assert seen([early, *others])[0] == ("COMPLETE", 0.7)


def test_running_and_paused_trials_count_at_the_levels_they_passed_and_stopped_ones_do_not_below() -> None:
    others = [past(flat(8), a=0.5) for _ in range(3)]
    beyond = past(flat(9, 0.7), TrialState.RUNNING, a=0.5)
    paused_there, paused_below = (past(flat(rung, 0.6), TrialState.RUNNING, a=0.5) for rung in (8, 2))
    on_its_way, fresh = (past(flat(epochs), TrialState.RUNNING, a=0.5) for epochs in (3, 0))
    stopped = past(flat(2, 0.9), a=0.5)
    view = seen([beyond, paused_there, paused_below, on_its_way, fresh, stopped, *others])
    assert {number: view.get(number) for number in range(6)} == {
        0: ("COMPLETE", 0.7),
        1: ("COMPLETE", 0.6),
        2: None,
        3: None,
        4: None,
        5: None,
    }


@pytest.mark.parametrize(("maximize", "worst"), [(True, 0.2), (False, 0.6)])
def test_a_diverged_trial_counts_as_the_worst_and_a_failed_one_not_at_all(maximize: bool, worst: float) -> None:
    others = [past(flat(8, value), a=0.5) for value in (0.2, 0.6, 0.4)]
    diverged = past(flat(1, 0.99), TrialState.FAIL, why="diverged", a=0.5)
    failed = past(flat(8, 0.99), TrialState.FAIL, why="failed", a=0.5)
    view = seen([diverged, failed, *others], maximize)
    assert view[0] == ("COMPLETE", worst)
    assert 1 not in view


def test_a_trial_is_looked_at_again_until_it_ends() -> None:
    history = History(LEVELS)
    going = past(flat(2, 0.1), TrialState.RUNNING, number=0, a=0.5)
    others = [past(flat(8), number=number, a=0.5) for number in range(1, 4)]
    assert 0 not in [trial.number for trial in history.comparable([going, *others], maximize=True)]
    ended = past(flat(8, 0.3), number=0, a=0.5)
    assert [trial.value for trial in history.comparable([ended, *others], maximize=True)] == [0.3, 0.5, 0.5, 0.5]


def proposals(study: optuna.Study, count: int = 30) -> list[float]:
    return [study.ask().suggest_float("a", 0, 1) for _ in range(count)]


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("name", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_proposals_go_where_values_were_good_at_the_level_not_where_the_last_ones_were(
    name: str, direction: str
) -> None:
    """The low end of `a` is good after 8 epochs; the trials that went on, all from the high end, got better still."""
    sign = 1 if direction == "maximize" else -1
    points = [(number + 0.5) / 30 for number in range(30)]
    at_level = {a: {2: 0.1 * sign, 8: sign * (1 - a)} for a in points}
    trials = [past(at_level[a] if a < 0.9 else at_level[a] | {16: 5.0 * sign}, a=a) for a in points]
    assert median(proposals(study_of(trials, name, direction=direction), 30 if name == "tpe" else 5)) < 0.3


def test_diverged_trials_drive_proposals_away() -> None:
    trials = [past(flat(8, 0.5 + 0.001 * (number % 7)), a=number / 40) for number in range(40)]
    diverged = [past({}, TrialState.FAIL, why="diverged", a=0.5 + number / 80) for number in range(40)]
    assert median(proposals(study_of([*trials[:20], *diverged]))) < 0.5


def test_the_first_trials_are_random_whatever_is_known() -> None:
    study, other = study_of([]), study_of([], "random")
    for running in (study, other):
        trial = running.ask()
        trial.suggest_float("a", 0, 1)
        running.tell(trial, 1.0)
    assert proposals(study, 5) == proposals(other, 5)


@pytest.mark.parametrize("trials", [1, 10, 24, 64, 200, 600, 10_000])
def test_random_starts_are_a_share_of_the_search_and_at_most_fifty(trials: int) -> None:
    assert startup_trials(trials) <= startup_trials(trials + 1) <= 50
    assert startup_trials(trials) <= max(5, trials / 2)


def test_running_trials_keep_proposals_apart() -> None:
    """Without the constant liar, proposals made in a row with nothing learned between them would repeat themselves."""
    trials = [past(flat(8, -abs(a / 30 - 0.5)), a=a / 30) for a in range(30)]
    assert len({round(value, 6) for value in proposals(study_of(trials), 10)}) == 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_driver_that_was_killed_proposes_the_same(name: str, seed: int) -> None:
    """A second sampler, which has proposed nothing yet, and a study with the same trials."""
    draw = numeric if name == "cmaes" else conditional
    study, _ = searched(name, draw, seed=seed)
    resumed = optuna.create_study(direction="maximize", sampler=sampler(name, seed))
    resumed.add_trials(study.trials)
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        resumed._storage.set_study_system_attr(resumed._study_id, key, value)
    assert [draw(study.ask()) for _ in range(3)] == [draw(resumed.ask()) for _ in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_attached_again_gets_the_same_values_for_what_is_not_drawn_yet(name: str) -> None:
    draw = numeric if name == "cmaes" else conditional
    study, _ = searched(name, draw)
    whole = study.ask()
    expected = draw(whole)

    again, _ = searched(name, draw)
    asked = again.ask()
    asked.suggest_float("rate", 1e-4, 1, log=True)
    attached = optuna.Trial(again, asked._trial_id)
    assert draw(attached) == expected
    assert draw(optuna.Trial(again, asked._trial_id)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_numbers_differ(name: str) -> None:
    _, one = searched(name, numeric, trials=12, seed=1)
    _, two = searched(name, numeric, trials=12, seed=2)
    assert one != two
    assert len({values["rate"] for values in one}) > 9  # the Gaussian process goes to an edge more than once


def test_derived_seeds_differ_by_seed_number_and_name() -> None:
    seeds = {derived_seed(seed, number, name) for seed in (0, 1) for number in range(50) for name in ("", "a", "b")}
    assert len(seeds) == 300
    assert derived_seed(7, 3, "rate") == derived_seed(7, 3, "rate")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cmaes"])
def test_conditional_spaces_are_searched(name: str) -> None:
    _, drawn = searched(name, conditional, trials=30)
    assert {values["optimizer"] for values in drawn} == {"sgd", "adam"}
    assert all(("momentum" in values) == (values["optimizer"] == "sgd") for values in drawn)


@pytest.mark.parametrize(("name", "trials"), [("tpe", 80), ("plain_tpe", 80), ("cmaes", 80), ("gp", 40)])
def test_what_is_good_is_found(name: str, trials: int) -> None:
    _, drawn = searched(name, numeric, trials=trials)
    misses = [abs(values["depth"] - 5) for values in drawn]
    assert sum(misses[-10:]) < sum(misses[:10])


def test_quasi_random_points_fill_the_space_evenly() -> None:
    """Of 32 Sobol points one lies in each 32nd of an axis, the first aside: its space is not known before it."""
    study = optuna.create_study(sampler=sampler("qmc"))
    first = study.ask()
    first.suggest_float("a", 0, 1)
    study.tell(first, 0.0)
    cells = {int(32 * value) for value in proposals(study, 31)}
    assert len(cells) == 31


def test_thousands_of_trials_are_no_obstacle() -> None:
    distributions = {"a": FloatDistribution(0, 1), "kind": CategoricalDistribution(["x", "y"])}
    study = study_of([])
    study.add_trials(
        create_trial(
            state=TrialState.PRUNED,
            params={"a": number / 2000, "kind": "xy"[number % 2]},
            distributions=distributions,
            intermediate_values=dict.fromkeys((1, 2, *((8,) if number % 4 == 0 else ())), -number / 2000),
        )
        for number in range(2000)
    )
    drawn = []
    for _ in range(5):
        trial = study.ask()
        drawn.append(trial.suggest_float("a", 0, 1))
        trial.suggest_categorical("kind", ["x", "y"])
        trial.suggest_float("new", 0, 1)
    assert max(drawn) < 0.5


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES:
            searched(name, conditional, trials=8)
