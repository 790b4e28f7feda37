"""Early stopping: who was stopped where, and what a rung's values tell of the end."""

from dataclasses import dataclass
from typing import Any

from tune.hindsight import rank_correlations, whole_curves
from tune.points import in_words
from tune.recorded import Recorded
from tune.report.colours import COLOURS
from tune.report.section import Section, figure_html, new_figure, section, table
from tune.rungs import Rungs
from tune.trials import DEAD, Trial

_NEAREST = 10  # of those stopped at a rung, in a table


@dataclass(frozen=True)
class Rung:
    """What happened at one: of the trials that arrived with a value, how many went on, were stopped, or wait.

    lost: how many diverged or failed there, or later without another value. cutoff: the worst value that would pass
    now. correlation: of its values with the best at the end, over the `whole` curves that are known; None of few.
    """

    epoch: int
    arrived: int
    passed: int
    stopped: list[Trial]
    waiting: int
    lost: int
    cutoff: float
    whole: int
    correlation: float | None


def rungs_of(known: Recorded) -> list[Rung]:
    """Of those that a trial has reached."""
    scheduler, search = known.experiment.scheduler, known.experiment.search
    reckoned = Rungs(scheduler.rungs, scheduler.reduction_factor, search.maximize)
    whole, correlations = len(whole_curves(known.trials)), rank_correlations(known.trials, maximize=search.maximize)
    found = []
    for epoch in scheduler.rungs:
        there = [trial for trial in known.trials if epoch in trial.values]
        sound = [trial for trial in there if trial.state not in DEAD]
        for trial in sound:
            reckoned.record(trial.number, epoch, trial.values[epoch])
        if not sound:
            continue
        here = [trial for trial in there if trial.epochs == epoch]
        stopped = [trial for trial in here if trial.state == "stopped"]
        passed = len([trial for trial in there if trial.epochs > epoch])
        lost = len([trial for trial in here if trial.state in DEAD])
        found.append(
            Rung(
                epoch,
                len(there),
                passed,
                sorted(stopped, key=lambda trial: trial.values[epoch], reverse=search.maximize),
                len(here) - len(stopped) - lost,
                lost,
                reckoned.standing(sound[0].number, epoch).cutoff,
                whole,
                correlations.get(epoch),
            )
        )
    return found


def stops_section(known: Recorded) -> Section | None:
    """None where the scheduler has no rungs, or no trial reached one."""
    scheduler, search = known.experiment.scheduler, known.experiment.search
    rungs = rungs_of(known) if scheduler.type in {"asha", "hyperband"} else []
    if not rungs:
        return None
    columns = [
        "epoch",
        "arrived",
        "passed",
        "stopped",
        "waiting",
        "diverged, failed",
        "cutoff",
        "rank correlation with the end",
    ]
    rows = [_row(rung) for rung in rungs]
    full = sum(scheduler.max_epochs in trial.values for trial in known.trials)
    described = f"{len(known.trials):,} trials. " + " ".join(
        f"Of {rung.arrived:,} at epoch {rung.epoch}, {rung.passed:,} went on and {len(rung.stopped):,} were stopped."
        for rung in rungs
    )
    audited = sum(trial.audited for trial in known.trials)
    spent = sum(trial.trained for trial in known.trials) - audited
    whole = scheduler.max_epochs * sum(bool(trial.values) for trial in known.trials)
    return section(
        "Early stopping",
        "report/stops.html.j2",
        scheduler=f"{scheduler.type}, mode {scheduler.mode}" if scheduler.mode else scheduler.type,
        factor=scheduler.reduction_factor,
        full=f"{full:,} trials" if full != 1 else "1 trial",
        max_epochs=scheduler.max_epochs,
        saved=f"{spent:,} epochs were trained, {spent / whole:.0%} of what all trials at full length would have taken"
        + (f"; audits trained {audited:,} more" if audited else ""),
        figure=figure_html(_figure(rungs), described),
        table=table("Trials at each rung", columns, rows),
        nearest=[_nearest(known, rung) for rung in rungs if rung.stopped],
        metric=search.metric,
    )


def _row(rung: Rung) -> list[str]:
    correlation = "too few" if rung.correlation is None else f"{rung.correlation:+.2f}, {rung.whole} trials"
    numbers = [rung.epoch, rung.arrived, rung.passed, len(rung.stopped), rung.waiting, rung.lost]
    return [*(f"{number:,}" for number in numbers), f"{rung.cutoff:.4g}", correlation]


def _nearest(known: Recorded, rung: Rung) -> tuple[str, Any]:
    few = rung.stopped[:_NEAREST]
    rows = [
        [
            str(trial.number),
            f"{trial.values[rung.epoch]:.4f}",
            trial.reason,
            in_words(known.experiment.space, trial.hparams),
        ]
        for trial in few
    ]
    title = f"Stopped at epoch {rung.epoch}: the best {len(few)} of {len(rung.stopped):,}"
    return title, table(title, ["trial", known.experiment.search.metric, "why", "HParams searched"], rows)


def _figure(rungs: list[Rung]) -> Any:
    figure = new_figure(
        height=140 + 48 * len(rungs),
        barmode="stack",
        xaxis={"title": {"text": "trials"}},
        yaxis={
            "tickvals": list(range(len(rungs))),
            "ticktext": [f"epoch {rung.epoch}" for rung in rungs],
            "autorange": "reversed",
        },
    )
    groups = {
        "went on": ([rung.passed for rung in rungs], COLOURS["completed"]),
        "stopped": ([len(rung.stopped) for rung in rungs], COLOURS["stopped"]),
        "waiting": ([rung.waiting for rung in rungs], COLOURS["paused"]),
        "diverged or failed": ([rung.lost for rung in rungs], COLOURS["diverged"]),
    }
    for name, (counts, colour) in groups.items():
        if any(counts):
            bar = {"x": counts, "y": list(range(len(rungs))), "orientation": "h", "marker": {"color": colour}}
            figure.add_bar(name=name, hovertemplate="%{x}", **bar)
    return figure
