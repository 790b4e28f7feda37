"""The report's page of the audit."""

import re
from html import unescape

from tune.recorded import read_experiment
from tune.report.audit_section import audit_section
from tune.report.stops import rungs_of, stops_section
from tune.trials import Trial

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


def test_the_rank_correlations_are_those_of_the_rungs(begun, storage):
    one = begun("one", *FIELDS, "scheduler.audit=1", value=crossing).run()
    known = read_experiment(str(storage), "one", "report")
    told = text_of(audit_section(known).html)
    first, *_ = rungs_of(known)
    assert first.whole == len(one.trials) > 5
    assert f"by themselves or audited: {first.correlation:.2f} at rung 1" in told


def test_the_share_that_early_stopping_trained_leaves_audits_out(begun, storage):
    one = begun("one", *FIELDS, "scheduler.audit=1", value=crossing).run()
    own = sum(trial.epochs for trial in one.trials.values())
    html = stops_section(read_experiment(str(storage), "one", "report")).html
    assert f"{own} epochs were trained, {own / (24 * 9):.0%} of what all trials" in html
    assert f"would have taken; audits trained {sum(trial.audited for trial in one.trials.values())} more" in html


def test_thousands_of_curves_are_a_few_lines_of_some(begun, storage):
    begun("one", "search.metric=val_loss", "scheduler.max_epochs=3", "scheduler.audit=0.001")
    trials = [Trial(0, {}, "completed", {1: 0.5, 2: 0.5, 3: 0.5})]
    for number in range(1, 1001):
        trials.append(Trial(number, {}, "stopped", {1: 0.9}, "stopped at rung 1"))
        end = 0.1 if number == 77 else 0.8
        trials[-1].audit = Trial(number, {}, "completed", {1: 0.9, 2: 0.85, 3: end})
    trials[-1].audit.state = "paused"
    known = read_experiment(str(storage), "one", "report")
    known.__dict__["trials"] = trials
    html = audit_section(known).html
    assert html.startswith("<p>0.1 % of the trials")
    assert "999 audited trials" in html
    assert "against the best value found, 0.5000: 1 is better than it. 292 of 999 are drawn" in html
    assert html.count('"type":"scatter"') == 5, "four of curves, one of ranks"


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
