"""Prints what the image installs: the dependencies of pyproject.toml, and of its extras `dashboard` and `serve`."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["dashboard"], *extras["serve"], sep="\n")
