"""What the image installs: the dependencies that pyproject.toml names, with those of the extras `dashboard`, `serve`."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["dashboard"], *extras["serve"], sep="\n")
