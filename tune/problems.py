"""What is wrong with an input: where it stands, the value, the rule, and the nearest right name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

# What people write for our names, where the spelling alone would not lead there.
_SYNONYMS = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "model": "network",
    "scheduler": "lr_schedule",
    "lr_scheduler": "lr_schedule",
    "betas": "beta1",
    "min": "lower",
    "low": "lower",
    "max": "upper",
    "high": "upper",
    "choices": "options",
    "values": "options",
    "num_samples": "trials",
    "n_trials": "trials",
    "epochs": "max_epochs",
    "val_acc": "val_accuracy",
    "accuracy": "val_accuracy",
    "acc": "val_accuracy",
    "loss": "val_loss",
    "choice": "categorical",
    "uniform": "float",
    "loguniform": "float",
    "randint": "int",
    "integer": "int",
}


@dataclass(frozen=True)
class Problem:
    """One thing to repair.

    `path` leads to it in the file; `about_key` says that the name is wrong rather than its value; `place` is
    `file:line:column`, filled in by whoever knows the file.
    """

    path: Path
    rule: str
    value: Any = None
    about_key: bool = False
    place: str = ""

    def __str__(self) -> str:
        name = ".".join(str(part) for part in self.path)
        got = "" if self.about_key or self.value is None else f"got {_shown(self.value)}, "
        return ": ".join(part for part in (self.place, name, got + self.rule) if part)


def nearest(name: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `names`, or nothing."""
    names = list(names)
    synonym = _SYNONYMS.get(str(name).lower())
    near = [synonym] if synonym in names else get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def from_pydantic(error: ValidationError, prefix: Path, model: type[BaseModel] | None = None) -> list[Problem]:
    """The problems in a pydantic error, in the file's words. `model` is what was validated, if it was a model."""
    problems: list[Problem] = []
    for details in error.errors(include_url=False):
        if details["type"] == "default_factory_not_called":  # of a field that follows from one that is wrong
            continue
        problem = _from_details(details, prefix, model)
        # of a union, pydantic reports each member that the value misses
        earlier = next((other for other in problems if other.path == problem.path and not other.about_key), None)
        if earlier is None or problem.about_key:
            problems.append(problem)
        else:
            rule = f"{earlier.rule}, or {problem.rule.removeprefix('must be ')}"
            problems[problems.index(earlier)] = replace(earlier, rule=rule)
    return problems


def _from_details(details: ErrorDetails, prefix: Path, model: type[BaseModel] | None) -> Problem:
    inside = tuple(part for part in details["loc"] if not _is_union_tag(part))
    path = prefix + inside
    match details["type"]:
        case "extra_forbidden" | "invalid_key":
            names = _names(model, inside[:-1])
            rule = "unknown name" + (nearest(path[-1], names) or f"; known here: {', '.join(names)}")
            return Problem(path, rule, about_key=True)
        case "missing":
            return Problem(path[:-1], f"{path[-1]} is missing", about_key=True)
    return Problem(path, _rule(details), details["input"])


def _names(model: type[BaseModel] | None, path: Path) -> list[str]:
    """The names that may stand in the section of `model` that `path` leads to."""
    for part in path:
        if model and part in model.model_fields:  # else a place in a list, or a name in a mapping
            model = next(_models(model.model_fields[str(part)].annotation), None)
    return list(model.model_fields) if model else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Those that an annotation holds, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _is_union_tag(part: str | int) -> bool:
    """Pydantic names the member of a union in an error's location, or says that a key is meant; no name looks so."""
    tags = {"[key]", "int", "bool", "float", "str", "constrained-int", "constrained-float"}
    return isinstance(part, str) and (part in tags or part.startswith(("literal[", "list[", "dict[")))


def _rule(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    rules = {
        "greater_than_equal": "must be at least {ge}",
        "greater_than": "must be above {gt}",
        "less_than_equal": "must be at most {le}",
        "less_than": "must be below {lt}",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "string_type": "must be text",
        "string_too_short": "must not be empty",
        "string_too_long": "must have at most {max_length} characters",
        "list_type": "must be a list",
        "dict_type": "must be a mapping",
        "model_type": "must be a section: lines of name: value",
        "model_attributes_type": "must be a section: lines of name: value",
        "value_error": "{error}",
    }
    if details["type"] == "literal_error":
        quoted = context["expected"].replace(" or ", ", ").split(", ")
        expected = list(dict.fromkeys(option.strip("'") for option in quoted))
        several = "one of " * (len(expected) > 1)
        return f"must be {several}{', '.join(expected)}{nearest(details['input'], expected)}"
    return rules.get(details["type"], details["msg"]).format(**context)


def _shown(value: object) -> str:
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
