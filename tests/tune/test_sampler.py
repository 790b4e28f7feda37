import warnings
from itertools import pairwise
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.sampler import derived_seed, make_sampler, population_of, startup_trials
from tune.sections import SearchConfig
from tune.space import Choice, Numeric, Space

LEVELS = (2, 8, 32)
LEARNING = ["gp", "tpe"]  # from comparable numbers
NAMES = ["gp", "tpe", "plain_gp", "plain_tpe", "cmaes", "nsga2", "qmc", "random", "grid"]

pytestmark = pytest.mark.filterwarnings(
    # Optuna says so once, when its Gaussian process could be faster
    "ignore:.*greenlet.*",
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


ONE = Space((Numeric("a", "a", 0, 1, False, None),))
NUMERIC = Space((Numeric("rate", "rate", 1e-4, 1, True, None), Numeric("depth", "depth", 1, 9, False, 1)))
MOMENTUM = Space((Numeric("momentum", "momentum", 0, 1, False, None),))
BETA = Space((Numeric("beta", "beta", 0.9, 0.999, False, None),))
CONDITIONAL = Space((*NUMERIC.domains, Choice("optimizer", "optimizer", ("sgd", "adam"), (MOMENTUM, BETA))))


def sampler(
    name: str = "gp", seed: int = 0, trials: int = 40, space: Space = CONDITIONAL
) -> optuna.samplers.BaseSampler:
    return make_sampler(SearchConfig.model_validate({"sampler": name, "seed": seed, "trials": trials}), space, LEVELS)


def study_of(
    trials: list[FrozenTrial], name: str = "gp", seed: int = 0, direction: str = "maximize", space: Space = ONE
) -> optuna.Study:
    study = optuna.create_study(direction=direction, sampler=sampler(name, seed, space=space))
    study.add_trials(trials)
    return study


def searched(name: str, space: Space, trials: int = 24, seed: int = 0) -> tuple[optuna.Study, list[dict[str, Any]]]:
    """A search of which every fourth trial gets to the end."""
    study = optuna.create_study(direction="maximize", sampler=sampler(name, seed, space=space))
    drawn = []
    for number in range(trials):
        trial = study.ask()
        drawn.append(space.draw(trial))
        value = -abs(trial.params["depth"] - 5) - trial.params["rate"]
        for epoch in range(1, 33 if number % 4 == 0 else 3):
            trial.report(value + epoch / 100, epoch)
        if number % 4:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return study, drawn


def proposals(study: optuna.Study, count: int = 30) -> list[float]:
    return [study.ask().suggest_float("a", 0, 1) for _ in range(count)]


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_proposals_go_where_values_were_good_at_the_level_not_where_the_last_ones_were(
    name: str, direction: str, past
) -> None:
    """The low end of `a` is good after 8 epochs; the trials that went on, all from the high end, got better still."""
    sign = 1 if direction == "maximize" else -1
    points = [(number + 0.5) / 30 for number in range(30)]
    at_level = {a: {2: 0.1 * sign, 8: sign * (1 - a)} for a in points}
    trials = [past(at_level[a] if a < 0.9 else at_level[a] | {16: 5.0 * sign}, a=a) for a in points]
    assert median(proposals(study_of(trials, name, direction=direction))) < 0.3


@pytest.mark.parametrize("name", LEARNING)
def test_diverged_trials_drive_proposals_away(name: str, past, flat) -> None:
    trials = [past(flat(8, 0.5 + 0.001 * (number % 7)), a=number / 40) for number in range(40)]
    diverged = [past({}, TrialState.FAIL, why="diverged", a=0.5 + number / 80) for number in range(40)]
    assert median(proposals(study_of([*trials[:20], *diverged], name))) < 0.5


@pytest.mark.parametrize("name", LEARNING)
def test_the_first_trials_are_random_whatever_is_known(name: str, past, flat) -> None:
    known = [past(flat(8, -a), a=a) for a in (0.1, 0.3, 0.5, 0.7)]
    assert proposals(study_of(known, name), 6) == proposals(study_of(known, "random"), 6)
    assert proposals(study_of(known * 3, name), 6) != proposals(study_of(known * 3, "random"), 6)


def test_a_search_that_is_extended_has_no_random_trials_again() -> None:
    study, _ = searched("gp", NUMERIC, trials=14)
    longer = optuna.create_study(direction="maximize", sampler=sampler("gp", trials=400, space=NUMERIC))
    longer.add_trials(study.trials)
    assert [NUMERIC.draw(longer.ask()) for _ in range(3)] == [NUMERIC.draw(study.ask()) for _ in range(3)]


def test_a_kernel_is_fitted_when_much_more_is_known() -> None:
    study, _ = searched("gp", CONDITIONAL, trials=60)
    fits = [trial.number for trial in study.trials if "gp" in trial.system_attrs]
    assert fits[0] == startup_trials(40)
    assert all(later >= 1.15 * earlier for earlier, later in pairwise(fits))
    assert len(fits) > 6


def test_what_is_being_trained_is_known_to_the_next_proposal(past, flat) -> None:
    """Nothing is known above 0.6: a proposal goes there, and where others are on the way, beyond them."""
    trials = [past(flat(8, 0.5 + 0.001 * (number % 3)), a=number / 50) for number in range(30)]
    failed = past({}, TrialState.FAIL, why="failed", a=0.9)
    beside = [past({}, TrialState.RUNNING, a=0.6 + number / 20) for number in range(8)]
    assert 0.6 < proposals(study_of([*trials, *[failed] * 8]), 1)[0] < 0.8
    assert proposals(study_of([*trials, *beside]), 1)[0] > 0.95


def test_what_a_starting_point_leaves_out_is_chosen_for_what_it_gives(past, flat) -> None:
    study, _ = searched("gp", NUMERIC, trials=40)
    for depth in (1, 9):
        study.enqueue_trial({"depth": depth})
        assert NUMERIC.draw(study.ask())["depth"] == depth
    trials = [past(flat(8, -abs(a / 6 - b / 6)), a=a / 6, b=b / 6) for a in range(7) for b in range(7)]
    space = Space((*ONE.domains, Numeric("b", "b", 0, 1, False, None)))
    like = study_of(trials, space=space)
    found = []
    for b in (0.1, 0.9) * 5:
        like.enqueue_trial({"b": b})
        found.append(abs(space.draw(like.ask())["a"] - b))
    assert median(found) < 0.15


@pytest.mark.parametrize("trials", [1, 10, 24, 64, 200, 600, 10_000])
def test_random_starts_are_a_share_of_the_search_and_at_most_thirty(trials: int) -> None:
    assert startup_trials(trials) <= startup_trials(trials + 1) <= 30
    assert startup_trials(trials) <= max(5, trials / 2)


@pytest.mark.parametrize("name", LEARNING)
def test_proposals_made_in_a_row_differ_though_nothing_is_learned_between_them(name: str, past, flat) -> None:
    trials = [past(flat(8, -abs(a / 30 - 0.5)), a=a / 30) for a in range(30)]
    assert len({round(value, 6) for value in proposals(study_of(trials, name), 10)}) == 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_driver_that_was_killed_proposes_the_same(name: str, seed: int) -> None:
    """A second sampler, which has proposed nothing yet, and a study with the same trials."""
    space = NUMERIC if name == "cmaes" else CONDITIONAL
    study, _ = searched(name, space, seed=seed)
    resumed = optuna.create_study(direction="maximize", sampler=sampler(name, seed, space=space))
    resumed.add_trials(study.trials)
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        resumed._storage.set_study_system_attr(resumed._study_id, key, value)
    assert [space.draw(study.ask()) for _ in range(3)] == [space.draw(resumed.ask()) for _ in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_attached_again_gets_the_same_values_for_what_is_not_drawn_yet(name: str) -> None:
    space = NUMERIC if name == "cmaes" else CONDITIONAL
    study, _ = searched(name, space)
    whole = study.ask()
    expected = space.draw(whole)

    again, _ = searched(name, space)
    asked = again.ask()
    asked.suggest_float("rate", 1e-4, 1, log=True)
    attached = optuna.Trial(again, asked._trial_id)
    assert space.draw(attached) == expected
    assert space.draw(optuna.Trial(again, asked._trial_id)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_numbers_differ(name: str) -> None:
    _, one = searched(name, NUMERIC, trials=12, seed=1)
    _, two = searched(name, NUMERIC, trials=12, seed=2)
    assert one != two
    assert len({values["rate"] for values in one}) > 9  # Optuna's Gaussian process goes to an edge more than once


@pytest.mark.parametrize("trials", [1, 40, 100, 250, 10_000])
def test_a_generation_is_a_fifth_of_the_search_within_bounds(trials: int) -> None:
    assert population_of(trials) == {1: 8, 40: 8, 100: 20, 250: 50, 10_000: 50}[trials]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_of_several_objectives_the_front_is_sought(name: str) -> None:
    """Of points in a square those near an edge of it, where one coordinate is traded for the other."""
    given = {"objectives": [{"metric": "val_accuracy"}, {"metric": "parameters"}], "sampler": name, "trials": 120}
    square = Space((Numeric("a", "a", 0, 1, False, None), Numeric("b", "b", 0, 1, False, None)))
    found = make_sampler(SearchConfig.model_validate(given), square, LEVELS)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=found)
    for _ in range(120):
        point = square.draw(trial := study.ask())
        study.tell(trial, [point["a"] - point["b"], point["a"] ** 2])
    values = [trial.params["b"] for trial in study.trials]
    assert median(values[60:]) < 0.7 * median(values[:24])


def test_derived_seeds_differ_by_seed_number_and_name() -> None:
    seeds = {derived_seed(seed, number, name) for seed in (0, 1) for number in range(50) for name in ("", "a", "b")}
    assert len(seeds) == 300
    assert derived_seed(7, 3, "rate") == derived_seed(7, 3, "rate")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cmaes"])
def test_conditional_spaces_are_searched(name: str) -> None:
    _, drawn = searched(name, CONDITIONAL, trials=30)
    assert {values["optimizer"] for values in drawn} == {"sgd", "adam"}
    assert all(("momentum" in values) == (values["optimizer"] == "sgd") for values in drawn)


@pytest.mark.parametrize(("name", "trials"), [("tpe", 80), ("plain_tpe", 80), ("cmaes", 80), ("gp", 40)])
def test_what_is_good_is_found(name: str, trials: int) -> None:
    _, drawn = searched(name, NUMERIC, trials=trials)
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


@pytest.mark.parametrize("name", LEARNING)
def test_thousands_of_trials_are_no_obstacle(name: str) -> None:
    distributions = {"a": FloatDistribution(0, 1), "kind": CategoricalDistribution(["x", "y"])}
    study = study_of([], name, space=Space((*ONE.domains, Choice("kind", "kind", ("x", "y"), (Space(), Space())))))
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
            searched(name, CONDITIONAL, trials=24)
