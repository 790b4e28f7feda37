"""Where a search stands as a terminal of 80 columns shows it, and as plain lines.

Colours are those that a light and a dark background both show; what matters is in words too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune.mile import Stage
from tune.objectives import best_figures, in_digits
from tune.points import in_words
from tune.sections import SearchConfig
from tune.standing import Goal, Standing, duration
from tune.trials import ENDED, Trial, states_in_words

_BAR = 20  # columns
_COLOURS = {"completed": "green", "stopped": "default", "diverged": "red", "failed": "red"}
_FIXED = 42  # columns of the table of ends before the last one, the reason
_FAR_S = 12 * 3600.0  # an end so far away is told with its day


@dataclass(frozen=True)
class Row:
    """share: from 0 to 1, drawn as a bar; None where there is no such thing."""

    label: str
    text: str
    share: float | None = None


def clean(text: str) -> str:
    """Text of a user's, or of an error's, as it can be shown: without what would steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def about(seconds: float, runs: bool = True) -> str:
    """An estimate of what is left, and when that will be if it runs: 'about 3 min 20 s, until 14:05'."""
    if not runs:
        return f"about {duration(seconds)}"
    until = datetime.now() + timedelta(seconds=seconds)
    return f"about {duration(seconds)}, until {until.strftime('%a %H:%M' if seconds > _FAR_S else '%H:%M')}"


def search_rows(standing: Standing, *, over: bool = False, runs: bool = True) -> list[Row]:
    """How far the search is towards each of its limits, what is busy, what is left, what is best.

    over: whether nothing is left; runs: whether it is being gone on with.
    """
    rows = [_goal_row(goal, standing.experiment.search) for goal in standing.goals()]
    told = {row.label for row in rows}
    rows.insert(1, Row("", states_in_words(standing.states) or "none yet"))
    if any(standing.audits.values()):
        rows.insert(2, Row("audits", _audits(standing)))
    if "epochs" not in told:
        rows.insert(2, Row("epochs", f"{standing.epochs}"))
    if "time" not in told:
        rows.insert(3, Row("time", duration(standing.elapsed)))
    if not over and runs:
        slots = max(standing.slots or 0, standing.busy)
        rows.append(Row("slots", f"{standing.busy} of {slots} busy" if standing.slots else f"{standing.busy} busy"))
    if not over:
        rows.append(Row("left", _left(standing, runs)))
    return [*rows, *_best_rows(standing)]


def _goal_row(goal: Goal, search: SearchConfig) -> Row:
    share = min(1.0, goal.done / goal.of) if goal.done is not None and goal.of > 0 else 0.0
    match goal.field:
        case "search.trials":
            return Row("trials", f"{goal.done:.0f} of {goal.of:.0f} ended", share)
        case "search.epoch_budget":
            return Row("epochs", f"{goal.done:.0f} of {goal.of:.0f}", share)
        case "search.time_budget_s":
            return Row("time", f"{duration(goal.done or 0.0)} of {duration(goal.of)}", share)
        case "search.patience":
            return Row("patience", f"{goal.done:.0f} of {goal.of:.0f} ended without improvement", share)
    reached = "none yet" if goal.done is None else f"{goal.done:.4f}"
    side = "at least" if search.maximize else "at most"
    return Row("target", f"{search.metric} {side} {goal.of:g}, so far {reached}")


def _audits(standing: Standing) -> str:
    runs, ended = standing.audits["running"], sum(standing.audits[state] for state in ENDED)
    counts = {"running": runs, "waiting": standing.audits_left - runs, "ended": ended}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _left(standing: Standing, runs: bool) -> str:
    seconds, each = standing.seconds_left(), standing.epoch_seconds
    if seconds is None or each is None:
        return "not known before the first epoch"
    if not (left := standing.epochs_left()):
        return "nothing"
    return f"{about(seconds, runs)} ({left} epoch{'s' * (left != 1)} of {_short(each)})"


def _short(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _best_rows(standing: Standing) -> list[Row]:
    if (best := standing.best) is None:
        return []
    return [
        Row("best", best_in_words(standing.experiment.search, best)),
        Row("", clean(in_words(standing.experiment.space, best.hparams))),
    ]


def best_in_words(search: SearchConfig, trial: Trial) -> str:
    """The best value of a trial, with its other objectives: 'val_accuracy 0.9000 (trial 3, epoch 2)'."""
    epoch, value = trial.best(search.maximize) or (0, float("nan"))
    others = "".join(
        f", {name} {in_digits(one)}" for name, one in best_figures(search, trial).items() if name != search.metric
    )
    return f"{search.metric} {value:.4f}{others} (trial {trial.number}, epoch {epoch})"


def mile_rows(
    plan: Sequence[Stage], seconds: float | None, gone: float | None = None, *, runs: bool = True
) -> list[Row]:
    """How far the last mile is. seconds: that are left; gone: that it took so far; None if unknown."""
    rows = [Row(stage.name, f"{stage.done} of {stage.of} trained", stage.done / stage.of) for stage in plan]
    rows += [Row("time", duration(gone))] if gone is not None else []
    return [*rows, Row("left", about(seconds, runs))] if seconds is not None else rows


def ended(trial: Trial, search: SearchConfig) -> str:
    """A trial's end in a line."""
    best = trial.best(search.maximize)
    value = f"{search.metric} {best[1]:.4f}" if best else "no value"
    reason = f" ({trial.reason})" if trial.reason else ""
    plural = "s" * (trial.epochs != 1)
    return f"trial {trial.number} {trial.state} after {trial.epochs} epoch{plural}, {value}{reason}"


def in_a_line(standing: Standing) -> str:
    """All of it in short, for where lines are all that there is."""
    parts = [f"{standing.ended} of {standing.planned} trials ended", f"{standing.busy} running"]
    parts += [f"{standing.epochs} epoch{'s' * (standing.epochs != 1)}", f"{duration(standing.elapsed)} gone"]
    if (seconds := standing.seconds_left()) is not None:
        parts.append(f"{about(seconds)} left")
    if standing.best:
        parts.append(f"best {best_in_words(standing.experiment.search, standing.best)}")
    return "; ".join(parts)


def panel(title: str, rows: Iterable[Row], *below: RenderableType) -> Group:
    """What a terminal shows."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(row.label, _cell(row))
    return Group(Text(clean(title), style="bold", overflow="fold"), table, *below)


def _cell(row: Row) -> RenderableType:
    if row.share is None:
        return Text(row.text, overflow="fold")
    cell = Table.grid(padding=(0, 2, 0, 0))
    cell.add_column(width=_BAR)
    cell.add_column(overflow="fold")
    bar = ProgressBar(
        total=1.0, completed=row.share, width=_BAR, style="bright_black", complete_style="green", finished_style="green"
    )
    cell.add_row(bar, Text(row.text, overflow="fold"))
    return cell


def ends_table(trials: Sequence[Trial], search: SearchConfig, width: int) -> RenderableType:
    """The last trials that ended, with their reasons, in a console of `width` columns."""
    if not trials:
        return Text("")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left", show_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    table.add_column("epochs", justify="right", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for trial in trials:
        best = trial.best(search.maximize)
        table.add_row(
            str(trial.number),
            Text(trial.state, style=_COLOURS.get(trial.state, "default")),
            str(trial.epochs),
            f"{best[1]:.4f}" if best else "none",
            Text(_shortened(trial.reason, 2 * max(20, width - _FIXED)), overflow="fold"),
        )
    return table


def _shortened(reason: str, most: int) -> str:
    """A reason in so many characters; that a stopped trial was stopped is told beside it."""
    text = clean(reason).removeprefix("stopped at ").strip()
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def print_plain(console: Console, title: str, rows: Iterable[Row], lines: Iterable[str] = ()) -> None:
    """The same without a terminal: a line for each row, however long."""
    label = ""
    console.print(clean(title), markup=False, soft_wrap=True)
    for row in rows:
        label = row.label or label
        console.print(f"{label}: {row.text}", markup=False, soft_wrap=True)
    for line in lines:
        console.print(clean(line), markup=False, soft_wrap=True)
