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
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    text = _text(file)
    try:
        tree = _yaml().load(text)
        values, places = plain(tree), dict(_places(tree, (), str(file)))
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError([Problem((), _reason(error), place=_mark(file, error))]) from None
    if tree is None:
        raise SpecError([Problem((), "the file is empty; copy one of search_spaces/ to start from", place=str(file))])
    if not isinstance(tree, CommentedMap):
        raise SpecError([Problem((), "must be a mapping of sections: data, space, search, …", place=f"{file}:1:1")])
    return values, places


def _yaml() -> Any:
    """ruamel's YAML 1.2 that keeps places; dates, which are not of YAML 1.2, stay text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import RoundTripConstructor

    class Constructor(RoundTripConstructor):
        pass

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))
    yaml = YAML(typ="rt")
    yaml.Constructor = Constructor
    return yaml


def _text(file: FilePath) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = sorted(other.name for other in file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        near = get_close_matches(file.name, there, n=1)
        hint = f"did you mean {file.parent / near[0]}?" if near else f"there: {', '.join(there) or 'no YAML file'}"
        raise SpecError([Problem((), f"no such file; {hint}", place=str(file))]) from None
    except IsADirectoryError:
        raise SpecError([Problem((), "is a directory; name a YAML file in it", place=str(file))]) from None
    except UnicodeDecodeError as error:
        raise SpecError([Problem((), f"is not UTF-8 text: {error.reason}", place=str(file))]) from None
    except OSError as error:
        raise SpecError([Problem((), f"cannot be read: {error.strerror}", place=str(file))]) from None


def _reason(error: Exception) -> str:
    """What is wrong, in a line."""
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError

    if isinstance(error, DuplicateKeyError):
        return "a name stands here twice: " + str(error.problem).split(" with value")[0]
    if isinstance(error, MarkedYAMLError):
        return f"not YAML: {error.problem or error.context}"
    if isinstance(error, RecursionError):
        return "too deep, or it holds itself"
    return f"not YAML: {str(error).splitlines()[0]}"


def _mark(file: FilePath, error: Any) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)


def parse_value(text: str) -> Any:
    """A value as the file would give it. Raises ValueError if `text` is not YAML."""
    from ruamel.yaml.error import YAMLError

    try:
        return plain(_yaml().load(text))
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from None


def tree(file: FilePath) -> Any:
    """The file as ruamel has it, which keeps comments and takes new ones. Raises SpecError as `read`."""
    read(file)
    return _yaml().load(_text(file))


def write(value: Any, stream: TextIO) -> None:
    """Writes `value`, made of plain Python values or what `tree` gave, as YAML."""
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
            known = key in (node.lc.data or {})  # type: ignore[attr-defined]
            if known:
                name = place(node.lc.key(key))  # type: ignore[attr-defined]
                # the place of nothing would be that of whatever comes next
                yield here, (name, name if value is None else place(node.lc.value(key)))  # type: ignore[attr-defined]
            yield from _places(value, here, file)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            here = (*path, index)
            at = place(node.lc.item(index))  # type: ignore[attr-defined]
            yield here, (at, at)
            yield from _places(value, here, file)
