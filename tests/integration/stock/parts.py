"""Ray Tune and Optuna as they come: `python parts.py ADDRESS FOLDER` writes told.json.

A process of its own: Ray and Tune warn, and tests take warnings for errors.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

ADDRESS, FOLDER = sys.argv[1:3]
EPOCHS = 4
LEVELS = [0.7, 0.8, 0.9, 0.1]  # of the trials of the driver that dies: the last one waits for it
CURVES = {
    "steady": [0.4, 0.5, 0.6, 0.7],
    "peak": [0.5, 0.9, 0.6, 0.5],
    "worst": [0.3, 0.3, 0.3, 0.3],
    "nan": [0.6, math.nan, math.nan, math.nan],
}


def train(config: dict[str, Any]) -> None:
    """Reports a value an epoch, and the process it runs in."""
    while config.get("level") == LEVELS[-1] and not Path(FOLDER, "died").exists():
        time.sleep(0.05)
    for value in CURVES[config["name"]] if "name" in config else [config["level"]] * EPOCHS:
        tune.report({"value": value, "pid": os.getpid()})


def asha(brackets: int = 1) -> ASHAScheduler:
    return ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=2, brackets=brackets)


class Dies(tune.Callback):
    """Ends the driver at once, as a lost machine would, when the last trial runs and all that was before is saved."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if "die" not in sys.argv:
            return
        for file in Path(FOLDER, "dead").glob("experiment_state-*.json"):
            quiet = time.time() - file.stat().st_mtime > 0.5  # Tune writes it again every 2 s, and not at once
            if quiet and file.read_text().count("TERMINATED") == len(LEVELS) - 1:
                os._exit(0)


def dying() -> None:
    tune.Tuner(
        train,
        param_space={"level": tune.grid_search(LEVELS)},
        tune_config=tune.TuneConfig(
            metric="value", mode="max", scheduler=asha(), max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="dead", storage_path=FOLDER, callbacks=[Dies()], verbose=0),
    ).fit()
    raise SystemExit("the driver did not die")


def restored() -> dict[str, Any]:
    """The search whose driver died, run to its end: each trial's epochs, and the values at the first rung."""
    tuner = tune.Tuner.restore(f"{FOLDER}/dead", trainable=train)
    results = tuner.fit()
    (bracket,) = tuner._local_tuner._tune_config.scheduler._brackets
    return {
        "epochs": {str(result.config["level"]): result.metrics["training_iteration"] for result in results},
        "rung": sorted(bracket._rungs[-1][1].values()),
    }


def searched() -> dict[str, Any]:
    """A search as the documentation shows it: what its study and its table of results say of each trial."""
    search = OptunaSearch(
        {"name": optuna.distributions.CategoricalDistribution(list(CURVES))},
        metric="value",
        mode="max",
        points_to_evaluate=[{"name": name} for name in CURVES],
    )
    results = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            metric="value",
            mode="max",
            search_alg=ConcurrencyLimiter(search, max_concurrent=1),
            scheduler=asha(),
            num_samples=len(CURVES),
        ),
        run_config=tune.RunConfig(name="searched", storage_path=FOLDER, verbose=0),
    ).fit()
    metrics = {result.config["name"]: result.metrics for result in results}
    trials = {
        trial.params["name"]: {
            "state": trial.state.name,
            "value": trial.values and trial.value,
            "values": {int(epoch): value for epoch, value in trial.intermediate_values.items()},
            "attributes": trial.user_attrs,
            "epochs": metrics[trial.params["name"]]["training_iteration"],
            "pid": metrics[trial.params["name"]]["pid"],
        }
        for trial in search._ot_study.trials
    }
    return {"trials": trials, "best": results.get_best_result().config["name"]}


def conditional(trial: optuna.Trial) -> dict[str, Any]:
    """A conditional space as OptunaSearch takes one, with a constant."""
    if trial.suggest_categorical("optimizer", ["sgd", "adamw"]) == "sgd":
        trial.suggest_float("momentum", 0, 1)
    return {"network": "linear"}


def first(point: dict[str, Any]) -> dict[str, Any] | None:
    """What OptunaSearch proposes first where it is told to begin with `point`."""
    search = OptunaSearch(conditional, metric="value", mode="max", seed=0, points_to_evaluate=[point])
    return search.suggest("a trial")


def refusal() -> str:
    """What it says to a point of which the value is known."""
    try:
        OptunaSearch(
            conditional,
            metric="value",
            mode="max",
            points_to_evaluate=[{"optimizer": "sgd", "momentum": 0.5}],
            evaluated_rewards=[0.9],
        )
    except TypeError as error:
        return str(error)
    return ""


def decisions(values: list[float]) -> list[str]:
    """ASHA's, of a trial for each value at the first rung."""
    scheduler = asha()
    scheduler.set_search_properties("value", "max")
    told = []
    for number, value in enumerate(values):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        told.append(scheduler.on_trial_result(None, trial, {"training_iteration": 1, "value": value}))
    return told


def brackets(seed: int) -> list[int]:
    """Those of twenty trials, after somebody else seeded numpy."""
    np.random.seed(seed)
    scheduler = asha(brackets=3)
    scheduler.set_search_properties("value", "max")
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(20)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return [scheduler._brackets.index(scheduler._trial_info[trial.trial_id]) for trial in trials]


def main() -> None:
    if "die" not in sys.argv:
        subprocess.run([sys.executable, *sys.argv, "die"], check=True)
        Path(FOLDER, "died").touch()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ray.init(address=ADDRESS, log_to_driver=False, logging_level="ERROR")
    if "die" in sys.argv:
        dying()
    told = {
        "restored": restored(),
        "undisturbed": decisions(LEVELS),
        "searched": searched(),
        "in the space": first({"optimizer": "sgd", "momentum": 0.5}),
        "misspelt": first({"optimizer": "sgd", "momentun": 0.5}),
        "another constant": first({"network": "resnet"}),
        "refusal": refusal(),
        "one peer": decisions([0.9, 0.8]),
        "ties": decisions([0.5] * 8),
        "brackets": [brackets(seed) for seed in (0, 1)],
    }
    Path(FOLDER, "told.json").write_text(json.dumps(told))


main()
