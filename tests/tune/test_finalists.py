import pytest

from tune.finalists import best_few, finalists, fresh_seeds, mean_interval
from tune.trials import Trial


def trial(number, values, state="completed", **hparams):
    """One with a checkpoint of each epoch that has a value."""
    made = Trial(number, hparams or {"learning_rate": number / 10}, state=state, values=values)
    made.checkpoints = {epoch: f"trials/{number}/{epoch}" for epoch in values}
    return made


def numbers(trials):
    return [each.number for each in trials]


def test_no_hparams_are_trained_twice():
    trials = [trial(0, {1: 0.9}, width=1), trial(1, {1: 0.8}, width=1), trial(2, {1: 0.7}, width=2)]
    assert numbers(best_few(trials, 2)) == [0, 2]
    assert numbers(best_few(trials, 1)) == [0]
    assert best_few([], 3) == []


def test_the_mean_over_seeds_decides_and_the_drop_is_what_the_search_flattered():
    lucky, steady = trial(0, {1: 0.98, 2: 0.99}), trial(1, {1: 0.9, 2: 0.95})
    curves = {0: [[0.9, 0.8], [0.7, 0.92]], 1: [[0.1, 0.94], [0.2, 0.95]]}
    first, second = finalists([lucky, steady], curves, maximize=True)
    assert (first.trial, second.trial) == (steady, lucky)
    assert first.drop(maximize=True) == pytest.approx(0.005)
    assert second.drop(maximize=True) == pytest.approx(0.08)
    assert (second.score, second.mean) == (0.99, pytest.approx(0.91))


def test_the_score_of_a_trial_that_was_stopped_is_held_against_as_many_epochs():
    stopped = trial(0, {1: 0.5, 2: 0.7}, state="stopped")
    (only,) = finalists([stopped], {0: [[0.4, 0.66, 0.9], [0.5, 0.64, 0.8]]}, maximize=True)
    assert only.values == (0.9, 0.8)
    assert only.alike == (0.66, 0.64)
    assert only.drop(maximize=True) == pytest.approx(0.05), "not the two tenths that it had no time for"


def test_a_loss_is_better_when_it_is_lower():
    trials = [trial(0, {1: 0.2}), trial(1, {1: 0.3})]
    first, second = finalists(trials, {0: [[0.5], [0.6]], 1: [[0.3], [0.4]]}, maximize=False)
    assert first.trial.number == 1
    assert second.drop(maximize=False) == pytest.approx(0.35)


def test_one_that_broke_off_with_a_seed_comes_after_all_that_did_not():
    trials = [trial(0, {1: 0.99}), trial(1, {1: 0.9}), trial(2, {1: 0.8})]
    ranked = finalists(trials, {0: [[0.99], None], 1: [[0.7], [0.7]], 2: [None, None]}, maximize=True)
    assert [(each.trial.number, each.broken) for each in ranked] == [(1, 0), (0, 1), (2, 2)]
    assert ranked[2].values == ()


def test_equal_means_leave_the_order_of_the_search():
    trials = [trial(3, {1: 0.9}), trial(1, {1: 0.8})]
    assert numbers(each.trial for each in finalists(trials, {3: [[0.5]], 1: [[0.5]]}, maximize=True)) == [3, 1]


def test_published_values_of_students_interval():
    # Student's own sleep data, as R's t.test(extra, group 2) gives it
    hours = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert mean_interval(hours) == pytest.approx((0.8976775, 3.7623225), abs=1e-6)
    assert mean_interval([0.5]) is None
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ((), (1, 2, 3)),
        (("search.seed=7", "retrain.seeds=2"), (8, 9)),
        (("retrain.seeds=0",), ()),
        (("search.seed=4294967295", "retrain.seeds=2"), (0, 1)),
        (("scheduler.type=pbt", "search.trials=4"), ()),
    ],
)
def test_fresh_seeds_are_never_the_searchs_own(experiment, fields, seeds):
    made = experiment(*fields)
    assert fresh_seeds(made.retrain, made.scheduler, made.search) == seeds
