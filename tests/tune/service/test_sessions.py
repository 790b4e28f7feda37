"""What Ray tells of a job, as we tell it."""

import shlex
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from tune.errors import ClusterError
from tune.service.sessions import entrypoint, free_id, kept, latest, session


def job(name: str = "quickstart", status: str = "RUNNING", **other: Any) -> SimpleNamespace:
    """As Ray's JobDetails."""
    told = {
        "submission_id": "quickstart-1",
        "status": status,
        "metadata": {"cifar-tune": "0.1.0", "experiment": name, "storage": "", "study": ""},
        "message": "",
        "driver_exit_code": None,
        "driver_info": None,
        "driver_node_id": None,
        "start_time": 1_000_000,
        "end_time": None,
    }
    return SimpleNamespace(**{**told, **other})


def test_jobs_of_others_are_not_ours():
    assert session(job(metadata=None)) is None
    assert session(job(metadata={"experiment": "fetch quickstart"})) is None
    assert session(job(submission_id=None)) is None


@pytest.mark.parametrize(
    ("status", "code", "state", "over", "exit_status"),
    [
        ("PENDING", None, "waiting", False, 1),
        ("RUNNING", None, "running", False, 1),
        ("SUCCEEDED", 0, "finished", True, 0),
        ("STOPPED", None, "stopped", True, 143),
        ("FAILED", 143, "stopped", True, 143),
        ("FAILED", 2, "failed", True, 2),
        ("FAILED", None, "failed", True, 1),
    ],
)
def test_a_job_has_a_state_and_one_who_waits_for_it_an_exit_status(status, code, state, over, exit_status):
    told = session(job(status=status, driver_exit_code=code))
    assert (told.state, told.over, told.status) == (state, over, exit_status)


def test_the_message_of_one_that_failed_is_the_line_that_says_why():
    message = "Job entrypoint command failed with exit code 2, last logs:\nnoise\nerror: data.root: is missing\nnoise\n"
    assert session(job(status="FAILED", message=message)).message == "error: data.root: is missing"
    assert session(job(status="FAILED", message="a\n  b \n\n")).message == "b"
    assert session(job(status="STOPPED", message="Job was intentionally stopped.")).message == ""


def test_the_last_session_of_a_name_is_meant():
    known = [
        session(job(submission_id="a-1", start_time=1000)),
        session(job("other", submission_id="b-1", start_time=3000)),
        session(job(submission_id="a-2", start_time=2000, end_time=5000)),
    ]
    assert latest(known, "quickstart").id == "a-2"
    assert latest(known, "quickstart").seconds(now=99) == 3
    assert latest(known, "other").seconds(now=99) == 96
    with pytest.raises(ClusterError, match=r"^the cluster knows no job of quikstart; did you mean 'quickstart'\?"):
        latest(known, "quikstart")
    with pytest.raises(ClusterError, match="no job of x; none was sent there"):
        latest([], "x")


def test_storage_and_study_are_those_of_the_last_session_unless_they_are_given():
    def sent(storage: str, study: str) -> Any:
        return session(job(metadata={"cifar-tune": "", "experiment": "a", "storage": storage, "study": study}))

    known = [sent("/x", "sqlite:////old.db"), sent("/x", "sqlite:////new.db")]
    assert kept(known, "a", None, None) == ("/x", "sqlite:////new.db")
    assert kept(known, "a", "/x", None) == ("/x", "sqlite:////new.db")
    assert kept(known, "a", "/x", "sqlite:////mine.db") == ("/x", "sqlite:////mine.db")
    assert kept(known, "a", "/other", None) == ("/other", None), "that is another experiment"
    assert kept([sent("", "sqlite:////new.db")], "a", "/x", None) == ("/x", "sqlite:////new.db")
    assert kept([sent("", "")], "a", None, None) == ("", None)
    assert kept([], "a", "/x", None) == ("/x", None), "a new cluster"


def test_on_a_new_cluster_the_storage_is_asked_for():
    with pytest.raises(ClusterError, match="none was sent there; where the cluster is a new one, --storage says where"):
        kept([], "a", None, None)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("quickstart", "quickstart"),
        ('it\'s <b>"Café" 🚀', "it-s-b-cafe"),
        ("🚀", "experiment"),
        ("a/../b?#c", "a-b-c"),
    ],
)
def test_ids_are_what_addresses_take_and_none_is_taken_twice(name, slug):
    assert free_id(name, []) == f"{slug}-1"
    assert free_id(name, [f"{slug}-1", f"{slug}-10", "other-77"]) == f"{slug}-11"


def test_a_job_runs_what_it_was_given_whatever_is_in_it():
    name = 'it\'s <b>"café" $HOME `ls` 🚀'
    line = entrypoint(["tune.run", "--name", name], "/shared/a b")
    assert shlex.split(line) == ["exec", "python", "-m", "tune.run", "--name", name, "--storage", "/shared/a b"]


def test_without_a_storage_it_is_the_clusters_or_an_error_that_says_so():
    line = entrypoint(["tune.run"], "").replace("exec python -m", "echo")
    told = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env={"CIFAR_STORAGE": "/a b"}, check=True)
    assert told.stdout == "tune.run --storage /a b\n"
    told = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env={})
    assert told.returncode != 0
    assert told.stdout == ""
    assert "CIFAR_STORAGE: is not set in the environment of the cluster, and no --storage was given" in told.stderr
