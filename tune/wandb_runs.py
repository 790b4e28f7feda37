"""W&B's runs of an experiment, all written by one process: what is told of them, and what is made of it.

So no training waits for W&B or fails with it, and a trial that pauses and goes on elsewhere is one run with one end.
The driver tells a trial's end, since the trial's own process knows only that it was stopped.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar.config import METRICS
from cifar.errors import first_line
from tune.trials import DEAD, State

if TYPE_CHECKING:
    from PIL.Image import Image

    from tune.tracking import Tracking
    from tune.wandb_final import FinalRun

JobType = Literal["trial", "finalist", "retrain", "final"]

_MOST_OPEN = 200  # each holds a file
_MOST_TROUBLES = 3
_LATE_S = 10.0  # for the values of a last epoch that were sent before its end was told
_INIT_S, _FINISH_S = 20, 30  # as long as a server may take


@dataclass(frozen=True)
class Begin:
    """A run, which goes on if it is there. config: its HParams and what else tells it from the others."""

    name: str
    job_type: JobType
    config: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Values at one epoch, counted from 1, or at one step: {"epoch": 1, …} or {"step": 0, …}."""

    name: str
    values: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """A picture at a step."""

    name: str
    key: str
    step: int
    image: "Image"


@dataclass(frozen=True)
class End:
    """How a training ended. epochs: those it trained; summary: figures. recalled: it ended in an earlier session."""

    name: str
    state: State
    reason: str
    epochs: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    recalled: bool = False


class Runs:
    """Writes what it is told. say: hears at most one line, of the first trouble.

    What goes wrong online goes on offline, in files that are whole by themselves; after three troubles it is given up.
    """

    def __init__(self, tracking: "Tracking", say: Callable[[str], None]) -> None:
        self.tracking, self.say = tracking, say
        self._online = tracking.mode == "online"
        self._folder = Path(tracking.directory)
        self._open: dict[str, Any] = {}
        self._begun: dict[str, Begin] = {}
        self._epochs: dict[str, int] = {}  # whose values have come
        self._rows: dict[str, list[dict[str, float]]] = {}  # of runs that did not end
        self._broken: set[str] = set()  # runs whose file may lack what was written last, so that all is written anew
        self._ending: dict[str, tuple[End, float]] = {}
        self._troubles = 0

    @property
    def gave_up(self) -> bool:
        """Whether nothing more is written."""
        return self._troubles >= _MOST_TROUBLES

    def prepare(self) -> None:
        """Looks for the key and at the folder."""
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):  # so that offline all is there
            if not self._online:
                os.environ.setdefault(name, str(self._folder / "data"))
        self._safely(lambda: self._folder.mkdir(parents=True, exist_ok=True))
        self._safely(self._look_for_key)

    def _look_for_key(self) -> None:
        if self._online:
            import wandb

            if not wandb.login(prompt=False, verify=False):
                raise LookupError("no API key")

    def tell(self, message: "Begin | Row | Picture | End | FinalRun") -> None:
        """Writes it, now or, of an end, soon."""
        match message:
            case Begin():
                self._begin(message)
            case Row():
                self._safely(lambda: self._log(message))
                epoch = int(message.values.get("epoch", 0))
                self._epochs[message.name] = max(epoch, self._epochs.get(message.name, 0))
            case Picture():
                self._safely(lambda: self._draw(message))
            case End():
                if not message.recalled or self._is_unfinished(message.name):
                    self._ending[message.name] = (message, time.monotonic() + _LATE_S)
            case _:
                if not self._is_noted("final", message.key):
                    self._begin(message.begin)  # where no tail was trained, nobody else has
                    self._safely(lambda: self._finalise(message))
        self.settle()

    def settle(self, *, at_once: bool = False) -> None:
        """Ends the runs whose last values have come, or come no more."""
        for name, (end, until) in list(self._ending.items()):
            if at_once or self._epochs.get(name, 0) >= end.epochs or time.monotonic() >= until:
                del self._ending[name]
                self._safely(lambda end=end: self._end(end))  # type: ignore[misc]

    def close(self) -> Iterator[str]:
        """Ends everything, run by run; what did not end is paused, and may go on in the same run later."""
        self.settle(at_once=True)
        for name in list(self._open):
            self._safely(lambda name=name: self._finish(name, {"state": "paused"}))  # type: ignore[misc]
            yield name
        self._safely(self._end_wandb)

    def _end_wandb(self) -> None:
        """Its own process, which has written everything then."""
        import wandb

        wandb.teardown()

    def _begin(self, message: Begin) -> None:
        if message.name not in self._begun:
            self._safely(lambda: self._note("begun", message.name))
        self._begun[message.name] = message
        self._safely(lambda: self._run(message.name))

    def _log(self, row: Row) -> None:
        self._run(row.name).log(row.values)
        self._rows.setdefault(row.name, []).append(row.values)

    def _draw(self, picture: Picture) -> None:
        import wandb

        self._run(picture.name).log({"step": picture.step, picture.key: [wandb.Image(picture.image)]})

    def _end(self, end: End) -> None:
        run = self._run(end.name)
        run.tags, run.notes = (end.state,), end.reason or end.state  # columns of W&B's table
        self._finish(end.name, {"state": end.state, "reason": end.reason, **end.summary}, int(end.state in DEAD))
        self._note("ended", end.name)

    def _finalise(self, final: "FinalRun") -> None:
        final.write(self._run(final.name))
        self._finish(final.name, {"state": "completed"})
        self._note("final", final.key)

    def _finish(self, name: str, summary: dict[str, Any], code: int = 0) -> None:
        run = self._run(name)
        run.summary.update(summary)
        run.finish(exit_code=code)
        del self._open[name]
        self._rows.pop(name, None)

    def _run(self, name: str) -> Any:
        if name not in self._open:
            if len(self._open) >= _MOST_OPEN:  # it goes on in another file
                self._open.pop(next(iter(self._open))).finish()
            self._open[name] = self._begun_run(self._begun.get(name) or Begin(name, "trial", {}))
            if name in self._broken:
                self._broken.discard(name)
                for values in self._rows.get(name, []):
                    self._open[name].log(values)
        run = self._open[name] = self._open.pop(name)  # the one used last is the last
        return run

    def _begun_run(self, begin: Begin) -> Any:
        import wandb

        tracking = self.tracking
        run = wandb.init(
            id=f"{tracking.token}-{begin.name}",
            resume="allow" if self._online else None,  # offline, files of one id become one run when they are uploaded
            reinit="create_new",
            project=tracking.project,
            group=tracking.group,
            name=f"{tracking.group}/{begin.name}",
            job_type=begin.job_type,
            config=begin.config,
            dir=tracking.directory,
            mode="online" if self._online else "offline",
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_meta=True,  # it would be that of this process
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
                init_timeout=_INIT_S,
                finish_timeout=_FINISH_S,
                finish_timeout_raises=True,
            ),
        )
        if not Path(run.dir).resolve().is_relative_to(self._folder.resolve()):  # W&B goes elsewhere without a word
            raise OSError(f"{self._folder} cannot be written")
        run.define_metric("epoch", hidden=True)
        run.define_metric("step", hidden=True)
        for name, better in METRICS.items():
            run.define_metric(f"{name}_epoch", step_metric="epoch", summary=f"{better},last")
            run.define_metric(f"{name}_step", step_metric="step")
        run.define_metric("lr-*", step_metric="step")
        return run

    def _safely(self, act: Callable[[], object]) -> None:
        """Once more after a trouble, since that may have been the server's, or of W&B's own process."""
        for _ in range(2):
            if self.gave_up:
                return
            try:
                act()
                return
            except Exception as error:
                self._repair(error)

    def _repair(self, error: Exception) -> None:
        import wandb

        online, self._online = self._online, False
        self._troubles += 1
        self._broken |= set(self._open)
        self._open.clear()
        with suppress(Exception):
            wandb.teardown()
        if self._troubles == 1 and online:
            self.say(f"W&B: {first_line(error)}, so runs are kept in {self._folder}; `wandb sync` uploads them")
        elif self._troubles == 1:
            self.say(f"W&B: {first_line(error)}; the search goes on, and W&B may lack some of it")

    # what earlier sessions told, so that nothing is told twice

    @property
    def _notes(self) -> Path:
        return self._folder / "told.jsonl"

    def _note(self, what: str, name: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, name]) + "\n")
        self._noted.add(json.dumps([what, name]))

    @cached_property
    def _noted(self) -> set[str]:
        try:
            return set(self._notes.read_text(encoding="utf-8").splitlines())
        except OSError:
            return set()

    def _is_noted(self, what: str, name: str) -> bool:
        return json.dumps([what, name]) in self._noted

    def _is_unfinished(self, name: str) -> bool:
        """Whether it began and did not end, as far as is noted."""
        return self._is_noted("begun", name) and not self._is_noted("ended", name)
