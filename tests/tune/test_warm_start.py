import json
import math
import re
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from tune.errors import ResumeError, StorageError
from tune.experiment import ExperimentDir, begin
from tune.open_study import open_study
from tune.storage import open_storage

FIELDS = ("scheduler.type=none", "scheduler.max_epochs=2", "search.sampler=random")
SGD = "space={optimizer: sgd, momentum: {type: float, lower: 0.5, upper: 0.9}}"
BOTH = """space={optimizer: {type: categorical, options: {
    adamw: {beta2: {type: float, lower: 0.9, upper: 0.99}},
    adam: {beta2: {type: float, lower: 0.8, upper: 0.99}},
    sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}},
}}}"""


@pytest.fixture
def earlier(session, experiment, storage):
    """A search that began with these fields, in the folder `earlier`, of images with the fingerprint f00d."""

    def make(*fields: str, folder: str = "earlier", **options):
        begin(ExperimentDir(storage / folder), experiment(*FIELDS, *fields), "python -m tune.run", "f00d")
        return session(*FIELDS, *fields, folder=folder, **options)

    return make


def points(*learning_rates: float) -> str:
    return f"search.start={json.dumps([{'learning_rate': rate, 'translate': 0} for rate in learning_rates])}"


def learned(one) -> list:
    """The trials in its study that are others'."""
    return [trial for trial in one.record.study.trials if "from" in trial.user_attrs]


def test_trials_that_fit_are_given_whole(session, earlier):
    before = earlier("search.trials=3").run().record.study.trials
    one = session(*FIELDS, "search.warm_start=[earlier]")
    assert one.notes == ["warm start from earlier: 3 trials given to the sampler"]
    for trial, source in zip(learned(one), before, strict=True):
        assert trial.user_attrs["from"] == ["earlier", source.number]
        assert (trial.params, trial.distributions) == (source.params, source.distributions)
        assert (trial.state, trial.value) == (TrialState.COMPLETE, source.value)
        assert trial.intermediate_values == source.intermediate_values


def test_an_earlier_search_with_several_objectives_is_refused(session, earlier):
    earlier("search.objectives=[{metric: val_accuracy}, {metric: parameters}]", "search.trials=1").run()
    with pytest.raises(ResumeError) as caught:
        session(*FIELDS, "search.warm_start=[earlier]")
    assert str(caught.value) == ("search.warm_start: earlier has several objectives, this search one; leave it out")


def test_they_are_no_trials_of_this_search(session, earlier):
    earlier("search.trials=3").run()
    one = session(*FIELDS, "search.warm_start=[earlier]", "search.trials=2")
    assert (one.trials, one.record.trials(), one.record.ended()) == ({}, [], [])
    one.run()
    assert [(trial.number, trial.state) for trial in one.record.trials()] == [(3, "completed"), (4, "completed")]


def test_the_limits_of_this_search_are_not_theirs(session, earlier):
    earlier("search.trials=3").run()
    limits = ("search.patience=1", "search.target=0.01", "search.epoch_budget=1")
    assert session(*FIELDS, "search.warm_start=[earlier]", *limits).conductor.over == ""


def test_the_sampler_learns_from_them(session, earlier):
    def distance(one) -> float:
        """Of its proposals from the best learning rate, in orders of magnitude."""
        trials = one.run().trials.values()
        return sum(abs(math.log10(trial.hparams["learning_rate"]) + 2) for trial in trials) / len(trials)

    earlier("search.trials=40").run()
    fields = ("scheduler.type=none", "scheduler.max_epochs=2", "search.trials=5")  # all of them drawn at random, cold
    cold = distance(session(*fields, folder="cold"))
    assert distance(session(*fields, "search.warm_start=[earlier]", folder="warm")) < cold / 2


def test_starting_points_come_first_though_there_is_a_warm_start(session, earlier):
    earlier("search.trials=2").run()
    one = session(*FIELDS, "search.warm_start=[earlier]", points(0.5, 0.25))
    assert [one.conductor.next().trial.hparams["learning_rate"]] == [0.5]


@pytest.mark.parametrize(
    ("longest", "state"), [(1, TrialState.COMPLETE), (2, TrialState.COMPLETE), (3, TrialState.PRUNED)]
)
def test_a_training_shorter_than_this_searchs_is_like_a_stopped_one(session, earlier, longest, state):
    (source,) = earlier("search.trials=1").run().record.study.trials
    (trial,) = learned(session(*FIELDS, f"scheduler.max_epochs={longest}", "search.warm_start=[earlier]"))
    assert trial.state is state
    assert trial.intermediate_values == source.intermediate_values


def test_how_a_trial_ended_is_known(session, earlier):
    other = earlier("search.trials=4", slots=4)
    other.fill()
    other.train(0)
    other.train(0)
    for number, trained in ((1, True), (2, False)):
        if trained:
            other.train(number)
        other.measure(number, math.nan, broken="val_loss was nan")
        other.leave(number)
        other.conductor.ended(number)
    other.train(3)  # and runs on
    one = session(*FIELDS, "search.warm_start=[earlier]")
    assert one.notes == ["warm start from earlier: 3 trials given to the sampler"], "one has no value to learn from"
    assert {trial.user_attrs["from"][1]: (trial.state, trial.user_attrs.get("state")) for trial in learned(one)} == {
        0: (TrialState.COMPLETE, "completed"),
        1: (TrialState.FAIL, "diverged"),
        3: (TrialState.PRUNED, None),
    }


# What does not fit


def test_what_does_not_fit_is_left_out_and_named(session, earlier):
    earlier("search.trials=3", points(0.5, 1e-3, 0.01)).run()
    one = session(
        *FIELDS, "search.warm_start=[earlier]", "space.learning_rate.upper=0.1", "space.learning_rate.lower=0.002"
    )
    assert one.notes == [
        "warm start from earlier: 1 trial given to the sampler, 2 left out: "
        "trial 0 (learning_rate 0.5 is above 0.1), trial 1 (learning_rate 0.001 is below 0.002)"
    ]
    assert [trial.params["learning_rate"] for trial in learned(one)] == [0.01]


def test_three_of_many_that_are_left_out_are_named(session, earlier):
    earlier("search.trials=5").run()
    one = session(*FIELDS, "search.warm_start=[earlier]", "space.network=resnet9")
    misfit = "(network is resnet18, here resnet9)"
    assert one.notes == [
        "warm start from earlier: 0 trials given to the sampler, 5 left out: "
        f"trial 0 {misfit}, trial 1 {misfit}, trial 2 {misfit} and 2 more"
    ]
    assert learned(one) == []


def test_trials_of_a_flat_space_are_points_of_a_conditional_one(session, earlier):
    (source,) = earlier(SGD, "search.trials=1").run().trials.values()
    (trial,) = learned(session(*FIELDS, BOTH, "search.warm_start=[earlier]"))
    assert trial.params == {"optimizer": "sgd", "momentum": source.hparams["momentum"]}
    assert set(trial.distributions) == {"optimizer", "momentum"}


def test_the_condition_says_whether_a_trial_fits(session, earlier):
    start = "{optimizer: adamw, beta2: 0.95}, {optimizer: adam, beta2: 0.95}, {optimizer: sgd, momentum: 0.6}"
    earlier(BOTH, f"search.start=[{start}]", "search.trials=3").run()
    narrower = BOTH.replace("0.8,", "0.96,").replace("0.5,", "0.55,")
    one = session(*FIELDS, narrower, "search.warm_start=[earlier]")
    assert one.notes == [
        "warm start from earlier: 2 trials given to the sampler, 1 left out: trial 1 (beta2 0.95 is below 0.96)"
    ]
    assert [trial.params for trial in learned(one)] == [
        {"optimizer": "adamw", "beta2[optimizer=adamw]": 0.95},
        {"optimizer": "sgd", "momentum": 0.6},
    ]


def test_fewer_options_than_the_earlier_search_had_are_no_hindrance(session, earlier):
    earlier(BOTH, "search.start=[{optimizer: adam}, {optimizer: sgd, momentum: 0.6}]", "search.trials=2").run()
    one = session(*FIELDS, SGD, "search.warm_start=[earlier]", "search.trials=2")
    assert one.notes == [
        "warm start from earlier: 1 trial given to the sampler, 1 left out: trial 0 (optimizer is adam, here sgd)"
    ]
    assert [trial.state for trial in one.run().trials.values()] == ["completed"] * 2


def test_other_images_are_told(session, earlier, storage):
    earlier("search.trials=1").run()
    spec = storage / "earlier" / "experiment.yaml"
    spec.write_text(spec.read_text().replace("f00d", "beef"))
    one = session(*FIELDS, "search.warm_start=[earlier]")
    assert one.notes == [
        "warm start from earlier: 1 trial given to the sampler; its images are others, so its values may not compare"
    ]


@pytest.mark.parametrize(
    ("field", "theirs", "mine"),
    [
        ("search.metric=val_loss", "val_loss (min)", "val_accuracy (max)"),
        ("search.metric=train_accuracy", "train_accuracy (max)", "val_accuracy (max)"),
        ("search.mode=min", "val_accuracy (min)", "val_accuracy (max)"),
    ],
)
def test_an_experiment_that_ranks_by_another_metric_is_refused(session, earlier, field, theirs, mine):
    earlier(field, "search.trials=1").run()
    with pytest.raises(ResumeError) as caught:
        session(*FIELDS, "search.warm_start=[earlier]")
    assert str(caught.value) == (
        f"search.warm_start: earlier ranks its trials by {theirs}, this search by {mine}; leave it out"
    )


def test_an_experiment_that_is_not_there_and_the_nearest_that_is(session, earlier, storage):
    earlier("search.trials=1").run()
    with pytest.raises(ResumeError) as caught:
        session(*FIELDS, "search.warm_start=[earlierr]")
    assert str(caught.value).startswith(f"search.warm_start: there is no experiment earlierr in {storage}")
    assert str(caught.value).endswith("; did you mean 'earlier'?")


def test_an_experiment_without_its_study(session, earlier, storage):
    earlier("search.trials=1")
    (storage / "earlier" / "study.journal").unlink()
    with pytest.raises(StorageError, match=r"earlier/study.journal: no study can be read there \(.*No such file"):
        session(*FIELDS, "search.warm_start=[earlier]")


# Where from


@pytest.mark.parametrize("source", ["{storage}/moved/earlier", "~/moved/earlier", "moved/earlier", "./moved/earlier/"])
def test_an_experiment_by_its_path(session, earlier, storage, monkeypatch, source):
    earlier("search.trials=1").run()
    (storage / "moved").mkdir()
    (storage / "earlier").rename(storage / "moved" / "earlier")
    monkeypatch.setenv("HOME", str(storage))
    monkeypatch.chdir(storage)
    source = source.format(storage=storage)
    one = session(*FIELDS, f"search.warm_start=['{source}']")
    assert one.notes == [f"warm start from {source}: 1 trial given to the sampler"]


def test_an_experiment_whose_study_is_in_a_database(session, experiment, storage, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    made = replace(experiment(*FIELDS, "search.trials=1"), name="earlier")
    directory = ExperimentDir(storage / "earlier")
    begin(directory, made, "python -m tune.run", "f00d", study=url)
    with pytest.raises(StorageError, match=r"study.db: there is no study earlier there$"):
        session(*FIELDS, "search.warm_start=[earlier]")
    record, _ = open_study(made, directory, str(storage), url, "f00d")
    record.report(record.propose(made.space).number, 1, 0.5)
    one = session(*FIELDS, "search.warm_start=[earlier]")
    assert one.notes == ["warm start from earlier: 1 trial given to the sampler"]


def test_a_study_behind_a_password_cannot_be_learned_from(session, experiment, storage):
    url = "postgresql://me:***@host/name"
    begin(ExperimentDir(storage / "earlier"), experiment(*FIELDS), "python -m tune.run", "f00d", study=url)
    message = rf"^search.warm_start: earlier has its study in {re.escape(url)}, behind a password; leave it out$"
    with pytest.raises(ResumeError, match=message):
        session(*FIELDS, "search.warm_start=[earlier]")


def test_an_experiment_on_s3(session, earlier, storage, server, s3_keys):
    earlier("search.trials=1").run()
    uri = server.uri("warm/starts", options="&allow_bucket_creation=true")
    there = open_storage(uri)
    there.make()
    for file in ("experiment.yaml", "study.journal"):
        there.upload(storage / "earlier" / file, f"earlier/{file}")
    source = uri.replace("?", "/earlier?")
    one = session(*FIELDS, f"search.warm_start=['{source}']")
    assert one.notes == [f"warm start from {source}: 1 trial given to the sampler"]


def test_several_experiments(session, earlier):
    earlier("search.trials=1").run()
    earlier("search.trials=2", "search.seed=1", folder="later").run()
    one = session(*FIELDS, "search.warm_start=[earlier, later]")
    assert one.notes == [
        "warm start from earlier: 1 trial given to the sampler",
        "warm start from later: 2 trials given to the sampler",
    ]
    assert [trial.user_attrs["from"] for trial in learned(one)] == [["earlier", 0], ["later", 0], ["later", 1]]


def test_what_an_experiment_learned_itself_is_not_passed_on(session, earlier):
    earlier("search.trials=2").run()
    earlier("search.trials=1", "search.warm_start=[earlier]", folder="later").run()
    one = session(*FIELDS, "search.warm_start=[later]")
    assert one.notes == ["warm start from later: 1 trial given to the sampler"]
    assert [trial.user_attrs["from"] for trial in learned(one)] == [["later", 2]]


def test_the_earlier_experiment_stays_as_it_is(session, earlier, storage):
    earlier("search.trials=2").run()
    before = {path: path.read_bytes() for path in (storage / "earlier").rglob("*") if path.is_file()}
    session(*FIELDS, "search.warm_start=[earlier]").run()
    assert {path: path.read_bytes() for path in (storage / "earlier").rglob("*") if path.is_file()} == before


def test_a_resumed_search_is_given_nothing_twice(session, earlier):
    earlier("search.trials=2").run()
    fields = (*FIELDS, "search.warm_start=[earlier]", "search.trials=2")
    session(*fields).run()
    again = session(*fields)
    assert again.notes == ["warm start from earlier: 2 trials given to the sampler"]
    assert [trial.user_attrs["from"][1] for trial in learned(again)] == [0, 1]
    assert not again.conductor.has_work


def test_what_was_not_yet_given_when_the_search_was_killed_is(session, earlier, disk):
    earlier("search.trials=3").run()
    fields = (*FIELDS, "search.warm_start=[earlier]")

    def before(journal, lines) -> None:
        if "first" in str(journal) and journal.read_text().count('"from"') == 2:
            raise KeyboardInterrupt

    disk(before)
    with pytest.raises(KeyboardInterrupt):
        session(*fields)
    disk(None)
    assert [trial.user_attrs["from"][1] for trial in learned(session(*fields))] == [0, 1, 2]


def test_trials_that_ended_since_are_given_to_the_resumed_search(session, earlier):
    other = earlier("search.trials=2").run(steps=2)
    fields = (*FIELDS, "search.warm_start=[earlier]")
    session(*fields)
    other.run()
    again = session(*fields)
    assert again.notes == ["warm start from earlier: 2 trials given to the sampler"]
    assert [trial.user_attrs["from"][1] for trial in learned(again)] == [0, 1]
