from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tune.problems import Problem, from_pydantic, nearest


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    patience: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.5
    above: Annotated[int, Field(gt=0, le=9)] = 1
    size: int | None = None
    flag: bool = False
    text: Annotated[str, Field(min_length=1, max_length=3)] = "a"
    kind: Literal["asha", "none"] = "asha"
    rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    options: list[int] | dict[str, int] = []
    inner: Inner | None = None


class Needy(BaseModel):
    lower: float
    upper: float


def messages(model: type[BaseModel], raw: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(raw)
    return [str(problem) for problem in from_pydantic(caught.value, ("section",), model)]


def test_a_problem_reads_place_path_value_rule():
    problem = Problem(("search", "trials"), "must be at least 1", 0, place="a.yaml:3:11")
    assert str(problem) == "a.yaml:3:11: search.trials: got 0, must be at least 1"


def test_a_problem_about_a_name_leaves_the_value_out():
    assert str(Problem(("serch",), "unknown section", {"trials": 3}, about_key=True)) == "serch: unknown section"


def test_a_problem_of_the_whole_file_has_neither_path_nor_value():
    assert str(Problem((), "the file is empty", place="a.yaml")) == "a.yaml: the file is empty"


def test_booleans_are_shown_as_yaml_writes_them():
    assert str(Problem(("a",), "must be a number", True)) == "a: got true, must be a number"


def test_a_long_value_is_cut_so_that_the_rule_stays_in_sight():
    shown = str(Problem(("a",), "must be text", ["x" * 500])).removeprefix("a: got ").removesuffix(", must be text")
    assert len(shown) == 60
    assert shown.endswith("...")


@pytest.mark.parametrize(
    ("wrong", "names", "suggestion"),
    [
        ("learning_rat", ["learning_rate", "momentum"], "; did you mean 'learning_rate'?"),
        ("lr", ["learning_rate", "lr_schedule"], "; did you mean 'learning_rate'?"),
        ("LR", ["learning_rate", "width"], "; did you mean 'learning_rate'?"),
        ("scheduler", ["lr_schedule", "width"], "; did you mean 'lr_schedule'?"),
        ("loguniform", ["float", "int", "categorical"], "; did you mean 'float'?"),
        ("accuracy", ["val_accuracy", "val_loss"], "; did you mean 'val_accuracy'?"),
        ("lr", ["upper", "lower"], ""),  # a synonym is worth nothing where its meaning is unknown
        ("zzz", ["upper", "lower"], ""),
        (None, ["float"], ""),
        (7, ["float"], ""),
    ],
)
def test_the_nearest_name(wrong, names, suggestion):
    assert nearest(wrong, names) == suggestion


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"share": -0.1}, "section.share: got -0.1, must be at least 0.0"),
        ({"share": 1}, "section.share: got 1, must be below 1.0"),
        ({"share": "half"}, "section.share: got 'half', must be a number"),
        ({"share": True}, "section.share: got true, must be a number"),
        ({"share": float("nan")}, "section.share: got nan, must be a finite number"),
        ({"above": 0}, "section.above: got 0, must be above 0"),
        ({"above": 10}, "section.above: got 10, must be at most 9"),
        ({"above": 1.5}, "section.above: got 1.5, must be a whole number"),
        ({"above": True}, "section.above: got true, must be a whole number"),
        ({"size": "4"}, "section.size: got '4', must be a whole number"),
        ({"flag": 1}, "section.flag: got 1, must be true or false"),
        ({"text": 5}, "section.text: got 5, must be text"),
        ({"text": ""}, "section.text: got '', must not be empty"),
        ({"text": "abcd"}, "section.text: got 'abcd', must have at most 3 characters"),
        ({"kind": "ahsa"}, "section.kind: got 'ahsa', must be one of asha, none; did you mean 'asha'?"),
        ({"kind": None}, "section.kind: must be one of asha, none; did you mean 'none'?"),
        ({"inner": 3}, "section.inner: got 3, must be a section: lines of name: value"),
        ([1], "section: got [1], must be a section: lines of name: value"),
        ({"shar": 1}, "section.shar: unknown name; did you mean 'share'?"),
        # the suggestion comes from the section that the name stands in
        ({"inner": {"patence": 3}}, "section.inner.patence: unknown name; did you mean 'patience'?"),
        ({"inner": {"zz": 3}}, "section.inner.zz: unknown name; known here: patience"),
        ({"inner": {1: 3}}, "section.inner.1: unknown name; known here: patience"),
        # one message for a union, though pydantic has one for each member
        ({"rate": "fast"}, "section.rate: got 'fast', must be a number, or auto"),
        ({"rate": -1}, "section.rate: got -1, must be above 0.0, or auto"),
        ({"options": 5}, "section.options: got 5, must be a list, or a mapping"),
    ],
)
def test_pydantic_errors_in_the_words_of_the_file(raw, message):
    assert messages(Outer, raw) == [message]


def test_every_missing_name_is_told():
    assert messages(Needy, {}) == ["section: lower is missing", "section: upper is missing"]


def test_every_wrong_value_is_told():
    assert messages(Outer, {"share": 2.0, "flag": 3, "zzz": 1})[:2] == [
        "section.share: got 2.0, must be below 1.0",
        "section.flag: got 3, must be true or false",
    ]
