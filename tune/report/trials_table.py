"""The trials, in a table; of thousands the best, and those that went wrong."""

from tune.objectives import in_order
from tune.points import in_words
from tune.recorded import Recorded
from tune.report.colours import state_in_text
from tune.report.section import Section, section, table
from tune.standing import duration
from tune.summary import counts
from tune.trials import DEAD, Trial

_ALL = 200  # trials, up to which every one has a row
_BEST, _DEAD = 100, 50


def trials_section(known: Recorded) -> Section | None:
    """Never None: where no trial was begun, that is said."""
    trials, search = known.trials, known.experiment.search
    groups = {f"All {len(trials)} trials": trials}
    left_out = len(trials) > _ALL
    if left_out:
        dead = [trial for trial in trials if trial.state in DEAD]
        groups = {f"The best {_BEST} of {len(trials):,} trials": in_order(search, trials)[:_BEST]}
        if dead:
            few = dead[:_DEAD]
            groups[f"Diverged or failed: the first {len(few)} of {len(dead):,}"] = few
    columns = ["trial", "state", "epochs", f"best {search.metric}", "time", "HParams searched", "why it ended"]
    tables = [
        (title, table(title, columns, [_row(known, trial) for trial in few])) for title, few in groups.items() if few
    ]
    return section("Trials", "report/trials.html.j2", counts=counts(trials), tables=tables, left_out=left_out)


def _row(known: Recorded, trial: Trial) -> list[object]:
    best = trial.best(known.experiment.search.maximize)
    value = f"{best[1]:.4f}" if best else "none"
    words = in_words(known.experiment.space, trial.hparams)
    return [trial.number, state_in_text(trial.state), trial.epochs, value, duration(trial.seconds), words, trial.reason]
