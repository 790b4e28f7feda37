"""Several objectives: the front is drawn and told."""

import json
import re

from tune.objectives import front
from tune.recorded import read_experiment
from tune.report.curves import chosen
from tune.report.front import front_section
from tune.report.leader import leader
from tune.report.parallel import parallel_section
from tune.trials import best_trial

OBJECTIVES = (
    "search={objectives: [{metric: val_accuracy}, {metric: parameters}], trials: 12, sampler: random}",
    "search.choose.subject_to.parameters.upper=3",
    "scheduler={type: none, max_epochs: 2}",
)


def test_the_front_is_drawn_with_the_bound_and_has_a_table(begun, storage):
    begun("one", *OBJECTIVES).run()
    known = read_experiment(str(storage), "one", "report")
    unbeaten = front(known.experiment.search, known.trials)
    section = front_section(known)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', section.html)
    figure = json.loads(data)
    assert [each["name"] for each in figure["data"]] == ["other trials", "front", "best"]
    assert [(shape["y0"], shape["y1"]) for shape in figure["layout"]["shapes"]] == [(3, 3)], "of the second objective"
    assert f"{len(unbeaten)} of 12 trials are beaten by none in all objectives" in section.html
    assert len(re.findall(r'<th scope="row">', section.html)) == len(unbeaten)
    assert "(best)" in section.html


def test_of_one_metric_there_is_no_front(searched):
    assert front_section(searched()) is None


def test_every_section_has_the_same_best(begun, storage):
    fields = ("search.choose.subject_to.parameters.upper=0", *OBJECTIVES[:1], OBJECTIVES[2])
    begun("one", *reversed(fields)).run()
    known = read_experiment(str(storage), "one", "report")
    best = leader(known)
    assert best.number != best_trial(known.trials, maximize=True).number, "else this shows nothing"
    assert f"The best trial, {best.number}, with " in parallel_section(known).html
    few, _ = chosen(known.experiment.search, known.trials, 2)
    assert few[0].number == best.number
