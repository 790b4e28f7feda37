"""The report's page of the audit: what early stopping cost, and what would have been enough."""

from collections.abc import Iterator
from typing import Any

from tune.hindsight import Hindsight, hindsight, rank_correlations
from tune.objectives import in_digits
from tune.recorded import Recorded
from tune.report.colours import COLOURS, WINNER
from tune.report.curves import chosen, joined
from tune.report.section import Section, facts, figure_html, new_figure, numbers, section, share


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
        curves=_curves(told, told.found) if told.audited and told.found is not None else "",
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


def _curves(told: Hindsight, found: float) -> Any:
    """Of the audited trials: as far as the search saw them, and beyond."""
    figure = new_figure(xaxis={"title": "epoch"}, yaxis={"title": told.search.metric}, showlegend=False)
    until = {trial.number: trial.epochs for trial in told.audited}
    won = {trial.number for trial in told.winners}
    drawn, left_out = chosen(told.search, [trial.audit for trial in told.audited if trial.audit])
    lost, better = ([audit for audit in drawn if (audit.number in won) is wins] for wins in (False, True))
    for audits, colour in ((lost, COLOURS["stopped"]), (better, WINNER)):
        seen = [[(e, v, one.number) for e, v in one.values.items() if e <= until[one.number]] for one in audits]
        beyond = [[(e, v, one.number) for e, v in one.values.items() if e >= until[one.number]] for one in audits]
        for lines, dash in ((seen, "solid"), (beyond, "dot")):
            x, y, of = (joined([point[place] for point in line] for line in lines) for place in range(3))
            figure.add_scatter(
                x=numbers(x),
                y=numbers(y),
                customdata=of,
                hovertemplate="trial %{customdata}<br>%{y:.4f} at epoch %{x}<extra></extra>",
                mode="lines+markers",
                marker={"size": 4},
                line={"color": colour, "dash": dash},
            )
    figure.add_hline(found, line={"color": COLOURS["completed"], "dash": "dash"}, annotation_text="best found")
    one = len(told.audited) == 1
    described = (
        f"Learning curves of {len(told.audited)} audited trial{'s' * (not one)}, solid until "
        f"{'it was' if one else 'they were'} stopped and dotted beyond, against the best value found, "
        f"{found:.4f}: {len(won)} {'is' if len(won) == 1 else 'are'} better than it."
    )
    return figure_html(figure, f"{described} {left_out}".strip())


def _ranks(known: Recorded, correlations: dict[int, float]) -> Any:
    figure = new_figure(xaxis={"title": "epoch"}, yaxis={"title": "rank correlation with the end", "range": [-1, 1.05]})
    figure.add_scatter(x=list(correlations), y=list(correlations.values()), mode="lines+markers")
    for rung in known.experiment.scheduler.rungs:
        figure.add_vline(rung, line={"dash": "dot", "color": "#999"}, annotation_text="rung")
    first = next(iter(correlations))
    described = f"Rank correlation of values with the end by epoch: {correlations[first]:.2f} after epoch {first}."
    return figure_html(figure, described)
