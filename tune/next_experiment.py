"""The next experiment's file: this one's, with what the critic would change marked, and a warm start from it."""

import io
import re
import shlex
from textwrap import wrap
from typing import Any

from tune import spec, yaml_file
from tune.critic import Finding, criticise
from tune.experiment import ExperimentDir, write_text
from tune.importance import importances
from tune.open_study import levels
from tune.recorded import Recorded

_WIDTH = 100
_NAME_BYTES = 200  # that tune.experiment.check_name lets through


def findings(known: Recorded) -> list[Finding]:
    """What the critic has to say of an experiment."""
    experiment = known.experiment
    mattered = {} if experiment.search.objectives else importances(known.study.study, levels(experiment))
    return criticise(experiment, known.trials, mattered)


def next_yaml(known: Recorded, found: list[Finding]) -> str:
    """The file's text, with a comment where something was changed or might be."""
    tree = yaml_file.tree(known.directory.spec)
    tree.pop(spec.RECORD, None)
    tree["search"]["start"] = []
    tree["search"]["seed"] = (known.experiment.search.seed + 1) % 2**32
    _remark(tree, ("search", "seed"), "changed: what is drawn at random is not to be drawn again")
    warm = _warm_start(known)
    tree["search"]["warm_start"] = warm
    if warm:
        _remark(tree, ("search", "warm_start"), "added: what this search's sampler learned from its trials")
    for finding in found:
        path, value = finding.change.path, finding.change.value
        node = _at(tree, path[:-1])
        was = node[path[-1]]
        if value is not None:
            node[path[-1]] = value
            _remark(tree, path, f"changed: was {was:g}; {finding.evidence}")
        else:
            _remark(tree, path, f"{finding.evidence}; {finding.suggestion}")
    stream = io.StringIO()
    yaml_file.write(tree, stream)
    return "\n".join(f"# {line}" for line in _heading(known, found)) + "\n" + stream.getvalue()


def write_next(known: Recorded) -> None:
    """Writes next.yaml of the experiment."""
    write_text(known.directory.next, next_yaml(known, findings(known)))


def next_name(name: str) -> str:
    """The name of an experiment's successor: quickstart-2, quickstart-3, …; of resnet-18 it is resnet-18-2."""
    counted = re.fullmatch(r"(.+)-([2-9])", name)
    stem, number = (counted[1], int(counted[2]) + 1) if counted else (name, 2)
    end = f"-{number}"
    return stem.encode()[: _NAME_BYTES - len(end)].decode(errors="ignore") + end


def next_command(directory: ExperimentDir, name: str) -> str:
    """The command that runs the successor of the experiment `name`, whose next.yaml is written."""
    if directory.remote is not None:  # a search reads its file from this machine
        return write_and_run(directory, name)
    return _run(str(directory.next), directory, name)


def write_and_run(directory: ExperimentDir, name: str) -> str:
    """The commands that write the file of the successor, and run it, whether the experiment is over or not."""
    write = f"python -m tune next {shlex.quote(name)} --storage {shlex.quote(directory.storage)} --output next.yaml"
    return f"{write} && {_run('next.yaml', directory, name)}"


def _run(space: str, directory: ExperimentDir, name: str) -> str:
    where = f"--name {shlex.quote(next_name(name))} --storage {shlex.quote(directory.storage)}"
    return f"python -m tune.run --space {shlex.quote(space)} {where}"


def _heading(known: Recorded, found: list[Finding]) -> list[str]:
    changes = sum(finding.change.value is not None for finding in found)
    told = (
        f"{changes} change{'s' * (changes != 1)}, each marked by a comment" if changes else "no change of its settings"
    )
    return [
        f"The experiment after {known.name}: {told}.",
        _run("THIS_FILE", known.directory, known.name),
    ]


def _warm_start(known: Recorded) -> list[str]:
    """This experiment, by a path that holds anywhere; nothing where a search cannot learn from it."""
    if known.experiment.search.objectives or ":***@" in str(known.provenance.get("study", "")):
        return []
    return [known.directory.place.uri]


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _remark(tree: Any, path: tuple[Any, ...], words: str) -> None:
    """A comment in front of a name."""
    lines = "\n".join(wrap(words, _WIDTH, break_long_words=False))
    indent = 2 * (len(path) - 1)
    _at(tree, path[:-1]).yaml_set_comment_before_after_key(path[-1], before=lines, indent=indent)
