"""The Dockerfile: linted, and what it promises of its user, its layers and its versions."""

import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "docker" / "Dockerfile"
TEXT = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
STEPS = [tuple(line.split(maxsplit=1)) for line in TEXT.splitlines() if line.strip()]
PINS = dict(
    line.split("==")
    for line in (PROJECT / "docker" / "constraints.txt").read_text().splitlines()
    if not line.lstrip().startswith("#")
)


def place(keyword: str, of: str) -> int:
    (found,) = [number for number, (word, rest) in enumerate(STEPS) if word == keyword and of in rest]
    return found


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint")
    assert hadolint, "of the extra dev"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_user_is_a_number_that_is_not_roots():
    users = [rest for word, rest in STEPS if word == "USER"]
    assert users == ["1000:1000"], "a number, for Kubernetes to see that it is not 0"
    assert place("USER", "1000") < place("CMD", "ray"), "after all that root does"
    assert not [rest for word, rest in STEPS[place("USER", "1000") :] if word in {"RUN", "COPY", "ADD"}]


def test_code_that_changes_leaves_the_layer_of_what_it_needs():
    install = place("RUN", "pip install")
    assert place("COPY", "constraints.txt") < install < place("COPY", "cifar cifar") < place("COPY", "tune tune")
    assert "--no-cache-dir" in STEPS[install][1]
    assert "--constraint constraints.txt" in STEPS[install][1]


def test_no_secret_is_an_argument_and_no_registry_is_named():
    arguments = {rest for word, rest in STEPS if word == "ARG"}
    assert arguments == {'PACKAGES=""', 'TORCH_INDEX=""'}
    assert "://" not in TEXT.replace("http://127.0.0.1", "")


def test_only_what_it_copies_is_sent_to_the_builder():
    first, *allowed = [
        line
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith(("#", "**"))
    ]
    assert first == "*"
    assert all(line.startswith("!") for line in allowed)
    sent = {line.removeprefix("!").rstrip("/") for line in allowed}
    copied = {source for word, rest in STEPS if word == "COPY" for source in rest.split()[:-1]}
    assert sent == copied
    assert all((PROJECT / source).exists() for source in sent)
    assert not any(fnmatch("docker/secrets/ray_token", source) for source in sent)


def test_all_that_the_project_asks_for_is_pinned_to_a_version_that_will_do():
    asked = subprocess.run(
        ["python", PROJECT / "docker" / "requirements.py"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert asked == [*project["dependencies"], *extras["dashboard"], *extras["serve"]]
    for requirement in map(Requirement, asked):
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement}, and {pin} is pinned"
