"""An experiment in short, from its directory alone: its state, its figures, and how to go on with it."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rich.console import Console, Group

from tune.display import Row, clean, ended, ends_table, mile_rows, panel, print_plain, search_rows
from tune.experiment import resuming
from tune.mile import Stage, seconds_left, stages
from tune.objectives import best_figures
from tune.points import searched
from tune.recorded import Recorded, State, read_experiment
from tune.standing import Standing, duration

_ENDS = 6


@dataclass(frozen=True)
class Overview:
    """What `python -m tune status` tells of one experiment."""

    known: Recorded

    @property
    def standing(self) -> Standing:
        """Of the search."""
        return self.known.standing

    @property
    def searched(self) -> bool:
        """Whether the search is over."""
        return self.known.searched

    @property
    def state(self) -> State:
        """Of the experiment."""
        return self.known.state

    @cached_property
    def stages(self) -> list[Stage]:
        """The last mile's, once the search is over."""
        if not self.searched:
            return []
        return stages(self.known.experiment, self.known.trials, self.known.results, made=self.state == "finished")

    @property
    def _seconds_left(self) -> float | None:
        if not self.searched:
            return self.standing.seconds_left()
        return seconds_left(self.stages, self.known.results, self.known.slots, self.standing.epoch_seconds)

    @property
    def goes_on(self) -> str:
        """The command that goes on with what was interrupted; empty where nothing was."""
        if self.state != "interrupted":
            return ""
        if self.searched and not self.stages:  # no trial gave anything
            where = self.known.directory.storage
            return shlex.join(["python", "-m", "tune", "retry", self.known.name, "--storage", where])
        provenance = self.known.provenance
        return resuming([provenance, *provenance.get("resumed", [])][-1].get("command", ""))

    @property
    def began(self) -> str:
        """When the first session did, as ISO 8601 in UTC."""
        return str(self.known.provenance.get("started", ""))

    def title(self) -> str:
        """Name and state."""
        part = "" if self.state == "finished" else f", in the {'last mile' if self.searched else 'search'}"
        elsewhere = self.state == "interrupted" and self.known.directory.remote is not None
        return f"{self.known.name}: {self.state}{' (or run by another machine)' * elsewhere}{part}"

    def rows(self) -> list[Row]:
        """What there is to tell, whatever the state."""
        runs = self.state == "running"
        rows = search_rows(self.standing, over=self.searched, runs=runs)
        if self.state == "finished":
            rows += self._result()
        elif self.stages:
            rows += mile_rows(self.stages, self._seconds_left, runs=runs)
        if self.known.ended_because:
            rows.append(Row("ended", clean(self.known.ended_because)))
        rows.append(Row("began", moment(self.began)))
        return [*rows, Row("go on", self.goes_on)] if self.goes_on else rows

    def _result(self) -> Iterator[Row]:
        known, winner, test = self.known, self.known.winner, self.known.test
        assert winner is not None
        assert test is not None, "what is finished has both"
        yield Row("winner", f"trial {winner.trial.number}, {winner.why(len(known.trials), known.experiment.search)}")
        yield Row("test", test.in_words())
        yield Row("retrain", duration(known.retrain_seconds))
        yield Row("model", str(known.directory.place.child("model").uri))

    def as_dict(self) -> dict[str, Any]:
        """The same for programs: the names stay as they are."""
        known, standing, search = self.known, self.standing, self.known.experiment.search
        return {
            "name": known.name,
            "experiment": known.directory.place.uri,
            "state": self.state,
            "began": self.began,
            "sessions": 1 + len(known.provenance.get("resumed", [])),
            "trials": {"planned": standing.planned, "ended": standing.ended, "by_state": standing.states},
            "slots": {"busy": standing.busy, "of": known.slots},
            "audits": {"by_state": {state: count for state, count in sorted(standing.audits.items()) if count}},
            "epochs": standing.epochs,
            "epoch_seconds": standing.epoch_seconds,
            "search_seconds": round(standing.elapsed, 3),
            "retrain_seconds": known.retrain_seconds,
            "left": {"epochs": 0 if self.searched else standing.epochs_left(), "seconds": self._seconds_left},
            "metric": search.metric,
            "best": self._best(),
            "limits": [asdict(goal) for goal in standing.goals()],
            "ended_because": self.known.ended_because,
            "last_ends": [
                {"trial": one.number, "state": one.state, "epochs": one.epochs, "reason": one.reason}
                for one in standing.ends[-_ENDS:]
            ],
            "last_mile": [asdict(stage) for stage in self.stages],
            "winner": known.winner.trial.number if known.winner and self.searched else None,
            "test": self._test(),
            "go_on": self.goes_on or None,
        }

    def _best(self) -> dict[str, Any] | None:
        best, search = self.standing.best, self.known.experiment.search
        if best is None or self.standing.best_value is None:
            return None
        epoch, value = self.standing.best_value
        hparams = searched(self.known.experiment.space, best.hparams)
        figures = best_figures(search, best)
        return {"trial": best.number, "epoch": epoch, "value": value, "figures": figures, "hparams": hparams}

    def _test(self) -> dict[str, Any] | None:
        test = self.known.test if self.state == "finished" else None
        return {name: getattr(test, name) for name in ("accuracy", "low", "high", "images")} if test else None

    def view(self, width: int) -> Group:
        """For a terminal of so many columns."""
        last = ends_table(self.standing.ends[-_ENDS:], self.known.experiment.search, width)
        return panel(self.title(), self.rows(), last)

    def print(self, console: Console) -> None:
        """As a terminal shows it, or as plain lines."""
        if console.is_terminal:
            console.print(self.view(console.width))
            return
        search = self.known.experiment.search
        print_plain(console, self.title(), self.rows(), [ended(trial, search) for trial in self.standing.ends[-_ENDS:]])


def moment(iso: str) -> str:
    """A time of UTC in ISO 8601 for people: '2026-11-25 20:15 UTC'."""
    return f"{iso[:16].replace('T', ' ')} UTC" if iso else "not known"


def overview(storage: str, name: str, study: str | None = None) -> Overview:
    """Of the experiment `name`. Raises as `tune.recorded.read_experiment`."""
    return Overview(read_experiment(storage, name, "status", study, light=True))
