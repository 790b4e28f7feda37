"""The report's page of the critic: what the trials say against the space and the scheduler, and what comes next."""

from tune.critic import FALSE_ALARMS
from tune.next_experiment import findings, write_and_run
from tune.recorded import Recorded
from tune.report.section import Section, section

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
    told = findings(known)
    return section(
        "What to change next",
        "critic_section.html.j2",
        findings=told,
        kinds=_KINDS,
        command=write_and_run(known.directory, known.name),
        rate=FALSE_ALARMS,
    )
