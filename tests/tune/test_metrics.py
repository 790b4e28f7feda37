import json
import re
from pathlib import Path

import pytest

from tune.metrics import COUNTERS, GAUGES, Metrics, label
from tune.standing import Standing
from tune.trials import EPOCH_SECONDS, GPU_MEMORY

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "cifar-tune.json"


@pytest.mark.parametrize(
    ("name", "as_label"),
    [
        ("quickstart", "quickstart"),
        ('<b> "it\'s" {a=~b}', '<b> "it\'s" {a=~b}'),  # what is written to Prometheus is escaped there
        ("café 😀", "caf\\xe9 \\U0001f600"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_name_as_a_label_of_rays(name, as_label):
    assert label(name) == as_label


@pytest.fixture
def search(session):
    """A search of four trials in two slots, and its metrics."""
    played = session("search.trials=4", "scheduler.type=none", "scheduler.max_epochs=2", slots=2)
    standing = Standing(played.experiment, 2, played.conductor.limits)
    played.conductor.told = standing.update
    return played, Metrics(standing, lambda: 2)


def figures(metrics: Metrics, now: float = 0.0) -> dict[str, float]:
    """By name and labels in order: 'cifar_tune_trials running'."""
    return {" ".join([name, *labels.values()]): value for name, labels, value in metrics.figures(now)}


def test_the_figures_of_a_search(search):
    played, metrics = search
    assert figures(metrics)["cifar_tune_slot_utilisation"] == 0
    assert not any("best_value" in name for name in figures(metrics)), "none before the first epoch"
    first, second = played.fill()
    played.train(first, 0.25)
    played.train(second, 0.75)
    metrics.reported(first, {EPOCH_SECONDS: 1.5})
    metrics.reported(second, {EPOCH_SECONDS: 2.5, GPU_MEMORY: 1024})
    told = figures(metrics, 4.0)
    assert {name: value for name, value in told.items() if value} == {
        "cifar_tune_trials running": 2,
        "cifar_tune_best_value val_accuracy": 0.75,
        "cifar_tune_best_trial": second,
        "cifar_tune_slots": 2,
        "cifar_tune_slot_utilisation": 1.0,
        "cifar_tune_epochs_per_second": 0.5,
        "cifar_tune_epoch_seconds 1": 1.5,
        "cifar_tune_epoch_seconds 2": 2.5,
        "cifar_tune_gpu_memory_bytes 2": 1024,
    }
    assert {name.partition(" ")[0] for name in told} == set(GAUGES)


def test_a_slot_is_the_next_trials_when_one_has_left_it(search):
    played, metrics = search
    first, second = played.fill()
    for number in (first, second):
        played.train(number)
        metrics.reported(number, {EPOCH_SECONDS: 1.5, GPU_MEMORY: 1024})
    played.train(first)
    told = figures(metrics)
    assert told["cifar_tune_epoch_seconds 1"] == told["cifar_tune_gpu_memory_bytes 1"] == 0
    assert told["cifar_tune_epoch_seconds 2"] == 1.5
    (third,) = played.fill()
    metrics.reported(third, {EPOCH_SECONDS: 3.5})
    assert figures(metrics)["cifar_tune_epoch_seconds 1"] == 3.5
    assert "cifar_tune_epoch_seconds 3" not in figures(metrics)


def test_audits_are_in_slots(session):
    stop = ("scheduler.mode=stop", "scheduler.max_epochs=3", "scheduler.reduction_factor=2", "search.sampler=random")
    played = session(*stop, "search.trials=2", "scheduler.audit=1", value=[[0.9] * 3, [0.5] * 3])
    standing = Standing(played.experiment, 1, played.conductor.limits)
    played.conductor.told = played.conductor.audits._told = standing.update
    metrics = Metrics(standing, lambda: 1)
    while not played.conductor.audits.live:
        played.fill()
        if not played.began[-1].is_audit:
            played.train(*played.epoch)
    assert figures(metrics)["cifar_tune_slot_utilisation"] == 1
    before = standing.epochs
    played.train(1)
    metrics.reported(1, {EPOCH_SECONDS: 1.5})
    told = figures(metrics)
    assert (told["cifar_tune_epoch_seconds 1"], standing.epochs) == (1.5, before + 1)
    played.run()
    told = figures(metrics)
    assert (told["cifar_tune_epoch_seconds 1"], told["cifar_tune_slot_utilisation"]) == (0, 0)
    assert standing.audits == {"paused": 0, "running": 0, "completed": 1}


def test_epochs_a_second_are_those_of_the_last_minute(search):
    played, metrics = search
    numbers = played.fill()
    assert figures(metrics, 0.0)["cifar_tune_epochs_per_second"] == 0
    for number in numbers:
        played.train(number)
    assert figures(metrics, 10.0)["cifar_tune_epochs_per_second"] == 0.2
    assert figures(metrics, 100.0)["cifar_tune_epochs_per_second"] == 0
    assert figures(metrics, 200.0)["cifar_tune_epochs_per_second"] == 0


def test_what_goes_wrong_with_them_costs_no_trial(search):
    _, metrics = search
    metrics.slots = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        figures(metrics)
    metrics.publish()
    metrics.publish(last=True)


def test_the_dashboard_of_grafana_shows_each_metric_once():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    named = [name for query in queries for name in re.findall(r"ray_\w+", query)]
    assert sorted(named) == sorted([*(f"ray_{name}" for name in GAUGES), *(f"ray_{name}_total" for name in COUNTERS)])
    assert all('experiment=~"$experiment"' in query and 'SessionName=~"$SessionName"' in query for query in queries)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for query in queries for name in re.findall(r"\$(\w+)", query)}
    assert variables == {*used, "datasource"}, "the last one Ray's own dashboard chooses"
