"""The result, before all else: how good the model is, the winner, and what they cost."""

from tune.objectives import best_figures, in_digits
from tune.points import of_use, searched, shown
from tune.recorded import Recorded
from tune.report.leader import leader
from tune.report.section import Section, facts, section
from tune.standing import duration
from tune.summary import counts, summary_of
from tune.trials import Trial


def headline(known: Recorded) -> str:
    """The result in a line."""
    if known.metrics is not None:
        return f"Test accuracy {summary_of(known).interval()}"
    best = leader(known)
    if best is None:
        return "No trial has a value yet"
    told = best_figures(known.experiment.search, best)
    what = "Winner, without a model yet" if known.winner else "Best so far"
    figures = ", ".join(f"{name} {in_digits(value)}" for name, value in told.items())
    return f"{what}: {figures} (trial {best.number})"


def state(known: Recorded) -> str:
    """What is going on, or was left off; empty for an experiment with its model."""
    so_far = f"{known.standing.ended} of {known.standing.planned} trials"
    if known.running:
        doing = "is in its last mile, which makes the model" if known.searched else f"is running: {so_far} have ended"
        return f"This experiment {doing}. What follows is what was known as this page was written."
    if not known.searched:
        return f"This experiment was interrupted, with {so_far} ended; --resume goes on with it."
    if known.metrics is None:
        return "The search is over. There is no model yet; --resume makes it."
    return ""


def result_section(known: Recorded) -> Section | None:
    """Never None: an experiment that has just begun says so."""
    best = leader(known)
    told = (_of_the_model(known) if known.metrics is not None else _so_far(known, best)) | _cost(known)
    return section(
        "Result",
        "report/result.html.j2",
        facts=facts("The result, and what it cost", {name: text for name, text in told.items() if text}),
        hparams=_hparams(known, best) if best else None,
        trained_on=_trained_on(known),
    )


def _of_the_model(known: Recorded) -> dict[str, str]:
    summary, search = summary_of(known), known.experiment.search
    epoch, value = summary.best
    test = {f"test, {name}": text for name, text in summary.about_the_test().items()}
    return {
        "test accuracy": summary.interval(),
        **test,
        "winner": f"trial {summary.trial.number}, {summary.winner.why(len(summary.trials), search)}",
        f"{search.metric} in the search": f"{value:.4f} at epoch {epoch}",
        **{f"{name} in the search": text for name, text in summary.objectives.items()},
        **summary.about_the_winner(),
    }


def _so_far(known: Recorded, best: Trial | None) -> dict[str, str]:
    search = known.experiment.search
    if best is None:
        return {"best so far": "no trial has a value yet"}
    epoch, value = best.best(search.maximize) or (0, 0.0)
    others = {name: in_digits(one) for name, one in best_figures(search, best).items() if name != search.metric}
    name = "winner" if known.winner else "best so far"
    return {name: f"trial {best.number}, {search.metric} {value:.4f} at epoch {epoch}", **others}


def _cost(known: Recorded) -> dict[str, str]:
    epochs = sum(trial.trained for trial in known.trials)
    skipped = (known.metrics or {}).get("skipped", ())
    time = f"search {duration(known.search_seconds)}"
    if known.retrain_seconds:
        time += f", retrain {duration(known.retrain_seconds)}"
    return {
        "trials": counts(known.trials),
        "cost": f"{epochs:,} epochs; {time}",
        "ended early": known.ended_because,
        "broken image files left out": f"{len(skipped)} ({'; '.join(skipped[:3])})" if skipped else "",
    }


def _hparams(known: Recorded, best: Trial) -> dict[str, str]:
    found = searched(known.experiment.space, best.hparams)
    whose = "the winner" if known.winner else f"trial {best.number}, the best so far"
    rest = {name: shown(value) for name, value in of_use(best.hparams).items() if name not in found}
    told = {name: shown(value) for name, value in found.items()}
    return {
        "searched": facts(f"HParams of {whose}, those that were searched", told) if told else "",
        "rest": facts("The others, the same in every trial" if found else f"HParams of {whose}", rest),
    }


def _trained_on(known: Recorded) -> str:
    if known.metrics is None or known.winner is None:
        return ""
    plan, way = known.experiment.retrain, known.winner.way
    if way.lr_schedule == "none":
        return f"The model was trained on {plan.on}."
    averaged = " whose weights are averaged" if way.average != "raw" else ""
    return f"The model was trained on {plan.on}, the last {plan.epochs} epochs of it a tail{averaged}."
