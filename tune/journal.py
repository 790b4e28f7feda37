"""A study's journal as one reads it who only looks: fast, without a lock, and as far as it is whole. Pure.

A line is an operation of Optuna's JournalStorage, which replays each by copying the trial that it changes. So the lines
of a trial are folded into one first: what Optuna writes for a trial that is added as a whole.
"""

import json
from pathlib import Path
from typing import Any

Log = dict[str, Any]

# Optuna's operations (optuna.storages.journal._storage.JournalOperation).
_CREATE_STUDY, _STUDY_USER_ATTR, _STUDY_SYSTEM_ATTR, _CREATE_TRIAL = 0, 2, 3, 4
_PARAM, _STATE, _INTERMEDIATE, _USER_ATTR, _SYSTEM_ATTR = 5, 6, 7, 8, 9
_RUNNING, _WAITING = 0, 4  # of Optuna's states those that are no end
_PLACES = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")  # of a trial


def read_lines(journal: Path) -> list[Log]:
    """The operations in a journal; what is still being written at its end is left out.

    Raises OSError if it cannot be read, ValueError where a line is none.
    """
    content = journal.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        logs = json.loads(b"[" + b",".join(lines) + b"]")  # twice as fast as line by line
    except ValueError:
        logs = []
    if len(logs) != len(lines):
        logs = [_parsed(line, number) for number, line in enumerate(lines, start=1)]
    for number, log in enumerate(logs, start=1):
        if not isinstance(log, dict):
            raise ValueError(f"line {number} is no operation of a journal")
    return list(logs)


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def folded(logs: list[Log]) -> list[Log]:
    """Operations that give the same study, one for each trial; the same ones where that is not sure.

    Raises KeyError or TypeError where one lacks what an operation has.
    """
    others: list[Log] = []
    trials: list[Log] = []
    known: dict[str, str] = {}  # parameter -> its distribution
    for log in logs:
        code = log["op_code"]
        if _PARAM <= code <= _SYSTEM_ATTR:
            if log["trial_id"] >= len(trials):
                return logs
            if code == _PARAM and known.setdefault(log["param_name"], log["distribution"]) != log["distribution"]:
                return logs  # Optuna decides whether they go together
            trial = trials[log["trial_id"]]
            if trial["state"] in (_RUNNING, _WAITING):  # what has ended stays as it is
                _fold(trial, log, code)
        elif code == _CREATE_TRIAL:
            trials.append(_whole(log))
        elif code in (_CREATE_STUDY, _STUDY_USER_ATTR, _STUDY_SYSTEM_ATTR):
            others.append(log)
        else:
            return logs
    studies = {log["study_name"] for log in others if log["op_code"] == _CREATE_STUDY}  # each session asks for its own
    return others + trials if len(studies) == 1 and logs[0]["op_code"] == _CREATE_STUDY else logs


def _whole(log: Log) -> Log:
    """A new trial, with places for all that may be told of it."""
    places: Log = {name: dict(log.get(name, {})) for name in _PLACES}
    return {"state": _RUNNING, "value": None, "values": None, **log, **places}


def _fold(trial: Log, log: Log, code: int) -> None:
    """Does to a trial what an operation says."""
    if code == _USER_ATTR:
        trial["user_attrs"].update(log["user_attr"])
    elif code == _PARAM:
        trial["params"][log["param_name"]] = log["param_value_internal"]
        trial["distributions"][log["param_name"]] = log["distribution"]
    elif code == _INTERMEDIATE:
        trial["intermediate_values"][log["step"]] = log["intermediate_value"]
    elif code == _SYSTEM_ATTR:
        trial["system_attrs"].update(log["system_attr"])
    elif log["state"] != _RUNNING or trial["state"] != _RUNNING:  # else another process has taken it
        _change_state(trial, log)


def _change_state(trial: Log, log: Log) -> None:
    trial["state"] = log["state"]
    if log["state"] == _RUNNING:
        trial["datetime_start"] = log["datetime_start"]
    elif log["state"] != _WAITING:
        trial["datetime_complete"] = log["datetime_complete"]
    if log["values"] is not None:
        trial["value"], trial["values"] = None, log["values"]
