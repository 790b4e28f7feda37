"""The report's page of the critic."""

from tune.next_experiment import findings
from tune.recorded import read_experiment
from tune.report.critic_section import critic_section

NARROW = """\
data: {source: digits}
space:
  learning_rate: {type: float, lower: 1e-4, upper: 3e-3, log: true}
  translate: {type: int, lower: 0, upper: 4}
search: {trials: 48, sampler: random}
scheduler: {max_epochs: 3}
"""


def test_findings_have_their_evidence_and_the_command_that_goes_on(begun, storage):
    begun("one", text=NARROW, value=lambda hparams, epoch: 20 * hparams["learning_rate"] + epoch / 1000).run()
    known = read_experiment(str(storage), "one", "report")
    (finding,) = [one for one in findings(known) if one.kind == "bound"]
    html = critic_section(known).html
    cells = f"<td>the best crowd at a bound</td><td>{finding.evidence}</td><td>{finding.suggestion}</td>"
    assert f'<tr><th scope="row">learning_rate</th>{cells}</tr>' in html
    write = f"python -m tune next one --storage {storage} --output next.yaml"
    run = f"python -m tune.run --space next.yaml --name one-2 --storage {storage}"
    assert f"<pre>{write} &amp;&amp; {run}</pre>" in html, "whether it is over, and so has its next.yaml, or not"
    assert "one search in 100 has a false one of each kind about its space at most" in html


def test_where_nothing_was_found_it_says_so_and_without_values_nothing(begun, storage):
    one = begun("one", text=NARROW, value=lambda hparams, epoch: 0.5)
    assert critic_section(read_experiment(str(storage), "one", "report")) is None
    one.run(steps=5)
    assert "<p>Nothing: no parameter's" in critic_section(read_experiment(str(storage), "one", "report")).html


def test_an_experiments_name_is_text(begun, storage):
    begun("a<b>'c'", text=NARROW, value=lambda hparams, epoch: 0.5).run(steps=5)
    html = critic_section(read_experiment(str(storage), "a<b>'c'", "report")).html
    assert "<b>" not in html
    assert "a&lt;b&gt;" in html
