"""Experiment files made on the spot, and the complaints about them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tune.errors import SpecError
from tune.spec import load


@pytest.fixture
def experiment_file(tmp_path: Path) -> Callable[..., Path]:
    def make(text: str, name: str = "search.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return make


@pytest.fixture
def complaints(experiment_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """The lines of the error that loading gives, the file's folder left out."""

    def lines(text: str, *overrides: str) -> list[str]:
        file = experiment_file(text)
        with pytest.raises(SpecError) as caught:
            load(file, overrides)
        assert len(caught.value.problems) == len(str(caught.value).splitlines())
        return str(caught.value).replace(str(file), file.name).splitlines()

    return lines
