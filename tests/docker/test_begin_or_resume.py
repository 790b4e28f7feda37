"""What a Kubernetes job calls: it begins a search, and goes on with one that has begun. docker/check has it do both."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "begin-or-resume"


@pytest.mark.parametrize(("begun", "flag"), [(False, []), (True, ["--resume"])])
def test_it_resumes_only_what_has_begun(tmp_path, begun, flag):
    """With another command in the place of Python, which knows of no experiment, or of any."""
    (tmp_path / "python").write_text(f'#!/bin/sh\n[ "$3" = status ] && exit {0 if begun else 2}\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CIFAR_STORAGE": "s3://bucket/a folder"}
    done = subprocess.run(
        [SCRIPT, "a name", "--space", "a file.yaml"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    named = ["--name", "a name", "--storage", "s3://bucket/a folder"]
    assert done.stdout.splitlines() == ["-m", "tune.run", *named, "--space", "a file.yaml", *flag]
