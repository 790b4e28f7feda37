"""YAML 1.2 with the place of every value, so that an error can name its line and column."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TextIO

from tune.errors import SpecError
from tune.problems import Path, Problem

Places = dict[Path, tuple[str, str]]  # path -> place of its name, place of its value; each "file:line:column"


def read(file: FilePath) -> tuple[dict[str, Any], Places]:
    """The file's mapping as plain Python values, and where each stands.

    Raises SpecError if the file is missing, a directory, empty, not UTF-8, not YAML, not a mapping, or has a name
    twice in one place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = _text(file)
    try:
        tree = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        raise _syntax(file, error, "a name stands here twice: " + str(error.problem).split(" with value")[0]) from None
    except MarkedYAMLError as error:
        raise _syntax(file, error, f"not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise SpecError([Problem((), f"not YAML: {error}", place=str(file))]) from None
    if tree is None:
        raise SpecError([Problem((), "the file is empty; copy one of search_spaces/ to start from", place=str(file))])
    if not isinstance(tree, CommentedMap):
        raise SpecError([Problem((), "must be a mapping of sections: data, space, search, …", place=f"{file}:1:1")])
    return plain(tree), dict(_places(tree, (), str(file)))


def _text(file: FilePath) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = [str(other) for other in sorted(file.parent.glob("*.y*ml"))] if file.parent.is_dir() else []
        near = get_close_matches(str(file), there, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there: {', '.join(there) or 'no YAML file'}"
        raise SpecError([Problem((), f"no such file; {hint}", place=str(file))]) from None
    except IsADirectoryError:
        raise SpecError([Problem((), "is a directory; name a YAML file in it", place=str(file))]) from None
    except UnicodeDecodeError as error:
        raise SpecError([Problem((), f"is not UTF-8 text: {error.reason}", place=str(file))]) from None
    except OSError as error:
        raise SpecError([Problem((), f"cannot be read: {error.strerror}", place=str(file))]) from None


def _syntax(file: FilePath, error: Any, rule: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
    return SpecError([Problem((), rule, place=place)])


def parse_value(text: str) -> Any:
    """A value as the file would give it. Raises ValueError if `text` is not YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return plain(YAML(typ="rt").load(text))
    except YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def write(value: Any, stream: TextIO) -> None:
    """Writes `value`, made of plain Python values, as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.dump(value, stream)


def plain(node: Any) -> Any:
    """ruamel's round-trip values as builtins."""
    match node:
        case dict():
            return {plain(key): plain(value) for key, value in node.items()}
        case list():
            return [plain(value) for value in node]
        case bool() | None:
            return node
        case int():
            return bool(node) if type(node).__name__ == "ScalarBoolean" else int(node)
        case float():
            return float(node)
        case str():
            return str(node)
    return node


def _places(node: Any, path: Path, file: str) -> Iterator[tuple[Path, tuple[str, str]]]:
    def place(line_and_column: tuple[int, int]) -> str:
        return f"{file}:{line_and_column[0] + 1}:{line_and_column[1] + 1}"

    if isinstance(node, dict):
        for key, value in node.items():
            here = (*path, plain(key))
            # keys that come through an anchor's merge have no place of their own
            known = key in node.lc.data  # type: ignore[attr-defined]
            if known:
                yield here, (place(node.lc.key(key)), place(node.lc.value(key)))  # type: ignore[attr-defined]
            yield from _places(value, here, file)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            here = (*path, index)
            at = place(node.lc.item(index))  # type: ignore[attr-defined]
            yield here, (at, at)
            yield from _places(value, here, file)
