"""The report's page of the audit."""

import re
from html import unescape

from tune.recorded import read_experiment
from tune.report.audit_section import audit_section

FIELDS = ("search.trials=24", "scheduler.max_epochs=9", "scheduler.reduction_factor=3", "search.sampler=random")


def crossing(hparams, epoch: int) -> float:
    """The lower the learning rate the later, and the higher in the end."""
    rate = hparams["learning_rate"]
    return round(min(0.9 - rate / 2, 0.1 + rate + epoch * 0.08), 4)


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", html, flags=re.DOTALL)).split())


def test_it_says_what_stopping_cost(begun, storage):
    one = begun("one", *FIELDS, "scheduler.audit=1", value=crossing).run()
    made = audit_section(read_experiment(str(storage), "one", "report"))
    assert made.title == "Audit of early stopping"
    stopped = [trial for trial in one.trials.values() if trial.state == "stopped"]
    found = max(max(trial.values.values()) for trial in one.trials.values())
    won = [trial for trial in stopped if max(trial.audit.values.values()) > found]
    assert won, "else this shows little"
    told = text_of(made.html)
    assert "100 % of the trials that the scheduler stopped, drawn at random, ran on to the end" in told
    assert f"{len(stopped)} of {len(stopped)} did." in told
    assert f"{len(won)} of {len(stopped)} audited: {len(won) / len(stopped):.1%} (95 % interval " in told
    cost = max(max(trial.audit.values.values()) for trial in won) - found
    assert f"val_accuracy {cost:.4g}, exactly: every stopped trial was audited" in told
    assert "grace period that would have been enough" in told
    assert re.search(r"over the trials that got there, by themselves or audited: -?\d\.\d\d at rung 1, ", told)
    assert made.html.count('role="img"') == 2


def test_what_runs_and_what_waits_is_told(begun, storage):
    one = begun("one", *FIELDS, "scheduler.audit=1", value=crossing)
    while not one.conductor.audits.live:
        one.fill()
        one.train(min(one.epoch))
    made = audit_section(read_experiment(str(storage), "one", "report"))
    assert "more were drawn and are not at their end" in text_of(made.html)


def test_without_an_audit_there_is_no_page(begun, storage):
    begun("one", *FIELDS).run()
    assert audit_section(read_experiment(str(storage), "one", "report")) is None
