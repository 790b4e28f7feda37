"""The fault matrix: whatever is killed, cut or full, no trial is lost, no finished result changes, and a winner comes.

With one slot a search is repeatable value for value, so most faults are held against the same search undisturbed.
"""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from tune.storage import open_storage

PROJECT = Path(__file__).parents[2]
SPACE = PROJECT / "search_spaces" / "quickstart.yaml"
SETTINGS = (
    "search.trials=12",
    "scheduler.max_epochs=6",
    "retrain.epochs=1",
    "retrain.seeds=0",
    "data.limit=600",
    "resources.max_concurrent=1",
)
KILLS = 20
# how Ray names the process of a trial, while it trains and between two epochs, and that of a training of the last mile
TRAINING, LAST_MILE = "ray::(test trial|ImplicitFunc)", "ray::test (finalist|[a-z]+ tail)"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("faults")]


def arguments(*settings: str, name: str = "test", storage: str = "experiments") -> list[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    return ["tune.run", "--space", str(SPACE), "--name", name, "--storage", storage, *sets]


def study(experiment: Path) -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(experiment / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def trials(experiment: Path) -> dict[int, dict[str, Any]]:
    """What the study says of each trial: all that must not depend on interruptions."""
    return {
        trial.number: {
            "params": trial.params,
            "state": trial.state.name,
            "value": trial.value,
            "values": trial.intermediate_values,
            "reason": trial.user_attrs.get("reason"),
            "rungs": {key: words for key, words in trial.user_attrs.items() if key.startswith("rung ")},
        }
        for trial in study(experiment)
    }


def finished(experiment: Path) -> dict[int, dict[str, Any]]:
    return {
        number: told for number, told in trials(experiment).items() if told["state"] in {"COMPLETE", "PRUNED", "FAIL"}
    }


def until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    for _ in range(int(seconds * 10)):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


@pytest.fixture(scope="module")
def undisturbed(search_once) -> dict[str, Any]:
    """The search that the others are held against."""
    _, experiment = search_once(*SETTINGS)
    told = trials(experiment)
    assert len(told) == 12
    assert {"COMPLETE", "PRUNED"} == {trial["state"] for trial in told.values()}
    return {"trials": told, "winner": winner(experiment)}


def winner(experiment: Path) -> str:
    """The winner without the folder of its checkpoint, which has the number of the attempt."""
    lines = (experiment / "winner.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("checkpoint"))


@pytest.fixture
def experiment(folder) -> Path:
    return folder / "experiments" / "test"


def recorded(experiment: Path) -> int:
    """How many checkpoints have been."""
    journal = experiment / "study.journal"
    return journal.read_bytes().count(b'"checkpoint"') if journal.exists() else 0


def some_epochs(experiment: Path, count: int) -> Callable[[], bool]:
    """Whether so many checkpoints have been recorded."""
    return lambda: recorded(experiment) >= count


def assert_undisturbed(done: Any, experiment: Path, undisturbed: dict[str, Any]) -> None:
    assert done.code == 0, done.err
    assert trials(experiment) == undisturbed["trials"]
    assert winner(experiment) == undisturbed["winner"]
    assert (experiment / "model" / "model.onnx").exists()


def test_a_driver_killed_twenty_times_ends_in_the_same_trials(start, cluster, experiment, undisturbed):
    """Mostly while it begins, which takes the longest, and each fourth time once it has got further."""
    chance = random.Random(20)
    known: dict[int, dict[str, Any]] = {}
    resume: tuple[str, ...] = ()
    for kill in range(KILLS):
        before = recorded(experiment)
        run = start(*arguments(*SETTINGS), "--address", cluster, *resume)
        until(experiment.exists, "the experiment's beginning")
        resume = ("--resume",)
        if kill % 4 == 3:
            until(lambda: recorded(experiment) > before or run.process.poll() is not None, "an epoch")  # noqa: B023
            time.sleep(chance.uniform(0, 1))
        else:
            time.sleep(chance.uniform(1, 5))
        if run.process.poll() is not None:
            break
        run.kill(signal.SIGKILL)
        if (experiment / "study.journal").exists():
            now = finished(experiment)
            assert {number: now.get(number) for number in known} == known, f"after kill {kill}"
            known = now
    assert kill >= 10, "the search was over before it was killed often enough to mean anything"
    assert_undisturbed(start(*arguments(*SETTINGS), "--address", cluster, "--resume").end(300), experiment, undisturbed)


def test_sigterm_a_lost_storage_a_cut_checkpoint_and_a_cut_journal_cost_one_search_nothing(
    start, cluster, experiment, undisturbed
):
    """One after the other; each time it goes on from what the last one left."""
    command = (*arguments(*SETTINGS), "--address", cluster)

    def agrees() -> None:
        before = finished(experiment)
        assert before == {number: undisturbed["trials"][number] for number in before}

    again = told_to_end(start(*command), experiment)
    agrees()
    storage_vanishes(start(*again), experiment)
    agrees()

    run = start(*command, "--resume")
    until(some_epochs(experiment, 15), "the fifteenth epoch")
    assert run.kill(signal.SIGTERM).code == 143
    newest = max((experiment / "trials").glob("*/checkpoint_*/checkpoint.ckpt"), key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:1000])

    run = start(*command, "--resume")
    until(some_epochs(experiment, 20), "the twentieth epoch")
    run.kill(signal.SIGKILL)
    journal = experiment / "study.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert_undisturbed(start(*command, "--resume").end(300), experiment, undisturbed)


def told_to_end(run: Any, experiment: Path) -> list[str]:
    """SIGTERM saves, and says how to go on, which is returned."""
    until(some_epochs(experiment, 5), "the fifth epoch")
    done = run.kill(signal.SIGTERM)
    assert done.code == 143
    assert "running trials finish and save their epoch" in done.out
    command = done.err.strip().splitlines()[-1].strip()
    assert command.startswith("python -m tune.run --space ")
    assert command.endswith(" --resume")
    return command.split()[2:]


def storage_vanishes(run: Any, experiment: Path) -> None:
    """It ends with a line; then the storage is back."""
    until(some_epochs(experiment, 10), "the tenth epoch")
    away = experiment.parent.with_name("away")
    shutil.move(experiment.parent, away)
    experiment.parent.touch()  # nothing can be written in a file
    done = run.end(300)
    experiment.parent.unlink()
    shutil.move(away, experiment.parent)
    assert done.code == 2, done.err
    assert "can no longer be written" in done.err
    assert "Traceback" not in done.err


def kill_training(processes: Callable[..., list[int]], experiment: Path, epochs: int) -> None:
    """The processes of trials, after so many epochs."""
    until(some_epochs(experiment, epochs), f"epoch {epochs}")
    for process in processes(TRAINING):
        subprocess.run(["kill", "-9", str(process)], check=True)


def test_a_killed_process_of_a_trial_costs_an_epoch(start, cluster, experiment, undisturbed, processes):
    run = start(*arguments(*SETTINGS), "--address", cluster)
    for epochs in (4, 9):
        kill_training(processes, experiment, epochs)
    assert_undisturbed(run.end(300), experiment, undisturbed)
    assert sum(trial.user_attrs.get("lost", 0) for trial in study(experiment)), "none was killed"


def test_in_a_cluster_of_its_own_too_and_a_killed_driver_leaves_no_process_behind(
    start, experiment, undisturbed, processes
):
    """Processes of trials are forks there; one that had just begun would be the last."""
    run = start(*arguments(*SETTINGS))
    for epochs in (8, 18):
        kill_training(processes, experiment, epochs)
    until(some_epochs(experiment, 22), "epoch 22")
    server, *others = processes("tune.fork_server", run.process.pid)
    forks = processes(TRAINING, server)
    assert (others, len(forks)) == ([], 1)
    run.kill(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (server, *forks)), "the end of its processes")
    assert sum(trial.user_attrs.get("lost", 0) for trial in study(experiment)), "none was killed"
    assert_undisturbed(start(*arguments(*SETTINGS), "--resume").end(300), experiment, undisturbed)


def results(experiment: Path) -> dict[str, Any]:
    """What each training of the last mile gave, by its key."""
    storage = JournalStorage(JournalFileBackend(str(experiment / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    told = optuna.load_study(study_name=name, storage=storage).user_attrs
    return {key: value for key, value in told.items() if key.startswith("last mile: ")}


def some_results(experiment: Path, count: int) -> Callable[[], bool]:
    """Whether so many of them have been recorded."""
    return lambda: (
        (experiment / "study.journal").exists()
        and (experiment / "study.journal").read_bytes().count(b'"last mile: ') >= count
    )


def test_a_killed_process_and_a_killed_driver_cost_the_last_mile_the_trainings_that_ran(
    start, cluster, experiment, processes
):
    settings = (*SETTINGS, "search.trials=3", "retrain.finalists=2", "retrain.seeds=2")
    undisturbed = start(*arguments(*settings, name="undisturbed"), "--address", cluster).end(300)
    assert undisturbed.code == 0, undisturbed.err
    run = start(*arguments(*settings), "--address", cluster)
    until(some_results(experiment, 1), "the first finalist's end", 200)
    until(lambda: processes(LAST_MILE), "another one")
    for process in processes(LAST_MILE):
        subprocess.run(["kill", "-9", str(process)], check=True)
    until(some_results(experiment, 2), "the end of one that was killed")
    run.kill(signal.SIGKILL)
    before = results(experiment)
    done = start(*arguments(*settings), "--address", cluster, "--resume").end(300)
    assert done.code == 0, done.err
    after = results(experiment)
    assert {key: after[key] for key in before} == before, "to the second that they took: none was trained again"
    assert 2 <= len(before) < len(after)
    assert winner(experiment) == winner(experiment.with_name("undisturbed"))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 5 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine mounts no tmpfs for us: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_with_a_line_and_the_search_goes_on_when_there_is_room(
    start, cluster, undisturbed, small_disk
):
    command = [*arguments(*SETTINGS, storage=str(small_disk)), "--address", cluster]
    done = start(*command).end(300)
    assert done.code == 2
    assert f"error: {small_disk}/test can no longer be written" in done.err
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    assert "--resume" in done.err
    known = finished(small_disk / "test")
    subprocess.run(["mount", "-o", "remount,size=500m", str(small_disk)], check=True)
    done = start(*command, "--resume").end(300)
    assert known == {number: undisturbed["trials"][number] for number in known}
    assert_undisturbed(done, small_disk / "test", undisturbed)


def test_a_killed_raylet_costs_an_epoch(start, ray_head, ray_worker, experiment, undisturbed):
    address = ray_head(0)
    node = ray_worker(address)
    run = start(*arguments(*SETTINGS), "--address", address)
    until(some_epochs(experiment, 6), "the sixth epoch")
    node.kill_raylet()
    ray_worker(address)
    assert_undisturbed(run.end(300), experiment, undisturbed)
    assert [trial.user_attrs["lost"] for trial in study(experiment) if trial.user_attrs.get("lost")] == [1]


def test_nodes_that_come_are_used_and_those_that_go_cost_no_trial(start, ray_head, ray_worker, experiment, processes):
    address = ray_head(0)
    first = ray_worker(address)
    run = start(*arguments(*SETTINGS[:-2], "search.trials=20"), "--address", address)
    until(some_epochs(experiment, 3), "the third epoch")
    assert len(processes(TRAINING)) == 1
    ray_worker(address)
    until(lambda: len(processes(TRAINING)) == 2, "a trial on the node that came")
    until(some_epochs(experiment, 15), "the fifteenth epoch")
    before = finished(experiment)
    first.leave()
    done = run.end(300)
    assert done.code == 0, done.err
    after = trials(experiment)
    assert {number: after[number] for number in before} == before
    assert [told["state"] for told in after.values() if told["state"] not in {"COMPLETE", "PRUNED"}] == []
    assert len(after) == 20
    assert (experiment / "model" / "model.onnx").exists()


def test_an_s3_that_is_down_for_ten_seconds_is_ridden_out_and_a_killed_driver_goes_on_from_it(
    start, cluster, server, tmp_path, undisturbed
):
    where = server.uri("faults/searches", user="a-key:a-secret@", options="&allow_bucket_creation=true")
    storage, experiment = open_storage(where), tmp_path / "down" / "test"
    command = [*arguments(*SETTINGS, storage=where), "--address", cluster]

    def epochs(count: int) -> bool:
        if not storage.exists("test/study.journal"):
            return False
        storage.download("test/study.journal", experiment / "study.journal")
        return some_epochs(experiment, count)()

    run = start(*command)
    until(lambda: epochs(4), "the fourth epoch")
    with server.stopped():
        time.sleep(10)
    until(lambda: epochs(10), "the tenth epoch")
    run.kill(signal.SIGKILL)
    before = finished(experiment)
    done = start(*command, "--resume").end(300)
    assert before == {number: undisturbed["trials"][number] for number in before}
    storage.download("test", experiment)
    assert_undisturbed(done, experiment, undisturbed)
    assert "a-secret" not in done.out + done.err


def test_no_memory_left_fails_a_trial_once_and_the_others_go_on(search, own, experiment):
    done = search(own("hungry"))
    assert done.code == 0, done.err
    failed = [trial for trial in study(experiment) if trial.params["width"] == 2.0]
    assert failed
    for trial in failed:
        assert (trial.state.name, trial.user_attrs["attempts"], list(trial.intermediate_values)) == ("FAIL", 1, [1])
        assert trial.user_attrs["reason"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    others = [trial for trial in study(experiment) if trial.params["width"] == 0.5]
    assert [trial.state.name for trial in others] == ["COMPLETE"] * (6 - len(failed))


def test_a_trial_that_hangs_is_ended_and_goes_on_from_its_last_epoch(search, own, folder, experiment):
    done = search(own("hanging"), "search.trial_timeout=20", "search.trials=2")
    assert done.code == 0, done.err
    assert (folder / "hung").exists()
    assert [trial.state.name for trial in study(experiment)] == ["COMPLETE"] * 2
    (again,) = [trial for trial in study(experiment) if trial.user_attrs["attempts"] > 1]
    assert (again.user_attrs["lost"], list(again.intermediate_values)) == (1, [1, 2, 3])
