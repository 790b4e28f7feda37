"""Several objectives: what the file may say, the front, and the rule by which the winner is taken."""

import pytest

from tune.errors import SearchFailedError
from tune.objectives import best_figures, front, in_order, not_dominated, ranked, within_bounds
from tune.trials import Trial, best_trial, by_value

TWO = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"


@pytest.fixture
def two(experiment):
    """A search for accuracy and few parameters, with further fields."""
    return lambda *fields: experiment(TWO, *fields)


def trial(number: int, accuracy: float, parameters: float, state: str = "completed", epochs: int = 1) -> Trial:
    """One that reached `accuracy` in its last epoch, with a checkpoint of each."""
    values = {epoch: accuracy * epoch / epochs for epoch in range(1, epochs + 1)}
    told = {epoch: {"val_accuracy": value, "parameters": parameters} for epoch, value in values.items()}
    return Trial(number, {}, state, values, checkpoints=dict.fromkeys(values, f"{number}"), figures=told)


def numbers(trials: list[Trial]) -> list[int]:
    return [each.number for each in trials]


# What each trial has


def test_metrics_are_of_the_best_epoch_of_the_main_one_and_costs_the_median(experiment):
    search = experiment(
        "search.objectives=[{metric: epoch_seconds}, {metric: val_loss}, {metric: val_accuracy}]"
    ).search
    assert (search.metric, search.maximize) == ("val_loss", False)
    told = {
        epoch: {"epoch_seconds": seconds, "val_loss": loss, "val_accuracy": right}
        for epoch, (seconds, loss, right) in enumerate([(9.0, 0.5, 0.7), (1.0, 0.2, 0.8), (2.0, 0.3, 0.9)], 1)
    }
    one = Trial(0, {}, "completed", {epoch: each["val_loss"] for epoch, each in told.items()}, figures=told)
    assert best_figures(search, one) == {"epoch_seconds": 2.0, "val_loss": 0.2, "val_accuracy": 0.8}
    assert best_figures(search, one, kept=True) == {}, "no checkpoint"
    one.checkpoints = {3: "there"}
    assert best_figures(search, one, kept=True) == {"epoch_seconds": 2.0, "val_loss": 0.3, "val_accuracy": 0.9}
    del told[2]["epoch_seconds"]
    assert best_figures(search, one) == {}, "one is missing"


# The front


@pytest.mark.parametrize(
    ("points", "unbeaten"),
    [
        ([], []),
        ([(1.0, 1.0)], [True]),
        ([(1.0, 2.0), (2.0, 1.0)], [True, True]),
        ([(1.0, 2.0), (1.0, 3.0)], [True, False]),
        ([(1.0, 2.0), (1.0, 2.0)], [True, True]),
        ([(1.0, 2.0), (1.0, 2.0), (0.5, 2.0)], [False, False, True]),
        ([(1.0, 1.0, 9.0), (2.0, 2.0, 8.0), (2.0, 2.0, 9.0)], [True, True, False]),
    ],
)
def test_a_point_is_beaten_by_one_as_low_everywhere_and_lower_somewhere(points, unbeaten):
    assert list(not_dominated(points)) == unbeaten


def test_the_front_is_in_the_order_of_the_first_objective_without_what_failed(two):
    trials = [
        trial(0, 0.7, 10),
        trial(1, 0.9, 30),
        trial(2, 0.8, 30),
        trial(3, 0.8, 20),
        trial(4, 0.99, 1, "diverged"),
        trial(5, 0.99, 1, "failed"),
        trial(6, 0.7, 10, "stopped"),
        Trial(7, {}, "completed"),
    ]
    assert numbers(front(two().search, trials)) == [1, 3, 0, 6]


def test_with_one_metric_there_is_no_front(experiment):
    assert front(experiment().search, [trial(0, 0.7, 10)]) == []


# The rule


def test_the_first_objective_decides_then_the_others_then_fewer_epochs_then_the_number(two):
    trials = [
        trial(0, 0.8, 5),
        trial(1, 0.9, 30),
        trial(2, 0.9, 20, epochs=2),
        trial(3, 0.9, 20),
        trial(4, 0.9, 20),
    ]
    assert numbers(ranked(two(), trials)) == [3, 4, 2, 1, 0]
    assert within_bounds(two().search) == ""


def test_any_objective_may_decide_and_bounds_leave_trials_out(two):
    trials = [trial(0, 0.7, 10), trial(1, 0.9, 30), trial(2, 0.8, 20), trial(3, 0.85, 20.5)]
    bounded = two("search.choose.subject_to.parameters.upper=20")
    assert numbers(ranked(bounded, trials)) == [2, 0], "a bound is within"
    assert within_bounds(bounded.search) == " with parameters at most 20"
    small = two("search.choose={min: parameters, subject_to: {val_accuracy: {lower: 0.8, upper: 0.95}}}")
    assert numbers(ranked(small, trials)) == [2, 3, 1]
    assert within_bounds(small.search) == " with val_accuracy at least 0.8 and val_accuracy at most 0.95"


def test_only_what_ended_soundly_and_has_a_checkpoint_can_win(two):
    lost = trial(0, 0.9, 1)
    lost.checkpoints = {}
    others = [trial(number, 0.9, 1, state) for number, state in enumerate(["diverged", "failed", "paused"], 1)]
    assert ranked(two(), [lost, *others]) == []
    assert ranked(two("search.choose.subject_to.parameters.upper=0"), [lost, *others]) == []
    assert numbers(ranked(two(), [lost, *others, trial(4, 0.1, 1, "stopped")])) == [4]


def test_where_none_is_within_the_bounds_the_closest_is_named(two):
    bounded = two("search.choose.subject_to={parameters: {upper: 10000}, val_accuracy: {lower: 0.9}}")
    trials = [trial(0, 0.91, 15_000), trial(1, 0.8, 11_000), trial(2, 0.2, 11_000)]
    with pytest.raises(SearchFailedError) as caught:
        ranked(bounded, trials)
    assert str(caught.value) == (
        "none of 3 trials is within search.choose (val_accuracy at least 0.9, parameters at most 10,000): the closest, "
        "trial 1, has val_accuracy 0.8, parameters 11,000; to go on, move the bound or raise search.trials, with "
        "--resume"
    )
    assert caught.value.traceback == ""
    assert numbers(in_order(bounded.search, trials)) == [1, 0, 2], "whose checkpoints are kept first"


@pytest.mark.parametrize("mode", ["max", "min"])
def test_with_one_metric_the_order_is_that_of_the_values(experiment, mode):
    one = experiment(f"search.mode={mode}")
    trials = [
        trial(0, 0.5, 1),
        trial(1, 0.9, 1, epochs=3),
        trial(2, 0.9, 1),
        trial(3, 0.9, 1),
        trial(4, 0.2, 1, "failed"),
    ]
    trials[0].checkpoints = {}
    maximize = mode == "max"
    assert in_order(one.search, trials) == by_value(trials, maximize)
    assert in_order(one.search, trials)[0] is best_trial(trials, maximize)
    assert ranked(one, trials) == [each for each in by_value(trials[1:], maximize) if each.checkpoints]


# What the file says


def test_what_is_not_said_follows_from_the_objectives(experiment):
    both = experiment("search.objectives=[{metric: flops}, {metric: val_loss, mode: max}]")
    assert [each.mode for each in both.search.objectives] == ["min", "max"]
    assert (both.search.metric, both.search.mode, both.search.maximize) == ("val_loss", "max", True)
    assert (both.search.sampler, both.scheduler.type) == ("tpe", "none")
    assert (both.search.choose.min, both.search.choose.subject_to) == ("flops", {})
    one = experiment()
    assert (one.search.metric, one.search.sampler, one.scheduler.type) == ("val_accuracy", "gp", "asha")
    assert one.search.choose is None


SEVERAL = """\
data: {source: digits}
space: {width: {type: float, lower: 0.5, upper: 1.0}}
search:
  objectives: [{metric: val_accuracy}, {metric: inference_ms}]
"""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  metric: val_loss", "5:11: search.metric: got 'val_loss', is for one metric, not for several search.obj"),
        (
            "  mode: max",
            "5:9: search.mode: got 'max', is for one metric, not for several search.objectives: leave it out",
        ),
        ("  target: 95", "5:11: search.target: got 95.0, is for one metric, not for several search.objectives: leave"),
        ("  patience: 3", "5:13: search.patience: got 3, is for one metric"),
        ("  warm_start: [other]", "search.warm_start: got ['other'], is for one metric"),
        (
            "  sampler: gp",
            "5:12: search.sampler: got 'gp', learns from one metric, not from several search.objectives: use one of "
            "tpe, nsga2, qmc, random, grid",
        ),
        (
            "scheduler: {type: asha}",
            "5:19: scheduler.type: got 'asha', stops trials by one metric, not by several search.objectives: set "
            "scheduler.type none, or leave it out",
        ),
        (
            "  choose: {max: inference_ms}",
            "5:17: search.choose.max: got 'inference_ms', is to be min, as its objective says: write min: inference_ms",
        ),
        (
            "  choose: {min: parameters}",
            "5:17: search.choose.min: got 'parameters', must be one of search.objectives, val_accuracy, inference_ms",
        ),
        (
            "  choose: {max: val_accuracy, min: inference_ms}",
            "5:36: search.choose.min: got 'inference_ms', cannot stand beside max: leave one of them out",
        ),
        (
            "  choose: {subject_to: {val_loss: {upper: 1}}}",
            "5:25: search.choose.subject_to.val_loss: must be one of search.objectives, val_accuracy, inference_ms",
        ),
        (
            "  choose: {subject_to: {inference: {upper: 1}}}",
            "search.choose.subject_to.inference: got 'inference', must be one of train_loss, train_accuracy, val_loss, "
            "val_accuracy, parameters, flops, epoch_seconds, inference_ms; did you mean 'inference_ms'?",
        ),
        (
            "  choose: {subject_to: {inference_ms: {}}}",
            "5:25: search.choose.subject_to.inference_ms: must have a lower or an upper bound: give one, or leave it",
        ),
        (
            "  choose: {subject_to: {inference_ms: {lower: 3, upper: 2}}}",
            "5:47: search.choose.subject_to.inference_ms.lower: got 3.0, must be at most upper, 2",
        ),
        (
            "  choose: {subject_to: {inference_ms: {max: 2}}}",
            "5:40: search.choose.subject_to.inference_ms.max: unknown name; did you mean 'upper'?",
        ),
    ],
)
def test_what_does_not_go_with_several_objectives(complaints, more, message):
    (found,) = complaints(f"{SEVERAL}{more}\n")
    assert message in found


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "{objectives: [{metric: val_loss}]}",
            "3:10: search.objectives: must be 2 to 4, and there are 1; a single one is search.metric",
        ),
        ("{objectives: []}", "search.objectives: must be 2 to 4, and there are 0; a single one is search.metric"),
        ("{objectives: 3}", "search.objectives: got 3, must be a list"),
        (
            "{objectives: [{metric: parameters}, {metric: flops}]}",
            "3:10: search.objectives: must have one that a training logs: add one of train_loss, train_",
        ),
        (
            "{objectives: [{metric: val_loss}, {metric: flops}, {metric: val_loss}]}",
            "3:69: search.objectives.2.metric: got 'val_loss', is there already: leave it out here",
        ),
        (
            "{objectives: [{metric: val_loss}, {metric: flop}]}",
            "3:52: search.objectives.1.metric: got 'flop', must be one of train_loss, train_accuracy, val_loss, "
            "val_accuracy, parameters, flops, epoch_seconds, inference_ms; did you mean 'flops'?",
        ),
        (
            "{objectives: [{metric: val_loss, mod: max}, {metric: flops}]}",
            "3:42: search.objectives.0.mod: unknown name; did you mean 'mode'?",
        ),
        ("{objectives: [{metric: val_loss}, {mode: max}]}", "search.objectives.1: metric is missing"),
        (
            "{sampler: nsga2}",
            "3:19: search.sampler: got 'nsga2', is for several search.objectives: give those too, or use gp",
        ),
        (
            "{choose: {max: val_accuracy}}",
            "3:10: search.choose: is for several search.objectives: give those too, or leave this out",
        ),
    ],
)
def test_what_is_wrong_with_objectives(complaints, search, message):
    (found,) = complaints(f"data: {{source: digits}}\nspace: {{}}\nsearch: {search}\n")
    assert message in found


def test_five_objectives_are_too_many(complaints):
    names = ("val_loss", "val_accuracy", "parameters", "flops", "inference_ms")
    given = ", ".join(f"{{metric: {name}}}" for name in names)
    (found,) = complaints(f"data: {{source: digits}}\nspace: {{}}\nsearch: {{objectives: [{given}]}}\n")
    assert found == "search.yaml:3:10: search.objectives: must be 2 to 4, and there are 5; leave some out"
