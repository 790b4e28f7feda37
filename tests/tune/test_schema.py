import jsonschema
import pytest

from cifar.hparams import HParams
from tune import yaml_file
from tune.schema import experiment_schema
from tune.spec import SECTION_NAMES, load

VALIDATOR = jsonschema.Draft202012Validator(experiment_schema())
DATA = "data: {source: digits}\n"


def complaints_of_the_schema(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(yaml_file.parse_value(text))]


def test_it_is_a_json_schema_of_every_section_and_every_hparam():
    schema = experiment_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(SECTION_NAMES) < set(schema["properties"])
    assert list(schema["$defs"]["Space"]["properties"]) == list(HParams.model_fields)


def test_an_editor_is_told_what_a_parameter_means_and_its_default():
    described = experiment_schema()["$defs"]["Space"]["properties"]["cutout"]["description"]
    assert described == "Side of a random blank square, in pixels; default 0"


@pytest.mark.parametrize(
    "text",
    [
        f"{DATA}space: {{}}\n",
        f"{DATA}space: {{width: 1, network: cnn, flip: true}}\nsearch:\nretrain:\n",  # a heading alone
        f"{DATA}space: {{width: {{type: float, lower: 1, upper: 2, log: true}}}}\n",
        f"{DATA}space: {{width: {{type: int, lower: 1, upper: 2}}}}\n",
        f"{DATA}space: {{flip: {{type: categorical, options: [true, false]}}}}\n",
        f"{DATA}space: {{optimizer: {{type: categorical, options: {{sgd: {{momentum: 0.5}}, adam: }}}}}}\n",
        f"{DATA}space: {{}}\nresources: {{cpus_per_trial: auto, gpus_per_trial: 0.5}}\ntrainer: {{fast_dev_run: 3}}\n",
        f"{DATA}space: {{}}\ntrainer: {{early_stopping: {{patience: 2}}}}\nsearch: {{time_budget_s: null}}\n",
        "data: {source: digits, image_size: 48}\nspace: {}\n",
        "data: {source: digits, image_size: [48, 64]}\nspace: {}\n",
        f"{DATA}space: {{}}\nprovenance: {{command: python}}\n",
        f"{DATA}space: {{width: {{type: int, lower: 1, upper: 2}}}}\nsearch: {{start: [{{width: 1, flip: false}}]}}\n",
        f"{DATA}space: {{}}\nsearch: {{objectives: [{{metric: flops}}, {{metric: val_loss, mode: max}}]}}\n",
        f"{DATA}space: {{}}\nsearch:\n  objectives: [{{metric: flops}}, {{metric: val_loss}}]\n"
        "  choose: {min: val_loss, subject_to: {flops: {upper: 3}}}\n",
        f"{DATA}space: {{}}\nsearch: {{warm_start: [other], patience: 2, target: 1}}\nscheduler: {{mode: promote}}\n",
    ],
)
def test_what_loads_satisfies_the_schema_written_out_too(experiment_file, text):
    experiment = load(experiment_file(text))
    assert complaints_of_the_schema(text) == []
    assert list(VALIDATOR.iter_errors(experiment.to_dict())) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("space: {}\n", "$"),
        (DATA, "$"),
        (f"{DATA}space: {{}}\nserch: {{}}\n", "$"),
        ("data: {source: cifar}\nspace: {}\n", "$.data.source"),
        ("data: {source: digits, image_size: 2}\nspace: {}\n", "$.data.image_size"),
        ("data: {source: digits, image_size: [8]}\nspace: {}\n", "$.data.image_size"),
        (f"{DATA}space: {{}}\nsearch: {{trials: 0}}\n", "$.search.trials"),
        (f"{DATA}space: {{}}\nsearch: {{trails: 1}}\n", "$.search"),
        (f"{DATA}space: {{}}\nsearch: {{start: [{{lr: 1}}]}}\n", "$.search.start[0]"),
        (f"{DATA}space: {{}}\nsearch: {{start: [{{}}]}}\n", "$.search.start[0]"),
        (f"{DATA}space: {{}}\nsearch: {{start: [{{flip: 1}}]}}\n", "$.search.start[0].flip"),
        (f"{DATA}space: {{}}\nsearch: {{objectives: [{{metric: val_loss}}]}}\n", "$.search.objectives"),
        (
            f"{DATA}space: {{}}\nsearch: {{choose: {{subject_to: {{flop: {{upper: 1}}}}}}}}\n",
            "$.search.choose",
        ),
        (f"{DATA}space: {{}}\nscheduler: {{quantile: 0.6}}\n", "$.scheduler.quantile"),
        (f"{DATA}space: {{lr: 1}}\n", "$.space"),
        (f"{DATA}space: {{width: wide}}\n", "$.space.width"),
        (f"{DATA}space: {{width: {{type: float, lower: 1}}}}\n", "$.space.width"),
        (f"{DATA}space: {{batch_size: {{type: float, lower: 1, upper: 2}}}}\n", "$.space.batch_size"),
        (f"{DATA}space: {{optimizer: {{type: int, lower: 1, upper: 2}}}}\n", "$.space.optimizer"),
        (f"{DATA}space: {{optimizer: {{type: categorical, options: []}}}}\n", "$.space.optimizer"),
        (f"{DATA}space: {{optimizer: {{type: categorical, options: {{sgd: {{lr: 1}}}}}}}}\n", "$.space.optimizer"),
    ],
)
def test_an_editor_sees_where_a_file_is_wrong(complaints, text, path):
    assert complaints_of_the_schema(text) == [path]
    assert complaints(text)
