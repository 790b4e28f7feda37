"""Where it ran, and how to do it again."""

import shlex

from tune.recorded import Recorded
from tune.report.section import Section, facts, section
from tune.summary import again


def environment_section(known: Recorded) -> Section | None:
    """Never None."""
    told, experiment = known.provenance, known.experiment
    sessions = told.get("resumed", [])
    rows = {
        "began": told["started"],
        "command": told["command"],
        **{f"went on {one['started']}": one["command"] for one in sessions},
        "git commit": told["git_commit"] or "none",
        "data": f"{experiment.data.source}, fingerprint {told['data_fingerprint']}",
        "seed": experiment.search.seed,
        "sampler, scheduler": f"{experiment.search.sampler}, {experiment.scheduler.type}",
        "study": told.get("study") or "study.journal",
        "Python": f"{told['python']} on {told['platform']}",
        "processor": told.get("processor") or "unknown",
        **told.get("versions", {}),
    }
    return section(
        "Environment, and again",
        "report/environment.html.j2",
        again=again(known.name, known.directory),
        replay=f"python -m tune replay {shlex.quote(known.name)} --storage {shlex.quote(known.directory.storage)}",
        facts=facts("Environment", rows),
    )
