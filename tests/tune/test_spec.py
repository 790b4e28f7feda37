import random
from pathlib import Path

import pytest

from cifar.hparams import HParams
from tune import yaml_file
from tune.errors import SpecError
from tune.spec import load

SEARCH_SPACES = Path(__file__).parents[2] / "search_spaces"

SMALL = """\
data:
  source: digits
space:
  width: {type: float, lower: 0.5, upper: 1.0}
"""
ALL = """\
data: {source: image_folder, root: "/bilder 🚀/it's", image_size: 16, limit: 10, validation_fraction: 0.25}
space:
  network: cnn
  flip: {type: categorical, options: {true: {dropout: 0.1}, false: {dropout: {type: float, lower: 1e-3, upper: 0.5}}}}
  width: {type: categorical, options: [0.125, 1]}
search:
  {metric: val_loss, mode: min, trials: 4, time_budget_s: 60, epoch_budget: 30, target: -1, patience: 3,
  min_improvement: 1e-3, sampler: gp, start: [{flip: true}, {flip: false, dropout: 0.25}],
  warm_start: [first, "../o'ther"], max_retries: 0, trial_timeout: 90.5, keep_checkpoints: 1, seed: 7}
scheduler: {type: asha, mode: promote, max_epochs: 8, grace_period: 2, reduction_factor: 2, quantile: 0.5}
resources: {cpus_per_trial: 0.5, gpus_per_trial: auto, max_concurrent: 2}
trainer: {precision: 16-mixed, accelerator: cpu, early_stopping: {monitor: train_loss, patience: 2}, fast_dev_run: 2}
retrain: {start: scratch, on: train, epochs: 2, learning_rate: 1e-3}
tracking: {wandb: offline, project: mine}
"""


def test_what_is_not_given_has_its_default(experiment_file):
    experiment = load(experiment_file(SMALL, "my first.yaml"))
    assert experiment.name == "my first"
    assert (experiment.data.source, experiment.data.validation_fraction) == ("digits", 0.1)
    assert (experiment.search.metric, experiment.search.trials, experiment.search.seed) == ("val_accuracy", 16, 0)
    assert (experiment.scheduler.type, experiment.resources.cpus_per_trial) == ("asha", "auto")
    assert experiment.trainer.early_stopping is None
    assert [domain.key for domain in experiment.space.searched()] == ["width"]


@pytest.mark.parametrize("text", [f"{SMALL}search:\nretrain:\n", f"{SMALL}search: {{}}\n"])
def test_a_heading_with_nothing_under_it_means_the_defaults(experiment_file, text):
    assert load(experiment_file(text)) == load(experiment_file(SMALL))


def test_a_search_may_have_nothing_to_search(experiment_file):
    experiment = load(experiment_file("data: {source: digits}\nspace: {}\n"))
    assert list(experiment.space.searched()) == []


@pytest.mark.parametrize(
    ("search", "maximize"),
    [
        ("{}", True),
        ("{metric: val_loss}", False),
        ("{metric: train_accuracy}", True),
        ("{metric: val_loss, mode: max}", True),
        ("{metric: val_accuracy, mode: min}", False),
    ],
)
def test_the_better_direction_is_the_metrics_unless_given(experiment_file, search, maximize):
    assert load(experiment_file(f"{SMALL}search: {search}\n")).search.maximize is maximize


def test_a_record_of_a_run_is_read_as_an_experiment(experiment_file):
    record = f"{SMALL}provenance:\n  command: python -m tune.run\n  versions: {{ray: 2.60}}\n"
    assert load(experiment_file(record)) == load(experiment_file(SMALL))


@pytest.mark.parametrize(
    "text",
    [SMALL, ALL, *(file.read_text() for file in sorted(SEARCH_SPACES.glob("*.yaml")))],
    ids=["small", "all", *(file.stem for file in sorted(SEARCH_SPACES.glob("*.yaml")))],
)
def test_an_experiment_written_out_is_read_back_equal(experiment_file, tmp_path, text):
    experiment = load(experiment_file(text))
    copy = tmp_path / "copy" / "search.yaml"
    copy.parent.mkdir()
    with copy.open("w", encoding="utf-8") as stream:
        yaml_file.write(experiment.to_dict(), stream)
    assert load(copy) == experiment


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("serch: {trials: 3}", "search.yaml:5:1: serch: unknown section; did you mean 'search'?"),
        (
            "zzz: 1",
            "search.yaml:5:1: zzz: unknown section; known: data, space, search, scheduler, resources, trainer, "
            "retrain, tracking",
        ),
        ("7: 1", "search.yaml:5:1: 7: unknown section; known: data, space,"),
        ("search: 3", "search.yaml:5:9: search: got 3, must be a section: lines of name: value"),
        ("search: [trials]", "search.yaml:5:9: search: got ['trials'], must be a section: lines of name: value"),
        ("search: {trails: 3}", "search.yaml:5:10: search.trails: unknown name; did you mean 'trials'?"),
        ("search: {num_samples: 3}", "search.yaml:5:10: search.num_samples: unknown name; did you mean 'trials'?"),
        ("search: {trials: 0}", "search.yaml:5:18: search.trials: got 0, must be at least 1"),
        ("search: {trials: true}", "search.yaml:5:18: search.trials: got true, must be a whole number"),
        ("search: {trials: '8'}", "search.yaml:5:18: search.trials: got '8', must be a whole number"),
        ("search: {trials: 8.5}", "search.yaml:5:18: search.trials: got 8.5, must be a whole number"),
        ("search: {trials: }", "search.yaml:5:10: search.trials: must be a whole number"),
        (
            "search: {metric: accuracy}",
            "search.yaml:5:18: search.metric: got 'accuracy', must be one of train_loss, train_accuracy, val_loss, "
            "val_accuracy; did you mean 'val_accuracy'?",
        ),
        ("search: {metric: f1}", "got 'f1', must be one of train_loss, train_accuracy, val_loss, val_accuracy"),
        ("search: {mode: maximize}", "search.yaml:5:16: search.mode: got 'maximize', must be one of min, max"),
        (
            "search: {sampler: bayes}",
            "search.sampler: got 'bayes', must be one of gp, tpe, plain_gp, plain_tpe, cmaes, nsga2, qmc, random, grid",
        ),
        ("search: {sampler: tpee}", "cmaes, nsga2, qmc, random, grid; did you mean 'tpe'?"),
        ("search: {time_budget_s: 0}", "search.time_budget_s: got 0, must be above 0.0"),
        ("search: {seed: -1}", "search.seed: got -1, must be at least 0"),
        ("search: {start: {width: 0.5}}", "search.yaml:5:17: search.start: got {'width': 0.5}, must be a list"),
        ("search: {start: [{widht: 0.5}]}", "search.start.0.widht: unknown parameter; did you mean 'width'?"),
        ("search: {start: [{width: 2}]}", "search.start.0.width: got 2, must be from 0.5 to 1.0, as in space.width"),
        ("search: {warm_start: first}", "search.yaml:5:22: search.warm_start: got 'first', must be a list"),
        ("search: {warm_start: [first, 2]}", "search.yaml:5:30: search.warm_start.1: got 2, must be text"),
        ("search: {warm_start: ['']}", "search.warm_start.0: got '', must not be empty"),
        ("search: {epoch_budget: 0}", "search.epoch_budget: got 0, must be at least 1"),
        ("search: {epoch_budget: 2.5}", "search.epoch_budget: got 2.5, must be a whole number"),
        ("search: {patience: 0}", "search.patience: got 0, must be at least 1"),
        ("search: {patience: 2, min_improvement: -1}", "search.min_improvement: got -1, must be at least 0.0"),
        (
            "search: {min_improvement: 0.1}",
            "search.yaml:5:27: search.min_improvement: got 0.1, has no effect without search.patience: give that too, "
            "or leave this out",
        ),
        ("search: {target: high}", "search.target: got 'high', must be a number"),
        ("search: {target: .inf}", "search.target: got inf, must be a finite number"),
        (
            "search: {target: 95}",
            "search.yaml:5:18: search.target: got 95.0, must be from 0 to 1: val_accuracy is a share, not a percentage",
        ),
        ("search: {max_retries: -1}", "search.max_retries: got -1, must be at least 0"),
        ("search: {trial_timeout: 0}", "search.trial_timeout: got 0, must be above 0.0"),
        ("search: {keep_checkpoints: 0}", "search.keep_checkpoints: got 0, must be at least 1"),
        ("scheduler: {mode: promot}", "must be one of stop, promote; did you mean 'promote'?"),
        (
            "scheduler: {type: hyperband, mode: promote}",
            "search.yaml:5:36: scheduler.mode: got 'promote', is for scheduler.type asha only: hyperband has one "
            "way alone; leave mode out, or use asha",
        ),
        ("scheduler: {quantile: 0}", "scheduler.quantile: got 0, must be above 0.0"),
        ("scheduler: {quantile: 0.6}", "scheduler.quantile: got 0.6, must be at most 0.5"),
        ("search: {seed: no}", "search.yaml:5:16: search.seed: got 'no', must be a whole number"),
        ("scheduler: {type: ahsa}", "got 'ahsa', must be one of asha, hyperband, median, pbt, none; did you mean"),
        (
            "scheduler: {type: bohb}",
            "search.yaml:5:19: scheduler.type: got 'bohb', must be one of asha, hyperband, median, pbt, none",
        ),
        ("scheduler: {type: hyperband, max_epochs: 4, grace_period: 5}", "grace_period: got 5, must be at most max_ep"),
        (
            "scheduler: {type: median, max_epochs: 4, grace_period: 5}",
            "grace_period: got 5, must be at most max_epochs",
        ),
        ("scheduler: {reduction_factor: 1}", "scheduler.reduction_factor: got 1, must be at least 2"),
        (
            "scheduler: {max_epochs: 4, grace_period: 5}",
            "search.yaml:5:42: scheduler.grace_period: got 5, must be at most max_epochs, 4",
        ),
        (
            "trainer: {devices: 2}",
            "search.yaml:5:20: trainer.devices: got 2, must be 1: a trial trains on one device, "
            "and several trials share the cluster",
        ),
        ("trainer: {precision: 16}", "trainer.precision: got 16, must be one of 32, 16-mixed, bf16-mixed"),
        ("trainer: {accelerator: cua}", "must be one of auto, cpu, gpu, cuda, mps; did you mean 'cuda'?"),
        (
            "trainer:\n  early_stopping: {patence: 3}",
            "search.yaml:6:20: trainer.early_stopping.patence: unknown name; did you mean 'patience'?",
        ),
        ("trainer: {fast_dev_run: all}", "trainer.fast_dev_run: got 'all', must be true or false, or a whole number"),
        ("resources: {cpus_per_trial: many}", "resources.cpus_per_trial: got 'many', must be a number, or auto"),
        (
            "resources: {cpus_per_trial: 0}",
            "search.yaml:5:29: resources.cpus_per_trial: got 0, must be above 0.0, or auto",
        ),
        (
            "resources: {gpus_per_trial: 2}",
            "search.yaml:5:29: resources.gpus_per_trial: got 2.0, must be at most 1: a trial trains on one device",
        ),
        (
            "resources: {gpus_per_trial: 1}\ntrainer: {accelerator: cpu}",
            "search.yaml:5:29: resources.gpus_per_trial: got 1.0, must be 0 with trainer.accelerator cpu",
        ),
        (
            "retrain: {on: trian}",
            "retrain.on: got 'trian', must be one of train+validation, train; did you mean 'train'?",
        ),
        (
            "retrain: {finalists: 0}",
            "search.yaml:5:22: retrain.finalists: got 0, must be at least 1",
        ),
        (
            "retrain: {start: chekpoint}",
            "retrain.start: got 'chekpoint', must be one of auto, checkpoint, scratch; did you mean 'checkpoint'?",
        ),
        (
            "retrain: {lr_schedule: none, average: swa}",
            "retrain.average: got 'swa', has no epochs to average with retrain.lr_schedule none: use raw, or constant "
            "or cosine there",
        ),
        (
            "retrain: {lr_schedule: none, start: checkpoint}",
            "retrain.start: got 'checkpoint', trains nothing with retrain.lr_schedule none: use scratch, or constant "
            "or cosine there",
        ),
        ("retrain: {learning_rate: 1e-3x}", "retrain.learning_rate: got '1e-3x', must be a number, or auto"),
        ("tracking: {wandb: on}", "search.yaml:5:19: tracking.wandb: got 'on', must be one of off, online, offline"),
        ("tracking: {project: ''}", "search.yaml:5:21: tracking.project: got '', must not be empty"),
    ],
)
def test_what_is_wrong_in_a_section(complaints, more, message):
    (found,) = complaints(f"{SMALL}{more}\n")
    assert found.startswith("search.yaml:")
    assert message in found


CHOICES = "  flip: {type: categorical, options: [true, false]}\n"
NUMBERS = "  width: {type: float, lower: 0.5, upper: 1.0}\n  cutout: {type: int, lower: 0, upper: 4}\n"
CONDITION = (
    "  optimizer: {type: categorical, options: {sgd: {momentum: {type: float, lower: 0, upper: 0.9}}, adam: }}\n"
)


def with_space(space: str, more: str) -> str:
    return f"data: {{source: digits}}\nspace:\n{space}{more}\n"


@pytest.mark.parametrize(
    ("space", "more"),
    [
        (NUMBERS, "search: {sampler: cmaes}\nscheduler: {type: none}"),
        # one option is no choice
        (
            f"{NUMBERS}  flip: {{type: categorical, options: [true]}}\n",
            "search: {sampler: cmaes}\nscheduler: {type: none}",
        ),
        (CHOICES, "search: {sampler: grid}"),
        (
            CONDITION.replace("float, lower: 0, upper: 0.9", "categorical, options: [0.5, 0.9]"),
            "search: {sampler: grid}",
        ),
        (CONDITION, "search: {sampler: gp}"),
        (NUMBERS, "search: {sampler: gp}\nscheduler: {type: hyperband}"),
        (NUMBERS, "search: {sampler: plain_tpe}\nscheduler: {type: pbt}"),
        (NUMBERS, "search: {sampler: gp}\nscheduler: {type: pbt}"),
        (CONDITION, "search: {sampler: qmc, trials: 4}\nscheduler: {type: pbt, grace_period: 2, max_epochs: 3}"),
        (CHOICES, "scheduler: {type: pbt}"),
        (NUMBERS, "scheduler: {type: median, grace_period: 30}"),
        (NUMBERS, "scheduler: {type: asha, mode: promote}"),
        (NUMBERS, "scheduler: {type: none, grace_period: 90}"),
        (NUMBERS, "search: {patience: 3, min_improvement: 0.1, target: 1.0}"),
        (NUMBERS, "search: {metric: val_loss, target: 1.5}"),
    ],
)
def test_settings_that_suit_one_another(experiment_file, space, more):
    assert load(experiment_file(with_space(space, more)))


@pytest.mark.parametrize(
    ("space", "more", "message"),
    [
        (
            NUMBERS,
            "search: {sampler: cmaes}",
            "search.sampler: got 'cmaes', compares values of one length only, which asha does not give: "
            "set scheduler.type none, or use gp",
        ),
        (
            NUMBERS + CHOICES + CONDITION,
            "search: {sampler: cmaes}\nscheduler: {type: none}",
            "search.sampler: got 'cmaes', searches numbers only, and flip, optimizer in space chooses options: "
            "make it a constant, or use gp",
        ),
        (
            "  width: {type: float, lower: 0.5, upper: 1.0}\n",
            "search: {sampler: cmaes}\nscheduler: {type: none}",
            "search.sampler: got 'cmaes', needs at least two numbers to search, and space has 1: "
            "add a float or int domain, or use gp",
        ),
        (
            NUMBERS,
            "scheduler: {type: pbt}\nretrain: {lr_schedule: none}",
            "retrain.lr_schedule: got 'none', trains the HParams afresh alone, and pbt changes them in mid-training: "
            "use constant or cosine",
        ),
        (
            NUMBERS,
            "scheduler: {type: pbt}\nretrain: {seeds: 2}",
            "retrain.seeds: got 2, must be 0 with scheduler.type pbt, which changes HParams in mid-training: "
            "leave it out",
        ),
        (
            NUMBERS + CONDITION,
            "search: {sampler: grid}",
            "search.sampler: got 'grid', tries every point, and width, momentum in space takes any number: "
            "give it type int or categorical, or use gp",
        ),
        (
            "  width: 1\n",
            "search: {sampler: grid}",
            "search.sampler: got 'grid', tries every point, and space searches nothing: "
            "give it an int or categorical domain, or use gp",
        ),
        (
            f"  batch_size: {{type: int, lower: 1, upper: 65536}}\n{NUMBERS.splitlines()[1]}0\n".replace("4}0", "400}"),
            "search: {sampler: grid}",
            "search.sampler: got 'grid', tries every point, and space has 26,279,936, more than 1,000,000: "
            "search fewer values, or use gp",
        ),
        (
            CHOICES,
            "search: {sampler: grid, start: [{flip: true}]}",
            "search.start: got [{'flip': True}], must be left out with search.sampler grid, which has an order of its "
            "own: use another sampler, or no start",
        ),
        (
            CHOICES,
            "search: {sampler: grid}\nscheduler: {type: pbt}",
            "search.sampler: got 'grid', needs a value for each point, and pbt changes points in mid-training: "
            "use random, qmc or gp",
        ),
        (
            NUMBERS,
            "search: {sampler: cmaes}\nscheduler: {type: pbt}",
            "search.sampler: got 'cmaes', compares values of one length only, which pbt does not give: ",
        ),
        (
            NUMBERS,
            "search: {trials: 3}\nscheduler: {type: pbt}",
            "search.trials: got 3, must be at least 4 with scheduler.type pbt, whose population the trials are: "
            "start more, or use asha",
        ),
        (
            NUMBERS,
            "scheduler: {type: pbt, max_epochs: 4, grace_period: 4}",
            "scheduler.grace_period: got 4, must be below max_epochs, 4: pbt compares trials every grace_period "
            "epochs; make it smaller",
        ),
        (
            "  width: {type: float, lower: 0.5, upper: 1.0}\n  flip: {type: categorical, options: [true]}\n",
            "scheduler: {type: pbt}",
            "scheduler.type: got 'pbt', changes HParams in mid-training, and space searches none that can be: "
            "search one of ",
        ),
    ],
)
def test_settings_that_do_not_suit_one_another(complaints, space, more, message):
    (found,) = complaints(with_space(space, more))
    place, _, told = found.partition(": ")
    assert told.startswith(message)
    section = message.partition(".")[0]
    line = next(
        number for number, text in enumerate(with_space(space, more).splitlines(), 1) if text.startswith(section)
    )
    assert place.startswith(f"search.yaml:{line}:")


def test_a_sampler_that_is_wrong_for_two_reasons_is_told_both(complaints):
    text = with_space(CHOICES, "search: {sampler: cmaes}")
    assert [line.split(", ", 1)[1].split(" ")[0] for line in complaints(text)] == ["compares", "searches", "needs"]


def test_a_space_that_is_wrong_is_not_held_against_the_sampler(complaints):
    text = with_space("  width: {type: float, lower: 2, upper: 1}\n", "search: {sampler: grid}")
    assert complaints(text) == ["search.yaml:3:31: space.width.lower: got 2.0, must be below upper, 1.0"]
    assert complaints("data: {source: digits}\nsearch: {sampler: grid}\n") == [
        "search.yaml: the section space is missing"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{}", "search.yaml:1:1: data: source is missing"),
        ("", "search.yaml:1:1: data: source is missing"),
        ("{limit: 4}", "search.yaml:1:1: data: source is missing"),
        ("digits", "search.yaml:1:7: data: got 'digits', must be a section: lines of name: value"),
        (
            "{source: cifar}",
            "search.yaml:1:16: data.source: got 'cifar', must be one of digits, cifar10, cifar100, mnist, "
            "fashion_mnist, svhn, image_folder; did you mean 'cifar10'?",
        ),
        ("{source: digits, root: 5}", "search.yaml:1:30: data.root: got 5, must be text"),
        *(
            (
                f"{{source: digits, image_size: {size}}}",
                f"search.yaml:1:36: data.image_size: got {size}, must be a square's side, or [height, width] "
                "as in [48, 64]; a side is 4 to 1024",
            )
            for size in ("3", "1025", "'48x64'", "[48]", "[48, 64, 3]", "[48, 3]", "[48, 1.5]", "true")
        ),
        (
            "{source: digits, validation_fraction: 1}",
            "search.yaml:1:45: data.validation_fraction: got 1, must be below 1.0",
        ),
        (
            "{source: image_folder}",
            "search.yaml:1:16: data.source: got 'image_folder', needs data.root, the folder that holds "
            "train/<class>/ and test/<class>/",
        ),
    ],
)
def test_what_is_wrong_in_data(complaints, data, message):
    assert complaints(f"data: {data}\nspace: {{}}\n") == [message]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("", "search.yaml:2:1: space: must be a section: lines of name: domain"),
        ("  widht: 1", "search.yaml:3:3: space.widht: unknown parameter; did you mean 'width'?"),
        (
            "  width:\n    type: float\n    lower: 2.0\n    upper: 1.0",
            "search.yaml:5:12: space.width.lower: got 2.0, must be below upper, 1.0",
        ),
        ("  width:\n    type: float\n    lower: 2.0", "search.yaml:3:3: space.width: upper is missing"),
        (
            "  optimizer:\n    type: categorical\n    options:\n      sgd:\n        momentum: 2",
            "search.yaml:7:19: space.optimizer.options.sgd.momentum: got 2, must be below 1.0",
        ),
        (
            "  batch_size:\n    type: categorical\n    options:\n    - 32\n    - many",
            "search.yaml:7:7: space.batch_size.options.1: got 'many', must be a whole number",
        ),
        (
            "  flip:\n    type: categorical\n    options: {true: {width: 1}, false: {lr: 1}}",
            "search.yaml:5:41: space.flip.options.False.lr: unknown parameter; did you mean 'learning_rate'?",
        ),
        (
            "  width: 1\n  flip:\n    type: categorical\n    options: {true: {width: 2}, false: }",
            "search.yaml:6:22: space.flip.options.True.width: is given already by space.width",
        ),
        (
            "  optimizer: adam\n  momentum: {type: float, lower: 0.1, upper: 0.9}",
            "search.yaml:4:3: space.momentum: has no effect with optimizer adam; search it under the option sgd",
        ),
    ],
)
def test_a_problem_of_the_space_is_told_with_its_place(complaints, space, message):
    assert complaints(f"data: {{source: digits}}\nspace:\n{space}\n") == [message]


def test_missing_sections_are_told_beside_what_else_is_wrong(complaints):
    assert complaints("search: {trials: 0}\n") == [
        "search.yaml: the section data is missing",
        "search.yaml: the section space is missing",
        "search.yaml:1:18: search.trials: got 0, must be at least 1",
    ]


def test_a_problem_that_came_by_a_merge_is_placed_at_its_section(complaints):
    assert complaints(f"{SMALL}scheduler:\n  <<: {{type: ahsa}}\n") == [
        "search.yaml:5:1: scheduler.type: got 'ahsa', must be one of asha, hyperband, median, pbt, none; "
        "did you mean 'asha'?"
    ]


def test_all_problems_come_at_once_in_reading_order(complaints):
    text = """\
search:
  trials: 0
  metric: f1
space:
  optimizer: {type: categorical, options: {sgd: {momentum: 1.5}, adam: }}
  width: {type: float, lower: 2.0, upper: 1.0}
  lr: 0.1
data:
  source: image_folder
serch: 3
trainer:
  devices: 2
  precision: 8
scheduler: {type: asha, max_epochs: 2, grace_period: 3}
"""
    places = [line.split(": ")[:2] for line in complaints(text)]
    assert places == [
        ["search.yaml:2:11", "search.trials"],
        ["search.yaml:3:11", "search.metric"],
        ["search.yaml:5:60", "space.optimizer.options.sgd.momentum"],
        ["search.yaml:6:31", "space.width.lower"],
        ["search.yaml:7:3", "space.lr"],
        ["search.yaml:9:11", "data.source"],
        ["search.yaml:10:1", "serch"],
        ["search.yaml:13:14", "trainer.precision"],
        ["search.yaml:14:54", "scheduler.grace_period"],
    ]


def test_lines_are_ordered_as_numbers(complaints):
    text = SMALL + "search:\n" + "\n" * 4 + "  seed: -1\n" + "  trials: 0\n"
    assert [line.split(": ")[0] for line in complaints(text)] == ["search.yaml:10:9", "search.yaml:11:11"]


def test_overrides_replace_add_and_reach_into_the_space(experiment_file):
    experiment = load(
        experiment_file(ALL),
        [
            "search.trials=9",
            "retrain.learning_rate=1e-4",
            "trainer.early_stopping=null",
            "space.width=0.5",
            "space.flip.options.true.dropout=0.3",
            "space.learning_rate.type=float",
            "space.learning_rate.lower=0.01",
            "space.learning_rate.upper=0.1",
            "data.root=no",
        ],
    )
    assert experiment.search.trials == 9
    assert experiment.retrain.learning_rate == 1e-4
    assert experiment.trainer.early_stopping is None
    assert experiment.data.root == "no"
    assert [domain.name for domain in experiment.space.searched()] == ["dropout", "flip", "learning_rate"]
    assert experiment.raw_space["flip"]["options"][True] == {"dropout": 0.3}
    assert experiment.raw_space["width"] == 0.5


def test_an_override_may_fill_a_section_that_the_file_has_not(experiment_file):
    assert load(experiment_file(SMALL), ["retrain.epochs=3"]).retrain.epochs == 3
    assert load(experiment_file(f"{SMALL}retrain:\n"), ["retrain.epochs=3"]).retrain.epochs == 3


def test_the_last_override_wins(experiment_file):
    assert load(experiment_file(SMALL), ["search.trials=2", "search.trials=5"]).search.trials == 5


def test_an_override_repairs_what_the_file_has_wrong(experiment_file, complaints):
    text = f"{SMALL}search: {{trials: 0}}\n"
    assert len(complaints(text)) == 1
    assert load(experiment_file(text), ["search.trials=1"]).search.trials == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials", "must be section.name=value, as in search.trials=8"),
        ("=8", "must be section.name=value, as in search.trials=8"),
        ("search..trials=8", "must be section.name=value, as in search.trials=8"),
        ("search.trials=[1", "the value cannot be read: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("search.trials={a: 1, a: 2}", 'the value cannot be read: a name stands here twice: found duplicate key "a"'),
        ("search.trials=&a [*a]", "the value cannot be read: too deep, or it holds itself"),
        ("serch.trials=1", "serch: unknown section; did you mean 'search'?"),
        ("search.trails=1", "search.trails: unknown name; did you mean 'trials'?"),
        ("search.trials=0", "search.trials: got 0, must be at least 1"),
        ("search.trials=", "search.trials: must be a whole number"),
        (
            "search.metric=a:²",
            "search.metric: got 'a:²', must be one of train_loss, train_accuracy, val_loss, val_accuracy",
        ),
        ("data.source.x=1", "data.source: has no parts: it is 'digits'"),
        ("space.batch_size.options.0=1", "space.batch_size.options: has no parts: it is [32, 64]"),
        ("space.width.lower=3", "space.width.lower: got 3.0, must be below upper, 1.0"),
        ("space.widht=3", "space.widht: unknown parameter; did you mean 'width'?"),
        ("space=3", "space: got 3, must be a section: lines of name: domain"),
        ("data=3", "data: got 3, must be a section: lines of name: value"),
        ("trainer.early_stopping.patience=0", "trainer.early_stopping.patience: got 0, must be at least 1"),
    ],
)
def test_what_is_wrong_in_an_override_is_told_by_the_override(complaints, override, message):
    text = f"{SMALL}  batch_size: {{type: categorical, options: [32, 64]}}\n"
    assert complaints(text, override) == [f"--set {override}: {message}"]


def test_problems_of_overrides_and_of_the_file_come_together(complaints):
    assert complaints(f"{SMALL}search: {{seed: -1}}\n", "search.trials=0", "nonsense") == [
        "--set nonsense: must be section.name=value, as in search.trials=8",
        "--set search.trials=0: search.trials: got 0, must be at least 1",
        "search.yaml:5:16: search.seed: got -1, must be at least 0",
    ]


def test_random_files_give_an_experiment_or_a_spec_error_and_nothing_else(experiment_file):
    """Values of the wrong kind in every place, three hundred times: never another exception."""
    draw = random.Random(0)
    values = [
        None, True, 0, -1, 1e-3, float("nan"), float("inf"), "", "auto", "sgd", "☃", "1e-3", [], [1, 1], [[1]], {},
        {"type": "float"}, {"type": "float", "lower": 1, "upper": "x"}, {"type": "int", "lower": 1, "upper": 3},
        {"type": "categorical", "options": {"sgd": {"momentum": 3}, 1: None}}, {1: 2}, {None: None}, {True: {}},
    ]  # fmt: skip
    names = [
        *HParams.model_fields,
        "data",
        "space",
        "search",
        "source",
        "trials",
        "type",
        "options",
        "fast_dev_run",
        "x",
    ]
    outcomes = set()
    for number in range(300):
        sections = {}
        for section in draw.sample(["data", "space", "search", "scheduler", "trainer", "retrain"], draw.randint(0, 4)):
            inside = {draw.choice(names): draw.choice(values) for _ in range(draw.randint(0, 2))}
            sections[section] = draw.choice([inside, inside, inside, draw.choice(values)])
        file = experiment_file("", f"{number}.yaml")
        with file.open("w", encoding="utf-8") as stream:
            yaml_file.write({"data": {"source": "digits"}, "space": {}} | sections, stream)
        try:
            load(file)
            outcomes.add("experiment")
        except SpecError as error:
            outcomes.add("placed" if all(str(file) in problem.place for problem in error.problems) else "lost")
    assert outcomes == {"experiment", "placed"}
