import io
import os
from pathlib import Path

import pytest

from tune.errors import SpecError
from tune.yaml_file import parse_value, read, write


def complaint(file: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read(file)
    return str(caught.value)


def test_values_are_builtins_and_every_one_has_its_place(experiment_file):
    file = experiment_file("data:\n  source: digits\nspace:\n  width: {options: [0.5, 1]}\n")
    values, places = read(file)
    assert values == {"data": {"source": "digits"}, "space": {"width": {"options": [0.5, 1]}}}
    assert type(values["data"]) is dict
    assert type(values["space"]["width"]["options"]) is list
    assert places["data",] == (f"{file}:1:1", f"{file}:2:3")
    assert places["data", "source"] == (f"{file}:2:3", f"{file}:2:11")
    assert places["space", "width", "options", 1] == (f"{file}:4:26", f"{file}:4:26")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5E+2", 500.0),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 17),
        ("-3", -3),
        (".inf", float("inf")),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("2026-01-02", "2026-01-02"),
        ("2026-13-45", "2026-13-45"),
        ("12:30:45", "12:30:45"),
        ("ünï ☃", "ünï ☃"),
        ("[1, [a, true]]", [1, ["a", True]]),
        ("{on: train, true: 1}", {"on": "train", True: 1}),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value, experiment_file):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)
    assert read(experiment_file(f"name: {text}\n"))[0] == {"name": value}


def test_on_is_a_name(experiment_file):
    assert read(experiment_file("on: train\nno: 1\n"))[0] == {"on": "train", "no": 1}


def test_a_name_may_be_any_scalar(experiment_file):
    values, places = read(experiment_file("options: {true: a, 128: b, 0.5: c}\n"))
    assert list(values["options"]) == [True, 128, 0.5]
    assert places["options", 0.5][0].endswith(":1:28")


def test_anchors_are_copied_and_merged(experiment_file):
    file = experiment_file("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc:\n  <<: {z: 4}\n")
    values, places = read(file)
    assert values == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"z": 4}}
    assert places["b", "y"][0] == f"{file}:4:3"
    assert ("c", "z") not in places  # what comes by merging stands nowhere itself


def test_windows_files_are_read(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_bytes("\ufeffdata:\r\n  source: digits\r\n".encode())
    assert read(file)[0] == {"data": {"source": "digits"}}


def test_a_missing_file_suggests_the_nearest_beside_it(tmp_path):
    (tmp_path / "quickstart.yaml").touch()
    (tmp_path / "resnet.yaml").touch()
    file = tmp_path / "quikstart.yaml"
    assert complaint(file) == f"{file}: no such file; did you mean {tmp_path / 'quickstart.yaml'}?"


def test_a_missing_file_lists_what_is_there_when_nothing_is_near(tmp_path):
    (tmp_path / "a.yaml").touch()
    (tmp_path / "b.yml").touch()
    (tmp_path / "notes.txt").touch()
    assert complaint(tmp_path / "quickstart.yaml").endswith(": no such file; there: a.yaml, b.yml")


@pytest.mark.parametrize("name", ["a.yaml", "no/such/folder/a.yaml"])
def test_a_missing_file_where_there_is_none(tmp_path, name):
    assert complaint(tmp_path / name) == f"{tmp_path / name}: no such file; there: no YAML file"


def test_a_directory(tmp_path):
    assert complaint(tmp_path) == f"{tmp_path}: is a directory; name a YAML file in it"


def test_a_file_that_cannot_be_read(tmp_path):
    loop = tmp_path / "loop.yaml"
    os.symlink(loop, loop)
    assert complaint(loop) == f"{loop}: cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file(experiment_file, text):
    file = experiment_file(text)
    assert complaint(file) == f"{file}: the file is empty; copy one of search_spaces/ to start from"


@pytest.mark.parametrize("content", [b"data: \xff\xfe\n", "data: {source: digits}\n".encode("utf-16")])
def test_a_file_that_is_not_utf_8(tmp_path, content):
    file = tmp_path / "search.yaml"
    file.write_bytes(content)
    assert complaint(file) == f"{file}: is not UTF-8 text: invalid start byte"


@pytest.mark.parametrize("text", ["- data\n- space\n", "just words\n", "7\n"])
def test_a_file_that_is_no_mapping(experiment_file, text):
    file = experiment_file(text)
    assert complaint(file) == f"{file}:1:1: must be a mapping of sections: data, space, search, …"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", ":3:2", "not YAML: expected ',' or ']', but got ':'"),
        ("a:\n\tb: 1\n", ":2:1", "not YAML: found character '\\t' that cannot start any token"),
        ("a:\n  b: 1\n c: 2\n", ":3:2", "not YAML: expected <block end>, but found '<block mapping start>'"),
        ("a: *nowhere\n", ":1:4", "not YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", ":2:1", "not YAML: but found another document"),
        ("a: 1\nb: 2\na: 3\n", ":3:1", 'a name stands here twice: found duplicate key "a"'),
        ("s:\n  x: 1\n  x: 1\n", ":3:3", 'a name stands here twice: found duplicate key "x"'),
        ("a: \x00\n", "", "not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: !!int many\n", "", "not YAML: invalid literal for int() with base 10: 'many'"),
        ("a: " + "[" * 500, "", "too deep, or it holds itself"),
    ],
    ids=lambda value: value[:20].strip() or "-",
)
def test_broken_yaml_is_told_with_line_and_column(experiment_file, text, place, reason):
    file = experiment_file(text)
    assert complaint(file) == f"{file}{place}: {reason}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1", "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("{a: 1, a: 2}", 'a name stands here twice: found duplicate key "a"'),
        ("!!int x", "not YAML: invalid literal for int() with base 10: 'x'"),
        ("&a [*a]", "too deep, or it holds itself"),
    ],
)
def test_a_value_that_is_not_yaml(text, reason):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_value(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1e-5, "b": [True, None, "no", "1e-3", "true", "2026-01-02", ""], "c": {128: {}, True: [], 0.5: "x: y"}},
        {"root": "/ein sehr  langer Weg/" + "wort " * 60 + "☃🚀", "text": "two\nlines\n", "quote": 'it\'s "so" #1'},
        {"on": "train+validation", "huge": 10**30, "tiny": 5e-324, "neg": -0.0},
    ],
)
def test_what_is_written_is_read_back(value, experiment_file):
    stream = io.StringIO()
    write(value, stream)
    assert read(experiment_file(stream.getvalue()))[0] == value


def test_writing_keeps_the_order_and_one_name_a_line():
    stream = io.StringIO()
    write({"z": 1, "a": {"k": [1, 2]}}, stream)
    assert stream.getvalue() == "z: 1\na:\n  k:\n  - 1\n  - 2\n"
