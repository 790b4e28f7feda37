"""The JSON Schema of an experiment file, for editors to complete and check it as it is written."""

from typing import Any

from cifar.hparams import HParams
from tune.sections import SECTIONS
from tune.space_parser import CategoricalDomain, FloatDomain, IntDomain
from tune.spec import RECORD, SECTION_NAMES

_SPACE = "#/$defs/Space"


def experiment_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) that every valid experiment file satisfies."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name in SECTION_NAMES:
        if name == "space":
            properties[name] = {
                "$ref": _SPACE,
                "description": "Domains of HParams; what is not here keeps its default",
            }
            continue
        schema = SECTIONS[name].model_json_schema()
        definitions |= schema.pop("$defs", {})
        if name != "data":
            schema["type"] = ["object", "null"]  # a heading with nothing under it
        properties[name] = schema
    properties[RECORD] = {"type": "object", "description": "Written into the record of a search; never read"}
    definitions["Space"] = _space(definitions)
    properties["search"]["properties"]["start"]["items"] = {
        "type": "object",
        "minProperties": 1,
        "properties": {name: {"description": text, **values} for name, (text, values) in _hparams().items()},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Experiment of cifar-tune",
        "type": "object",
        "properties": properties,
        "required": ["data", "space"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _space(definitions: dict[str, Any]) -> dict[str, Any]:
    """Each HParam: a constant, or a domain; the options of a categorical may bring a space of their own."""
    for model in (FloatDomain, IntDomain, CategoricalDomain):
        definitions[model.__name__] = model.model_json_schema()
    definitions["CategoricalDomain"]["properties"]["options"] = {
        "anyOf": [
            {"type": "array", "minItems": 1},
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [{"type": "null"}, {"$ref": _SPACE}]},
            },
        ]
    }
    properties = {}
    for name, (description, field) in _hparams().items():
        domains = ["CategoricalDomain"]
        if field.get("type") in {"number", "integer"}:
            domains += ["IntDomain"] + ["FloatDomain"] * (field["type"] == "number")
        choices = [field, *({"$ref": f"#/$defs/{domain}"} for domain in domains)]
        properties[name] = {"description": description, "anyOf": choices}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _hparams() -> dict[str, tuple[str, dict[str, Any]]]:
    """Of each HParam, what it means with its default, and the values that it takes."""
    fields = HParams.model_json_schema()["properties"]
    return {
        name: (
            f"{field['description']}; default {field['default']}",
            {key: value for key, value in field.items() if key not in {"description", "default", "only_with"}},
        )
        for name, field in fields.items()
    }
