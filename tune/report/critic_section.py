"""The report's page of the critic: what the trials say against the space and the scheduler, and what comes next."""

from tune.critic import FALSE_ALARMS
from tune.next_experiment import findings, write_and_run
from tune.recorded import Recorded
from tune.report.section import Section, section, table

_KINDS = {
    "bound": "the best crowd at a bound",
    "no effect": "did not matter",
    "diverges": "trials came to nothing",
    "scheduler": "compared too early",
}


def critic_section(known: Recorded) -> Section | None:
    """Of an experiment that has trials with values."""
    if not any(trial.values for trial in known.trials):
        return None
    rows = [[one.about, _KINDS[one.kind], one.evidence, one.suggestion] for one in findings(known)]
    return section(
        "What to change next",
        "report/critic.html.j2",
        table=table("Findings", ["what", "finding", "evidence", "suggestion"], rows) if rows else "",
        command=write_and_run(known.directory, known.name),
        rate=FALSE_ALARMS,
    )
