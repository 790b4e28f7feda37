"""A search that is killed, wherever that happens, and goes on, is the search that was not killed.

With one slot, so that trials end in one order, and values that follow from HParams and epoch.
"""

import json
import random
from pathlib import Path

import pytest

SCHEDULERS = {
    "stop": ["scheduler.type=asha", "scheduler.mode=stop"],
    "promote": ["scheduler.type=asha", "scheduler.mode=promote"],
    "hyperband": ["scheduler.type=hyperband"],
    "median": ["scheduler.type=median", "scheduler.grace_period=2"],
    "stop, audited": ["scheduler.type=asha", "scheduler.mode=stop", "scheduler.audit=0.5"],
    "promote, audited": ["scheduler.type=asha", "scheduler.mode=promote", "scheduler.audit=0.5"],
    "median, audited": ["scheduler.type=median", "scheduler.grace_period=2", "scheduler.audit=1"],
    "pbt": ["scheduler.type=pbt", "search.trials=8", "scheduler.grace_period=2", "scheduler.max_epochs=8"],
    "none": ["scheduler.type=none", "scheduler.max_epochs=3"],
    "objectives": [
        "search.objectives=[{metric: val_accuracy}, {metric: parameters}]",
        "search.choose.subject_to.parameters.upper=2",
        "scheduler.max_epochs=3",
    ],
}
AUDITED = [scheduler for scheduler in SCHEDULERS if scheduler.endswith("audited")]
SEARCHES = [
    *((scheduler, "gp") for scheduler in SCHEDULERS if scheduler != "objectives"),
    *((scheduler, "random") for scheduler in SCHEDULERS if scheduler not in ("objectives", *AUDITED)),
    *(("objectives", sampler) for sampler in ("random", "tpe", "nsga2")),
]
FIELDS = [
    "search.trials=25",
    "scheduler.max_epochs=9",
    "scheduler.reduction_factor=3",
    "search.keep_checkpoints=3",
    "search.start=[{learning_rate: 0.5}, {optimizer: sgd, momentum: 0.9}]",
]


class Killed(BaseException):
    """The process is gone."""


def facts(trial) -> tuple:
    return trial.hparams, trial.values, trial.figures, trial.state, trial.reason


def story(session) -> dict[int, tuple]:
    """What a search leaves that must not depend on when it was killed."""
    kept = session.kept()
    return {
        trial.number: (
            *facts(trial),
            trial.judged,
            trial.parent,
            trial.instead_of,
            kept.get(trial.number, []),
            beyond(trial),
        )
        for trial in session.trials.values()
    }


def beyond(trial) -> tuple | None:
    """What its audit gave."""
    return trial.audit and (trial.audit.values, trial.audit.state, trial.audit.reason, trial.audit.checkpoints)


def told_by_the_study(session) -> dict[int, tuple]:
    return {
        trial.number: (
            *facts(trial),
            trial.audit and (trial.audit.values, trial.audit.state),
        )
        for trial in session.record.trials()
    }


def on_disk(session) -> set[str]:
    """Every checkpoint that lies in the experiment directory."""
    return {str(path.parent.relative_to(session.folder)) for path in session.folder.glob("trials/*/*/checkpoint.ckpt")}


def run_with_kills(session, fields, hook, **options):
    """Sessions of the folder `killed`, each until it is killed, and one that gets to the end. How many."""
    for count in range(1, 500):
        try:
            return session(*fields, folder="killed", hook=hook, **options).run(), count
        except Killed:
            continue
    raise AssertionError("no progress between kills")


@pytest.mark.parametrize(("scheduler", "sampler"), SEARCHES)
def test_killed_between_any_two_events(session, scheduler, sampler):
    fields = [*FIELDS, *SCHEDULERS[scheduler], f"search.sampler={sampler}"]
    whole = session(*fields).run()
    chance = random.Random(f"{scheduler} {sampler}")

    def hook(what: str) -> None:
        if chance.random() < 0.05:
            raise Killed

    killed, count = run_with_kills(session, fields, hook)
    assert count > 3
    assert story(killed) == story(whole)
    assert told_by_the_study(killed) == told_by_the_study(whole)


@pytest.mark.parametrize("scheduler", AUDITED)
def test_the_search_is_the_same_with_and_without_an_audit(session, scheduler):
    """Whatever audits give, sampler, rungs and the order of trials are as if they had not been."""
    fields = [*FIELDS, *SCHEDULERS[scheduler], "search.sampler=gp"]
    audited, plain = session(*fields).run(), session(*fields, "scheduler.audit=0", folder="plain").run()
    assert {n: told[:-1] for n, told in story(audited).items()} == {n: told[:-1] for n, told in story(plain).items()}
    audits = [trial.audit for trial in audited.trials.values() if trial.audit]
    assert len(audits) >= 2
    assert {(audit.state, audit.epochs) for audit in audits} == {("completed", 9)}
    epochs = [sum(trial.trained for trial in one.trials.values()) for one in (audited, plain)]
    assert epochs[0] - epochs[1] == sum(9 - trial.epochs for trial in audited.trials.values() if trial.audit)
    assert on_disk(audited) == {path for trial in audited.trials.values() for path in trial.checkpoints.values()}


@pytest.mark.parametrize(("scheduler", "sampler"), SEARCHES)
def test_killed_before_after_or_within_any_line_of_the_journal(session, disk, scheduler, sampler):
    fields = [*FIELDS, *SCHEDULERS[scheduler], f"search.sampler={sampler}"]
    whole = session(*fields).run()
    chance = random.Random(f"{scheduler} {sampler}")

    def before(journal: Path, lines: list[dict]) -> None:
        if chance.random() < 0.03:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            with journal.open("a") as file:
                file.write(text[: chance.choice([0, len(text) // 2, len(text) - 1, len(text)])])
            raise Killed

    disk(before)
    killed, count = run_with_kills(session, fields, lambda what: None)
    assert count > 3
    assert story(killed) == story(whole)
    assert told_by_the_study(killed) == told_by_the_study(whole)


def accidents(one, chance: random.Random) -> None:
    """Plays a session in which anything may happen, until it ends or is killed."""
    while not one.conductor.over:
        one.slots = chance.randint(1, 4)
        one.fill()
        if not one.epoch:
            break
        number = chance.choice(list(one.epoch))
        what = chance.choices(["train", "lost", "late", "broken", "failed", "killed"], [60, 3, 3, 1, 1, 3])[0]
        if what == "killed":
            raise Killed
        if what == "train" or one.epoch[number] == one.experiment.scheduler.max_epochs:
            one.train(number)
            continue
        if what in {"late", "broken"}:  # lost after its value, before its checkpoint
            one.measure(number, broken="val_loss was nan" if what == "broken" else "")
        one.leave(number)
        if what == "failed":
            one.conductor.failed(number, f"ValueError: {number}")
        elif what == "broken":
            one.conductor.ended(number)
        else:
            one.conductor.lost(number, "its process died")
    one.close()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_whatever_happens_in_several_slots_every_trial_is_trained_once_and_ends(session, scheduler, seed):
    """Processes lost at any moment, trials that fail or diverge, slots that come and go, and kills."""
    fields = [*FIELDS, *SCHEDULERS[scheduler], "search.max_retries=1000", "search.sampler=random"]
    chance = random.Random(f"{scheduler} {seed}")

    last = None
    while last is None:
        one = session(*fields)
        try:
            accidents(one, chance)
            last = one
        except Killed:
            continue
    trials = session(*fields).trials  # as the study tells it
    states = {trial.number: trial.state for trial in last.trials.values()}
    assert {number: trial.state for number, trial in trials.items()} == states
    assert not last.conductor.over, last.conductor.over
    longest, planned = last.experiment.scheduler.max_epochs, last.experiment.search.trials
    assert sum(1 for trial in trials.values() if trial.parent is None) == planned
    for trial in trials.values():
        assert trial.state in {"completed", "stopped", "failed", "diverged"}
        begun = trial.parent[1] if trial.parent else 0
        assert list(trial.values) == list(range(begun + 1, begun + 1 + len(trial.values)))
        assert trial.state != "completed" or trial.epochs == longest
        assert trial.state != "stopped" or trial.reason.startswith("stopped at")
    successors = [trial.instead_of for trial in trials.values() if trial.instead_of is not None]
    assert len(successors) == len(set(successors))
    last.kept()
    for audit in filter(None, (trial.audit for trial in trials.values())):
        assert audit.state in {"completed", "diverged", "failed"}
        assert list(audit.values) == list(range(1, audit.epochs + 1))
        assert audit.state != "completed" or audit.epochs == longest
        assert audit.checkpoints == {}
