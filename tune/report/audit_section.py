"""The report's page of the audit: what early stopping cost, and what would have been enough."""

from collections.abc import Iterator
from typing import Any

from tune.hindsight import Hindsight, hindsight, rank_correlations
from tune.objectives import in_digits
from tune.recorded import Recorded
from tune.report.section import Section, facts, figure_html, new_figure, section, share


def audit_section(known: Recorded) -> Section | None:
    """Of an experiment whose stopped trials were audited; None where none was drawn."""
    search, scheduler = known.experiment.search, known.experiment.scheduler
    told = hindsight(search, scheduler, known.trials)
    if told is None:
        return None
    correlations = rank_correlations(known.trials, maximize=search.maximize)
    return section(
        "Audit of early stopping",
        "report/audit.html.j2",
        told=told,
        scheduler=scheduler,
        facts=facts("What early stopping cost", dict(_facts(told))),
        correlations=correlations,
        curves=_curves(told),
        ranks=_ranks(known, correlations) if correlations else "",
    )


def _facts(told: Hindsight) -> Iterator[tuple[str, str]]:
    if not told.audited or told.found is None:
        return
    winners, (value, low, high) = len(told.winners), told.share
    of_them = f"{winners} of {len(told.audited)} audited: {share(value)}"
    yield "stopped trials that would have won", f"{of_them} (95 % interval {share(low)} to {share(high)})"
    yield "what stopping cost", f"{told.search.metric} {regret_in_words(told)}"
    yield "grace period that would have been enough", _enough_grace(told)


def _enough_grace(told: Hindsight) -> str:
    scheduler, enough = told.scheduler, told.enough_grace
    if not told.winners:
        return f"{scheduler.grace_period}, as it was: none of the audited would have won"
    if enough is None:
        return f"none below {scheduler.max_epochs} epochs"
    return f"{enough} epoch{'s' * (enough != 1)}, and it was {scheduler.grace_period}"


def regret_in_words(told: Hindsight) -> str:
    """'0.0021 (95 % interval 0 to 0.0104)', or why there is none."""
    if told.regret is None:
        return "not estimated: fewer than 5 audited trials came to their end"
    one = told.regret
    if one.low == one.high == one.value and len(told.audited) == len(told.stopped):
        return f"{in_digits(one.value)}, exactly: every stopped trial was audited"
    return f"{in_digits(one.value)} (95 % interval {in_digits(one.low)} to {in_digits(one.high)})"


def _curves(told: Hindsight) -> Any:
    """Of the audited trials: as far as the search saw them, and beyond."""
    figure = new_figure(xaxis={"title": "epoch"}, yaxis={"title": told.search.metric}, showlegend=False)
    won = {trial.number for trial in told.winners}
    for trial in [trial for trial in told.stopped if trial.audit]:
        seen = trial.values
        beyond = {e: v for e, v in trial.audit.values.items() if e >= trial.epochs} if trial.audit else {}
        colour = "#b00020" if trial.number in won else "#6b6b6b"
        for curve, dash in ((seen, "solid"), (beyond, "dot")):
            figure.add_scatter(
                x=list(curve),
                y=list(curve.values()),
                mode="lines+markers",
                marker={"size": 4},
                line={"color": colour, "dash": dash},
                name=f"trial {trial.number}",
            )
    if told.found is not None:
        figure.add_hline(told.found, line={"color": "#1a4fd6", "dash": "dash"}, annotation_text="best found")
    described = (
        f"Learning curves of {len(told.audited)} audited trials, solid until they were stopped and dotted beyond, "
        f"against the best value found; {len(won)} end above it."
    )
    return figure_html(figure, described)


def _ranks(known: Recorded, correlations: dict[int, float]) -> Any:
    figure = new_figure(xaxis={"title": "epoch"}, yaxis={"title": "rank correlation with the end", "range": [-1, 1.05]})
    figure.add_scatter(x=list(correlations), y=list(correlations.values()), mode="lines+markers")
    for rung in known.experiment.scheduler.rungs:
        figure.add_vline(rung, line={"dash": "dot", "color": "#999"}, annotation_text="rung")
    first = next(iter(correlations))
    described = f"Rank correlation of values with the end by epoch: {correlations[first]:.2f} after epoch {first}."
    return figure_html(figure, described)
