"""A running search in Ray's dashboard, and by a real Prometheus as our Grafana dashboard asks it; all views agree."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from tune import yaml_file
from tune.metrics import label

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "cifar-tune.json").read_text())
NAME = 'it\'s <b>"café"'
TRIALS, EPOCHS = 6, 4
IMAGES = 288  # of the digits, for validation
SEARCH = (
    f"search.trials={TRIALS}",
    "search.sampler=random",
    "scheduler.mode=stop",
    f"scheduler.max_epochs={EPOCHS}",
    "scheduler.grace_period=2",
    "scheduler.reduction_factor=2",
    "retrain.seeds=0",
    "retrain.epochs=6",
)

pytestmark = pytest.mark.xdist_group("dashboard")


def get(url: str) -> Any:
    """What an address answers, with Ray's token."""
    headers = {"Authorization": f"Bearer {os.environ.get('RAY_AUTH_TOKEN', '')}"}
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return json.load(answer)


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` gives once it gives something."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"nothing came of {look.__name__} in {seconds} s"
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    """Where each of these is to listen."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        free = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    return dict(zip(("prometheus", "grafana", "dashboard"), free, strict=True))


@pytest.fixture(scope="module")
def grafana(ports) -> Iterator[None]:
    """In the place of Grafana, of which Ray's dashboard only wants to know whether it is well."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"database": "ok"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    host, port = ports["grafana"].split(":")
    with HTTPServer((host, int(port)), Well) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.fixture(scope="module")
def head(ray_head, ray_nodes, ports, grafana) -> Iterator[tuple[str, Path]]:
    """A Ray head with its dashboard, begun as docker/README.md says but for the ports; its address and its folder."""
    variables = {
        "RAY_PROMETHEUS_HOST": f"http://{ports['prometheus']}",
        "RAY_GRAFANA_HOST": f"http://{ports['grafana']}",
        "RAY_GRAFANA_DATA_DASHBOARD_UID": "cifar-tune",
        "RAY_metrics_report_interval_ms": "1000",  # its ten seconds are long for a test
    }
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        port = ports["dashboard"].partition(":")[2]
        address = ray_head(2, 0, "--include-dashboard=true", f"--temp-dir={folder}", f"--dashboard-port={port}")
        node = ray_nodes[-1]
        yield address, folder
    ray_nodes.remove(node)
    node.leave()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prometheus_of(address: str, ray_folder: Path, folder: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A Prometheus with our configuration, Ray's folder apart; gives what a query gives."""
    config = (DOCKER / "prometheus" / "prometheus.yml").read_text().replace("/tmp/ray/", f"{ray_folder}/")
    file = folder / "prometheus.yml"
    file.write_text(config.replace("scrape_interval: 5s", "scrape_interval: 1s"))
    arguments = [f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)

    def query(text: str) -> list[dict[str, Any]]:
        answer = get(f"http://{address}/api/v1/query?query={quote(text)}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return bool(query("vector(1)"))
        except OSError:
            return False

    try:
        eventually(ready)
        yield query
    finally:
        process.terminate()
        process.wait(timeout=30)


def panel_queries() -> dict[str, str]:
    """Of each panel of Grafana's, as Grafana asks when all experiments and sessions are chosen."""
    return {
        panel["title"]: re.sub(r"\$\w+", ".*", target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus here")
def test_what_is_seen_of_a_running_search_is_what_the_study_says(
    head, ports, start, call, folder, study, row, wandb_runs, hparams_tab
):
    address, ray_folder = head
    url = f"http://{ports['dashboard']}"
    sets = [part for setting in SEARCH for part in ("--set", setting)]
    space = PROJECT / "search_spaces" / "quickstart.yaml"
    with prometheus_of(ports["prometheus"], ray_folder, folder) as query:
        arguments = ["--space", space, "--name", NAME, "--address", address, *sets]
        running = start("tune.run", *arguments, WANDB_MODE="offline")
        actors, tasks = set(), set()

        def counts() -> dict[str, int]:
            assert running.process.poll() is None, running.end()
            actors.update(
                (one["name"], one["reprName"]) for one in get(f"{url}/logical/actors")["data"]["actors"].values()
            )
            shown = get(f"{url}/api/v0/tasks?limit=1000&detail=1")["data"]["result"]["result"]
            tasks.update(one["name"] for one in shown)
            return {one["metric"]["state"]: int(one["value"][1]) for one in query("ray_cifar_tune_trials")}

        eventually(lambda: counts().get("running") == 2)
        eventually(lambda: query("ray_cifar_tune_slot_utilisation == 1"))
        eventually(lambda: counts().get("completed", 0) + counts().get("stopped", 0) == TRIALS, 120)
        answers = {title: eventually(lambda: query(text)) for title, text in panel_queries().items()}  # noqa: B023
        done = running.end()
    assert done.code == 0, done.err
    assert f"Ray's dashboard: {url}; its token: ray get-auth-token" in done.out.splitlines()

    trials = study(folder / "experiments" / NAME)
    assert len(answers) == len(DASHBOARD["panels"]) == 9
    assert {one["metric"]["experiment"] for answer in answers.values() for one in answer} == {label(NAME)}
    value = {title: float(answer[0]["value"][1]) for title, answer in answers.items()}
    by_state = {one["metric"]["state"]: int(one["value"][1]) for one in answers["Trials by state"]}
    assert Counter(by_state) == Counter(trial.user_attrs["state"] for trial in trials)
    assert value["Best value"] == max(max(trial.intermediate_values.values()) for trial in trials)
    assert answers["Best value"][0]["metric"]["metric"] == "val_accuracy"
    assert value["Epochs trained"] == sum(len(trial.intermediate_values) for trial in trials)
    assert value["Slots"] == 2
    assert value["Slot utilisation"] == value["GPU memory a trial"] == 0

    names = {name for name, _ in actors}
    assert {f"{NAME} process 1", f"{NAME} process 2"} <= names
    assert any(one.startswith(f"{NAME} model, of trial ") for one in names | tasks)
    of_trials = {one for one in tasks if one.startswith(f"{NAME} trial ")}
    assert {int(one.removeprefix(f"{NAME} trial ").partition(":")[0]) for one in of_trials} == set(range(TRIALS))
    assert all("learning_rate" in one and "network" not in one for one in of_trials), "those HParams that are searched"
    assert {repr_ for name, repr_ in actors if "process" in name} <= {"", *(f"begun for {one}" for one in of_trials)}

    # and what all other views say
    directory = folder / "experiments" / NAME
    best = max(trials, key=lambda trial: max(trial.intermediate_values.values()))  # of equal ones, see below
    expected = Facts(
        value=max(best.intermediate_values.values()),
        states=Counter(trial.user_attrs["state"] for trial in trials),
        winner=yaml_file.read(directory / "winner.yaml")[0]["trial"],
    )
    assert len(expected.states) == 2, "some were stopped"
    assert max(trials[expected.winner].intermediate_values.values()) == expected.value
    assert Facts(value["Best value"], Counter(by_state), int(value["Best trial"])) == expected
    assert in_terminal(done.out, row) == expected
    assert in_status(call("tune", "status", NAME, "--json")) == expected
    assert in_report((directory / "report.html").read_text()) == expected
    assert in_wandb(wandb_runs(directory / "wandb")) == expected
    assert in_tensorboard(hparams_tab(directory / "trials")) == expected


@dataclass
class Facts:
    """What a view says: the best value, how many trials are in each state, and the number of the winner."""

    value: float
    states: Counter[str]
    winner: int


def in_words(text: str) -> Counter[str]:
    """'6 trials: 4 completed, 2 stopped'"""
    return Counter(
        {state: int(count) for count, state in re.findall(r"(\d+) (completed|stopped|diverged|failed)", text)}
    )


def in_terminal(out: str, row: Callable[[str, str], str]) -> Facts:
    ends = re.findall(r"^\[\d+/\d+\] trial (\d+) (\w+) after \d+ epochs?, val_accuracy ([\d.]+)", out, re.MULTILINE)
    states = in_words(row(out, "trials").partition(":")[2])
    assert Counter(state for _, state, _ in ends) == states
    winner = int(re.match(r"trial (\d+),", row(out, "winner"))[1])
    of_each = {int(number): value for number, _, value in ends}
    assert row(out, "val_accuracy").split()[0] == of_each[winner] == max(of_each.values())
    return Facts(exactly(float(of_each[winner])), states, winner)


def exactly(shown: float) -> float:
    """Of the digits' validation images, the share that is shown with four digits."""
    return min((right / IMAGES for right in range(IMAGES + 1)), key=lambda share: abs(share - shown))


def in_status(done: Any) -> Facts:
    told = json.loads(done.out)
    assert told["best"]["trial"] == told["winner"]
    return Facts(told["best"]["value"], Counter(told["trials"]["by_state"]), told["winner"])


def in_report(html: str) -> Facts:
    text = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL).split())
    states = in_words(re.search(r"\d+ trials: ([^;.]*)", text)[1])
    winner, value = re.search(
        r"[Tt]rial (\d+), the highest val_accuracy.*?val_accuracy (?:of )?(0\.\d+)", text
    ).groups()
    return Facts(exactly(float(value)), states, int(winner))


def in_wandb(runs: dict[str, Any]) -> Facts:
    of_trials = {name: run for name, run in runs.items() if run.about["job_type"] == "trial"}
    best = max(run.summary["best_val_accuracy"] for run in of_trials.values())
    states = Counter(run.summary["state"] for run in of_trials.values())
    return Facts(best, states, runs[f"{NAME}/final"].about["config"]["trial"])


def in_tensorboard(told: dict[str, Any]) -> Facts:
    best = {name: told[name][3]["hp_metric"][1] for name in told if name not in {"shown", "ended"}}
    winner = max(best, key=lambda name: best[name])
    states = Counter(words.partition(":")[0] for words in told["ended"].values())
    return Facts(exactly(best[winner]), states, int(winner))


@pytest.mark.slow
def test_rays_dashboard_has_ours_among_its_own(head, ports):
    """Its page of metrics shows, as that of Ray Data, the dashboard of Grafana's with that uid."""
    url = f"http://{ports['dashboard']}"
    told = eventually(lambda: get(f"{url}/api/grafana_health")["data"])
    assert told["grafanaHost"] == f"http://{ports['grafana']}"
    assert told["dashboardUids"]["data"] == DASHBOARD["uid"]
    provisioned = (DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    assert f"name: {told['dashboardDatasource']} " in provisioned


@pytest.mark.slow
def test_a_search_starts_the_dashboard_when_it_is_told_to(start, folder):
    running = start("tune.run", "--space", PROJECT / "search_spaces" / "quickstart.yaml", "--dashboard")
    line = next(line for line in running.process.stdout if line.startswith("Ray's dashboard"))
    found = re.fullmatch(r"Ray's dashboard: (http://127\.0\.0\.1:\d+); its token: ray get-auth-token\n", line)
    assert found, line

    def answers() -> bool:
        try:
            with urlopen(found.group(1), timeout=30) as page:
                return b"Ray Dashboard" in page.read()
        except OSError:
            return False

    assert answers()
    assert running.kill(signal.SIGTERM).code == 128 + signal.SIGTERM, "not as Ray would have it"
    eventually(lambda: not answers())
