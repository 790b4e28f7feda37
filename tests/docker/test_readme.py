"""docker/README.md is true: what it names is there, and what can be set it names."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "docker" / "README.md").read_text()


def test_every_file_of_ours_that_it_names_is_there():
    named = set(re.findall(r"\b(?:docker|search_spaces|tests)/[\w./-]*\w", README))
    made = {"docker/secrets", "docker/secrets/ray_token", "docker/secrets/storage.env", "docker/.env"}
    assert {"docker/compose.yaml", "docker/kuberay/rayjob.yaml", "docker/check"} < named
    assert [name for name in sorted(named - made) if not (PROJECT / name).exists()] == []


def test_every_variable_of_the_compose_files_is_told():
    files = (PROJECT / "docker" / name for name in ("compose.yaml", "compose.gpu.yaml"))
    asked = {name for file in files for name in re.findall(r"(?<!\$)\$\{(\w+)", file.read_text())}
    told = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert asked | {"WANDB_API_KEY"} <= told
