import re

import pytest

from tune.errors import ResumeError, StorageError
from tune.experiment import ExperimentDir, begin, reserve
from tune.resume import check_same, has_begun, reopen
from tune.study_storage import shown_url

COMMAND = "python -m tune.run --space search.yaml"


@pytest.fixture
def begun(experiment, tmp_path):
    """Begins an experiment with these fields; the fingerprint of its images is f00d."""

    def make(*fields: str, name: str = "first", **options: str) -> ExperimentDir:
        directory = ExperimentDir(tmp_path / "experiments" / name)
        directory.path.parent.mkdir(exist_ok=True)
        begin(directory, experiment(*fields, **options), COMMAND, "f00d")
        return directory

    return make


# Which experiment


def test_an_experiment_that_began_is_found_by_its_name(begun, tmp_path, monkeypatch):
    directory = begun()
    assert reopen(str(tmp_path / "experiments"), "first") == directory
    monkeypatch.chdir(tmp_path)
    assert reopen("experiments", "first") == directory


@pytest.mark.parametrize(
    ("there", "name", "advice"),
    [
        ([], "first", "; none has begun there"),
        (["quickstart", "resnet"], "quikstart", "; did you mean 'quickstart'?"),
        (["f", "c", "e", "a", "d", "b"], "xyz", "; there are a, b, c, d, e"),
    ],
)
def test_an_experiment_that_is_not_there(begun, tmp_path, there, name, advice):
    for other in there:
        begun(name=other)
    (tmp_path / "experiments").mkdir(exist_ok=True)
    (tmp_path / "experiments" / "quikstarts").mkdir()  # has not begun, and is not suggested
    with pytest.raises(ResumeError) as caught:
        reopen(str(tmp_path / "experiments"), name)
    assert str(caught.value) == f"--resume: there is no experiment {name} in {tmp_path / 'experiments'}{advice}"


def test_a_storage_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(
        ResumeError, match=r"^--resume: there is no experiment first in .*/nowhere; none has begun there$"
    ):
        reopen(str(tmp_path / "nowhere"), "first")
    assert list(tmp_path.iterdir()) == []


# Whether it has begun


def test_only_an_experiment_that_has_begun_is_taken_for_one(begun, tmp_path):
    storage = str(tmp_path / "experiments")
    assert not has_begun(storage, "first")
    begun()
    assert has_begun(storage, "first")
    assert not (tmp_path / "experiments" / "second").exists()


def test_what_a_beginning_cut_short_left_goes_and_a_folder_of_others_stays(tmp_path):
    for name, left in (("empty", ()), ("cut", (".experiment.yaml.7",)), ("theirs", (".experiment.yaml.7", "x"))):
        (tmp_path / name).mkdir()
        for file in left:
            (tmp_path / name / file).write_text("data: {sou")
    assert [has_begun(str(tmp_path), name) for name in ("empty", "cut", "theirs")] == [False] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert (tmp_path / "theirs" / "x").read_text() == "data: {sou"


def test_in_an_object_store_too(experiment, server, s3_keys, tmp_path, monkeypatch):
    """Also where the bucket is not there yet, and where a beginning was cut short before it was uploaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = server.uri("restarted/some", options="&allow_bucket_creation=true")
    assert not has_begun(uri, "first")
    with monkeypatch.context() as broken:
        broken.setattr(ExperimentDir, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            begin(reserve(uri, "first"), experiment(), COMMAND, "f00d")
    assert not has_begun(uri, "first")
    begin(reserve(uri, "first"), experiment(), COMMAND, "f00d")
    assert has_begun(uri, "first")
    assert reopen(uri, "first").spec.exists()


@pytest.mark.slow
def test_a_storage_that_does_not_answer_is_no_storage_without_experiments(s3_server, s3_keys):
    server = s3_server()
    server.kill()
    with pytest.raises(StorageError, match=r"^--storage s3://restarted/some.* cannot use it: "):
        has_begun(server.uri("restarted/some"), "first")


def test_a_name_that_cannot_be_one_is_refused(begun, tmp_path):
    begun()
    with pytest.raises(StorageError, match=r"^--name 'experiments/first': must be 1 to 200 printable characters"):
        reopen(str(tmp_path), "experiments/first")


# Whether it is the same


def test_a_link_does_not_lead_out_of_the_storage(begun, tmp_path):
    directory = begun()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "mine").symlink_to(directory.path)
    with pytest.raises(ResumeError) as caught:
        reopen(str(tmp_path / "others"), "mine", "status")
    assert str(caught.value) == (
        f"status: {tmp_path}/others/mine is a link, which may lead out of {tmp_path}/others; name the folder that "
        f"{directory.path} lies in, as --storage"
    )
    (tmp_path / "linked").symlink_to(directory.path.parent)
    assert reopen(str(tmp_path / "linked"), "first").path == directory.path, "the storage itself may be one"


def test_the_same_experiment_goes_on_with_what_is_known_of_its_beginning(begun, experiment):
    fields = ["search.start=[{learning_rate: 0.5}]", "search.target=0.9", "resources.cpus_per_trial=0.5"]
    directory = begun(*fields)
    provenance = check_same(directory, experiment(*fields), "f00d")
    assert (provenance["command"], provenance["data_fingerprint"]) == (COMMAND, "f00d")
    begin(directory, experiment(*fields), f"{COMMAND} --resume", "f00d", provenance)
    again = check_same(directory, experiment(*fields), "f00d")
    assert again["command"] == COMMAND
    assert [session["command"] for session in again["resumed"]] == [f"{COMMAND} --resume"]


@pytest.mark.parametrize(
    "field",
    [
        "data.root=elsewhere",
        "search.trials=99",
        "search.time_budget_s=60",
        "search.epoch_budget=7",
        "search.patience=3",
        "search.target=0.9",
        "search.max_retries=0",
        "search.trial_timeout=60",
        "search.keep_checkpoints=1",
        "resources.cpus_per_trial=2",
        "resources.gpus_per_trial=0",
        "resources.max_concurrent=1",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
        "trainer.prediction_images=4",
        "retrain.epochs=1",
        "retrain.start=scratch",
        "retrain.on=train",
        "retrain.learning_rate=0.5",
        "tracking.wandb=offline",
        "tracking.project=other",
    ],
)
def test_what_may_change(begun, experiment, field):
    directory, changed = begun(), experiment(field)
    assert changed.to_dict() != experiment().to_dict()
    assert check_same(directory, changed, "f00d")["command"] == COMMAND


def test_the_smallest_improvement_may_change(begun, experiment):
    directory = begun("search.patience=3")
    assert check_same(directory, experiment("search.patience=3", "search.min_improvement=0.1"), "f00d")


def test_the_bounds_of_the_winner_may_change_and_the_objectives_not(begun, experiment):
    given = "search.objectives=[{metric: val_accuracy}, {metric: parameters}]"
    directory = begun(given)
    assert check_same(directory, experiment(given, "search.choose.subject_to.parameters.upper=9"), "f00d")
    assert check_same(directory, experiment(given, "search.choose.min=parameters"), "f00d")
    with pytest.raises(ResumeError, match=r"^search.objectives: the search began with \[{'metric': 'val_accuracy', "):
        check_same(directory, experiment(given.replace("parameters", "flops")), "f00d")


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("data.source=mnist", "'digits'", "'mnist'"),
        ("data.image_size=16", "None", "16"),
        ("data.image_size=[48, 64]", "None", "[48, 64]"),
        ("data.limit=100", "None", "100"),
        ("data.validation_fraction=0.5", "0.1", "0.5"),
        ("data.split_seed=1", "0", "1"),
        ("search.metric=val_loss", "'val_accuracy'", "'val_loss'"),
        ("search.mode=min", "None", "'min'"),
        ("search.sampler=random", "'gp'", "'random'"),
        ("search.seed=1", "0", "1"),
        ("search.start=[{translate: 1}]", "[]", "[{'translate': 1}]"),
        ("search.warm_start=[other]", "[]", "['other']"),
        ("scheduler.type=none", "'asha'", "'none'"),
        ("scheduler.mode=stop", "'promote'", "'stop'"),
        ("scheduler.max_epochs=31", "30", "31"),
        ("scheduler.grace_period=2", "1", "2"),
        ("scheduler.min_peers=5", "None", "5"),
        ("scheduler.reduction_factor=3", "4", "3"),
        ("scheduler.quantile=0.5", "0.25", "0.5"),
        ("trainer.precision=bf16-mixed", "'32'", "'bf16-mixed'"),
        ("trainer.fast_dev_run=true", "False", "True"),
        ("space.translate=1", "{'type': 'int', 'lower': 0, 'upper': 4}", "1"),
        ("space.cutout=4", "None", "4"),
    ],
)
def test_what_would_make_it_another_search_is_refused(begun, experiment, field, before, after):
    directory, (name, _, _) = begun(), field.partition("=")
    with pytest.raises(ResumeError) as caught:
        check_same(directory, experiment(field), "f00d")
    told = str(caught.value).splitlines()
    assert [told[0], told[-1]] == [
        f"{name}: the search began with {before}, and now it is {after}",
        "first can be resumed only as it began: set it back, or choose another --name",
    ]


def test_an_hparam_that_is_searched_no_more_is_refused(begun, experiment):
    directory = begun()
    text = "data: {source: digits}\nspace:\n  translate: {type: int, lower: 0, upper: 4}\n"
    with pytest.raises(ResumeError) as caught:
        check_same(directory, experiment(text=text), "f00d")
    told = [line.partition(": ")[0] for line in str(caught.value).splitlines()[:-1]]
    assert told == ["space.learning_rate", "space.optimizer"]
    assert "and now it is None" in str(caught.value)


def test_other_images_are_refused(begun, experiment):
    directory = begun()
    with pytest.raises(ResumeError, match=r"^data: these are not the images that the search began with\nfirst can be"):
        check_same(directory, experiment(), "beef")


def test_everything_that_changed_is_told_at_once(begun, experiment):
    directory = begun()
    changes = ["data.limit=100", "search.seed=1", "search.trials=99", "scheduler.max_epochs=9", "space.translate=1"]
    with pytest.raises(ResumeError) as caught:
        check_same(directory, experiment(*changes), "beef")
    told = [line.partition(": ")[0] for line in str(caught.value).splitlines()[:-1]]
    assert told == ["data.limit", "space.translate", "search.seed", "scheduler.max_epochs", "data"]


def test_a_default_written_out_changes_nothing(begun, experiment):
    assert check_same(begun(), experiment("scheduler.mode=promote", "scheduler.max_epochs=30"), "f00d")


def test_how_a_value_is_written_changes_nothing(begun, experiment):
    text = "data: {source: digits}\nspace:\n  width: {type: float, lower: 1e-1, upper: 1.0, log: true}\n"
    directory = begun(text=text)
    assert check_same(directory, experiment(text=text.replace("1e-1", "0.10").replace("1.0,", "1,")), "f00d")


ORDER = "space: the search began with its parameters and options in another order"
OPTIONS = "      sgd: {momentum: {type: float, lower: 0.5, upper: 0.99}}\n", "      adamw:\n"
PARAMETERS = (
    "  learning_rate: {type: float, lower: 1e-4, upper: 1.0, log: true}\n",
    "  translate: {type: int, lower: 0, upper: 4}\n",
)


@pytest.mark.parametrize("two", [OPTIONS, PARAMETERS], ids=["options", "parameters"])
def test_the_order_of_the_space_is_part_of_it(begun, experiment, two):
    space = "data: {source: digits}\nspace:\n  optimizer:\n    type: categorical\n    options:\n" + "".join(OPTIONS)
    directory = begun(text=space + "".join(PARAMETERS))
    reordered = (space + "".join(PARAMETERS)).replace("".join(two), "".join(reversed(two)))
    with pytest.raises(ResumeError, match=f"^{re.escape(ORDER)}\n"):
        check_same(directory, experiment(text=reordered), "f00d")


@pytest.mark.parametrize(
    ("began", "now"),
    [("", "sqlite:///a.db"), ("sqlite:///a.db", None), ("sqlite:///a.db", "sqlite:///b.db")],
)
def test_a_search_goes_on_in_the_study_that_it_began(experiment, tmp_path, began, now):
    directory = ExperimentDir(tmp_path / "first")
    begin(directory, experiment(), COMMAND, "f00d", study=began)
    expected = f"--study: the search began with {began or 'none'}, and now it is {now or 'none'}"
    with pytest.raises(ResumeError, match=f"^{re.escape(expected)}\n"):
        check_same(directory, experiment(), "f00d", now)
    assert check_same(directory, experiment(), "f00d", began or None).get("study", "") == began


def test_the_password_of_the_study_is_neither_kept_nor_compared(experiment, tmp_path):
    directory = ExperimentDir(tmp_path / "first")
    begin(directory, experiment(), COMMAND, "f00d", study=shown_url("postgresql://me:secret@host/name"))
    assert "secret" not in directory.spec.read_text()
    assert check_same(directory, experiment(), "f00d", "postgresql://me:another@host/name")
