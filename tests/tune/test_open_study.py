import pytest
from optuna.study import StudyDirection

from tune.errors import NameTakenError, ResumeError, StorageError
from tune.experiment import ExperimentDir, begin
from tune.open_study import check_study, open_study

STARTS = "search.start=[{learning_rate: 0.5, translate: 3}, {optimizer: sgd, momentum: 0.75}]"
GRID = "space={translate: {type: int, lower: 0, upper: 4}}"


@pytest.fixture
def opened(experiment, storage):
    """Opens the study of a search with these fields, in the folder `first`."""

    def make(*fields: str, url: str | None = None):
        (storage / "first").mkdir(exist_ok=True)
        made = experiment(*fields)
        record, notes = open_study(made, ExperimentDir(storage / "first"), str(storage), url, "f00d")
        return made.space, record, notes

    return make


@pytest.fixture
def database(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.mark.parametrize(("metric", "direction"), [("val_accuracy", "MAXIMIZE"), ("val_loss", "MINIMIZE")])
def test_a_new_study_is_empty_and_has_the_metrics_direction(opened, storage, metric, direction):
    _, record, notes = opened(f"search.metric={metric}")
    assert record.study.direction == StudyDirection[direction]
    assert (record.trials(), notes) == ([], [])
    assert (storage / "first" / "study.journal").exists()


def test_starting_points_come_first_and_once(opened):
    space, record, _ = opened(STARTS)
    first = record.propose(space).hparams
    assert (first["learning_rate"], first["translate"]) == (0.5, 3)
    space, record, _ = opened(STARTS)
    second, third = record.propose(space).hparams, record.propose(space).hparams
    assert (second["optimizer"], second["momentum"]) == ("sgd", 0.75)
    assert third["learning_rate"] != 0.5
    assert third["momentum"] != 0.75


def test_a_grids_points_come_in_order_and_go_on_when_more_are_asked_for(opened):
    space, record, _ = opened(GRID, "search.sampler=grid", "search.trials=2")
    assert record.propose(space).hparams["translate"] == 0
    space, record, _ = opened(GRID, "search.sampler=grid", "search.trials=4")
    assert [record.propose(space).hparams["translate"] for _ in range(3)] == [1, 2, 3]
    assert not record.is_enqueued(start=...), "no more than were asked for"


@pytest.mark.parametrize("where", ["file", "database"])
def test_the_study_that_began_is_opened_with_what_is_missing_of_its_last_proposal(opened, database, where):
    url = database if where == "database" else None
    space, record, _ = opened(url=url)
    trial = record.propose(space)
    record.report(trial.number, 1, 0.5)
    record.study.ask()  # and is killed
    _, record, _ = opened(url=url)
    first, second = record.trials()
    assert (first.hparams, first.values) == (trial.hparams, {1: 0.5})
    assert set(second.hparams) == set(trial.hparams)


def test_a_study_in_a_database_needs_no_file(opened, storage, database):
    space, record, _ = opened(STARTS, url=database)
    trial = record.propose(space)
    assert trial.hparams["learning_rate"] == 0.5
    record.report(trial.number, 1, 0.5)
    trial.state, trial.values = "completed", {1: 0.5}
    record.end(trial)
    _, again, _ = opened(STARTS, url=database)
    assert again.trials() == [trial]
    assert again.ended() == [0]
    assert list((storage / "first").iterdir()) == []


def test_proposals_do_not_depend_on_where_the_study_is(opened, storage, database):
    space, record, _ = opened()
    found = [record.propose(space).hparams for _ in range(3)]
    _, record, _ = opened(url=database)
    assert [record.propose(space).hparams for _ in range(3)] == found


def test_a_study_in_a_database_learns_from_earlier_experiments_once(opened, experiment, session, storage, database):
    fields = ("scheduler.type=none", "scheduler.max_epochs=1", "search.trials=2")
    begin(ExperimentDir(storage / "earlier"), experiment(*fields), "python -m tune.run", "f00d")
    session(*fields, folder="earlier").run()
    for _ in range(2):
        _, record, notes = opened(*fields, "search.warm_start=[earlier]", url=database)
        assert notes == ["warm start from earlier: 2 trials given to the sampler"]
        assert record.learned_from("earlier") == {0, 1}
        assert (len(record.study.trials), record.trials()) == (2, [])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", r"--study: must be a database URL, as in sqlite:///study.db or postgresql://user@host/name$"),
        ("sqlite:////nowhere/at/all/study.db", r"--study sqlite:////nowhere/at/all/study.db: .*check the URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_told(opened, storage, url, message):
    with pytest.raises(StorageError, match=f"^{message}"):
        opened(url=url)
    assert list((storage / "first").iterdir()) == []


def test_a_study_in_a_database_is_no_other_searchs(opened, experiment, storage, database):
    opened(url=database)
    with pytest.raises(NameTakenError, match=r"^the study search exists; .* --name, or go on with --resume$"):
        check_study(experiment(), str(storage), database)
    (storage / "second").mkdir()
    with pytest.raises(NameTakenError, match=r"^the study search exists"):
        open_study(experiment(), ExperimentDir(storage / "second"), str(storage), database, "f00d", resume=False)


def test_what_a_new_search_starts_from_is_looked_at_before_it_begins(experiment, storage):
    check_study(experiment(), str(storage), None)
    with pytest.raises(ResumeError, match=r"^search\.warm_start: there is no experiment earlier in "):
        check_study(experiment("search.warm_start=[earlier]"), str(storage), None)
    with pytest.raises(StorageError, match=r"^--study: must be a database URL"):
        check_study(experiment(), str(storage), "study.db")
    assert list(storage.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "database"])
def test_a_study_that_is_not_there_any_more_is_told_and_no_trial_trained_again(
    experiment, session, storage, database, where
):
    url = database if where == "database" else None
    session("search.trials=2", folder="first").run()
    (storage / "first" / "study.journal").unlink()
    with pytest.raises(ResumeError, match=r"the study of .* is not there, and its trials are in .*put it back, or cho"):
        open_study(experiment(), ExperimentDir(storage / "first"), str(storage), url, "f00d")
    assert not (storage / "first" / "study.journal").exists()
    open_study(experiment(), ExperimentDir(storage / "first"), str(storage), url, "f00d", resume=False)
