"""The names by which Ray's dashboard shows trials.

Processes are kept from trial to trial, and Ray takes what it shows of a process, its name and its repr, once, when that
begins. So these tell of the experiment and of the first trial; the trial that a process serves now is the name of its
running task, and its title in `ps`.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from tune.points import in_words
from tune.spec import Experiment

TITLE = "title"  # of a trial, in what Ray Tune hands to its process
_LONGEST = 160


def title(experiment: Experiment, number: int, hparams: Mapping[str, Any], *, audit: bool = False) -> str:
    """A trial in a line: 'quickstart trial 17: width 0.25, optimizer sgd'; or the audit of one. Pure."""
    name = f"audit of {experiment.name}" if audit else experiment.name
    return shortened(name, f" trial {number}: {in_words(experiment.space, hparams)}")


def shortened(name: str, rest: str) -> str:
    """Both, as much of them as a table shows: of a long name less, since what tells two apart comes behind it."""
    room = max(_LONGEST // 2, _LONGEST - len(name))
    rest = rest if len(rest) <= room else f"{rest[: room - 1]}…"
    most = _LONGEST - len(rest)
    return f"{name}{rest}" if len(name) <= most else f"{name[: most - 1]}…{rest}"


def show_titles(controller: Any, name: str) -> None:
    """From now on, the processes that Ray Tune's `controller` begins are named, and what they train has a title.

    Ray Tune has no setting for it. Where another version of it has other parts inside, names are as Ray gives them.
    """
    with suppress(AttributeError):
        manager = controller._actor_manager
        add, call = manager.add_actor, manager._schedule_tracked_actor_task
        numbers = count(1)

        def add_actor(cls: Any, **options: Any) -> Any:
            return add(cls=_named(cls, shortened(name, f" process {next(numbers)}")), **options)

        def schedule(*task: Any, **options: Any) -> Any:
            with _titled(controller, options.get("tracked_actor_task"), options.get("method_name")):
                return call(*task, **options)

        manager.add_actor, manager._schedule_tracked_actor_task = add_actor, schedule


@contextmanager
def _titled(controller: Any, task: Any, method: str | None) -> Iterator[None]:
    """Where a process is asked to train, it looks to Ray Tune as one whose tasks have the trial's title."""
    processes, tracked, found = {}, None, None
    with suppress(AttributeError, KeyError):
        processes, tracked = controller._actor_manager._live_actors_to_ray_actors_resources, task._tracked_actor
        title = controller._actor_to_trial[tracked].config[TITLE]
        if method == "train":
            found = processes[tracked]
            processes[tracked] = (_Titled(found[0], title), *found[1:])
    try:
        yield
    finally:
        if found is not None:
            processes[tracked] = found


def _named(cls: Any, name: str) -> Any:
    """The same class for Ray, whose next process has that name; in it, names are unique."""
    with suppress(AttributeError):
        named = copy.copy(cls)
        named._default_options = {**cls._default_options, "name": name}
        return named
    return cls


class _Titled:
    """A process whose calls have a title."""

    def __init__(self, actor: Any, title: str) -> None:
        self._actor, self._title = actor, title

    def __getattr__(self, method: str) -> Any:
        return getattr(self._actor, method).options(name=self._title)
