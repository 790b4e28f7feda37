import pytest

from tune.checkpoints import Checkpoints
from tune.storage import open_storage
from tune.trials import State, Trial


@pytest.fixture
def place(tmp_path):
    return open_storage(str(tmp_path))


def trained(place, number: int, *values: float, state: State = "running", keeper: Checkpoints | None = None) -> Trial:
    """A trial whose epochs had these values, each saved; `keeper` hears of each."""
    trial = Trial(number, {}, state)
    for epoch, value in enumerate(values, start=1):
        trial.values[epoch] = value
        save(place, trial, epoch)
        if keeper:
            keeper.added(trial)
    return trial


def save(place, trial: Trial, epoch: int) -> None:
    path = f"trials/{trial.number:05d}/checkpoint_{epoch:06d}"
    (place.local / path).mkdir(parents=True)
    (place.local / path / "checkpoint.ckpt").write_text(f"{trial.number} {epoch}")
    trial.checkpoints[epoch] = path


def on_disk(place) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in sorted(place.local.glob("trials/*/*")):
        found.setdefault(int(folder.parent.name), []).append(int(folder.name.removeprefix("checkpoint_")))
    return found


@pytest.mark.parametrize(
    ("values", "maximize", "kept"),
    [
        ([0.5], True, [1]),
        ([0.5, 0.6, 0.7, 0.8], True, [3, 4]),
        ([0.5, 0.9, 0.7, 0.8, 0.6], True, [2, 4, 5]),
        ([0.5, 0.9, 0.7, 0.8, 0.6], False, [1, 4, 5]),
        ([0.9, 0.9, 0.1, 0.1, 0.1], True, [2, 4, 5]),
    ],
)
def test_of_a_running_trial_the_best_and_the_two_latest_are_kept(place, values, maximize, kept):
    keeper = Checkpoints(place, 3, maximize=maximize)
    trial = trained(place, 0, *values, keeper=keeper)
    assert sorted(trial.checkpoints) == kept
    assert on_disk(place) == {0: kept}


def test_of_ended_trials_the_best_keep_that_of_their_best_epoch(place):
    keeper = Checkpoints(place, 2, maximize=True)
    trials = []
    for number, values in enumerate([[0.5, 0.9, 0.7], [0.8, 0.6], [0.95], [0.1, 0.2]]):
        trial = trained(place, number, *values, keeper=keeper)
        trial.state = "stopped"
        keeper.ended(trial)
        trials.append(trial)
    assert on_disk(place) == {0: [2], 2: [1]}
    assert [sorted(trial.checkpoints) for trial in trials] == [[2], [], [1], []]


def test_which_ended_trials_are_the_best_may_be_said(place):
    keeper = Checkpoints(place, 1, maximize=True, in_order=lambda trials: sorted(trials, key=lambda one: one.number))
    for number, value in enumerate([0.5, 0.9]):
        trial = trained(place, number, value, 0.1, state="completed", keeper=keeper)
        keeper.ended(trial)
    assert on_disk(place) == {0: [1]}


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_trials_that_failed_or_diverged_keep_none(place, state):
    keeper = Checkpoints(place, 2, maximize=True)
    trial = trained(place, 0, 0.9, keeper=keeper)
    trial.state = state
    keeper.ended(trial)
    assert on_disk(place) == {}


def test_running_trials_are_not_counted(place):
    keeper = Checkpoints(place, 1, maximize=True)
    trained(place, 0, 0.95, 0.96, keeper=keeper)
    trial = trained(place, 1, 0.5, keeper=keeper)
    trial.state = "completed"
    keeper.ended(trial)
    assert on_disk(place) == {0: [1, 2], 1: [1]}


def test_what_is_missing_is_forgotten(place):
    keeper = Checkpoints(place, 2, maximize=True)
    trial = trained(place, 0, 0.5, 0.6, 0.7)
    place.delete(trial.checkpoints[3])
    keeper.recall([trial])
    assert sorted(trial.checkpoints) == [1, 2]
    assert trial.best_kept(True) == (2, 0.6)


def test_a_later_session_counts_the_trials_of_the_earlier(place):
    old = [trained(place, number, value, state="stopped") for number, value in enumerate([0.9, 0.8, 0.7])]
    keeper = Checkpoints(place, 2, maximize=True)
    keeper.recall(old)
    assert on_disk(place) == {0: [1], 1: [1]}, "what the earlier one had no time to delete goes"
    trial = trained(place, 3, 0.85, keeper=keeper)
    trial.state = "completed"
    keeper.ended(trial)
    assert on_disk(place) == {0: [1], 3: [1]}


def test_a_later_session_leaves_paused_trials_theirs(place):
    trial = trained(place, 0, 0.5, 0.6, state="paused")
    Checkpoints(place, 1, maximize=True).recall([trial])
    assert on_disk(place) == {0: [1, 2]}


def test_a_copy_is_of_its_own(place):
    keeper = Checkpoints(place, 2, maximize=True)
    source, target = trained(place, 0, 0.5, 0.6), Trial(7, {})
    keeper.copy(source, target, 2, "trials/00007/checkpoint_000002")
    place.delete(source.checkpoints[2])
    assert target.checkpoints == {2: "trials/00007/checkpoint_000002"}
    assert place.read_text("trials/00007/checkpoint_000002/checkpoint.ckpt") == "0 2"


def test_a_checkpoint_that_cannot_be_deleted_is_left(place):
    keeper = Checkpoints(place, 1, maximize=True)
    trial = trained(place, 0, 0.5, state="failed")
    trial.checkpoints[1] = "trials/00000/checkpoint_000001/checkpoint.ckpt/below"  # Not a directory
    keeper.ended(trial)
    assert trial.checkpoints == {}
    assert on_disk(place) == {0: [1]}
