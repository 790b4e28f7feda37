"""How many full trainings a search needs to find what another one finds: ours against Ray Tune's with Optuna.

On learning curves of LCBench, by benchmarks/lcbench.py. Workers are simulated event by event, and an epoch takes the
surrogate's time. Searcher and scheduler are the project's very modules, Optuna's and Ray's.

An incumbent is the trial with the best validation accuracy seen so far at whatever epoch, as a user would choose it. It
is scored by its own accuracy after 52 epochs, so that nobody gains by noise. Regret 0 is the best of 2,000 random
configurations after 52 epochs, 1 their median. A budget of 1 is 52 epochs spent, by whichever trials. Everything was
tuned on every other task (--half tune); the figures are those of the other half.
"""

import heapq
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import click
import numpy as np
import optuna
from lcbench import FACTOR, GRACE, LEVELS, MAX_EPOCHS, RUNGS, SPACE, Curve, Task, draw, task, task_names
from measuring import ROOT, hardware, write
from optuna.trial import TrialState
from ray.tune.schedulers.async_hyperband import _Bracket

from tune.rungs import Rungs, expected_epochs
from tune.sampler import derived_seed, make_sampler
from tune.sections import SearchConfig

BUDGETS = (5, 10, 20, 40, 60)


Decision = Literal["go", "stop", "pause"]


class Scheduler(Protocol):
    def decide(self, number: int, epoch: int, value: float) -> Decision: ...
    def next_paused(self, finishing: bool) -> int | None: ...


class Never:
    """Trains all to the end."""

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        return "go"

    def next_paused(self, finishing: bool) -> int | None:
        return None


class RaysAsha(Never):
    """The arithmetic of Ray's AsyncHyperBandScheduler, with its one bracket."""

    def __init__(self) -> None:
        self._bracket = _Bracket(GRACE, MAX_EPOCHS, FACTOR, 0)

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        trial: Any = type("Trial", (), {"trial_id": str(number)})
        return "stop" if self._bracket.on_result(trial, epoch, value) == "STOP" else "go"


class OursStop(Never):
    """tune.rungs, stopping."""

    def __init__(self, min_peers: int = 0) -> None:
        self.rungs = Rungs(RUNGS, FACTOR, maximize=True, min_peers=min_peers)

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        verdict = self.rungs.judge(number, epoch, value)
        return "go" if verdict is None or verdict.passes else "stop"


class OursPromote(OursStop):
    """tune.rungs, pausing every trial at each rung and promoting."""

    def __init__(self, min_peers: int = 0) -> None:
        super().__init__(min_peers)
        self.paused: dict[int, int] = {}

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if epoch not in RUNGS:
            return "go"
        self.rungs.record(number, epoch, value)
        self.paused[number] = epoch
        return "pause"

    def next_paused(self, finishing: bool) -> int | None:
        found = self.rungs.promotable(self.paused, finishing=finishing)
        if found is None:
            return None
        del self.paused[found[0]]
        return found[0]


class FirstRung(Never):
    """All trials for GRACE epochs, then the top few to the end, best first."""

    def __init__(self, first: int) -> None:
        self._first, self._seen, self._paused = first, 0, dict[int, float]()

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if epoch != GRACE:
            return "go"
        self._seen += 1
        self._paused[number] = value
        return "pause"

    def next_paused(self, finishing: bool) -> int | None:
        if self._seen < self._first or not self._paused:
            return None
        best = max(self._paused, key=self._paused.__getitem__)
        del self._paused[best]
        return best


@dataclass(frozen=True)
class Method:
    """A searcher with a scheduler, and what the study is told."""

    sampler: Callable[[int, int], optuna.samplers.BaseSampler]  # of seed and trials
    scheduler: Callable[[int], Scheduler]  # of trials
    tells_each: bool = False  # every value told, stopped trials as such; Ray tells the last one, of a complete trial
    by_budget: bool = False  # whether it does something else where the budget is smaller


def ours(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return make_sampler(SearchConfig(seed=seed, trials=trials), SPACE, LEVELS)


def optuna_5(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def optuna_4(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=False)


def at_random(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


METHODS = {
    "ours, stop": Method(ours, lambda trials: OursStop(), tells_each=True, by_budget=True),
    "ours, promote": Method(ours, lambda trials: OursPromote(), tells_each=True, by_budget=True),
    "stock (Optuna 5 TPE, Ray ASHA)": Method(optuna_5, lambda trials: RaysAsha()),
    "stock with Optuna 4's TPE": Method(optuna_4, lambda trials: RaysAsha()),
    "random, Ray ASHA": Method(at_random, lambda trials: RaysAsha()),
    "random, no stopping": Method(at_random, lambda trials: Never()),
    "first rung, then the top few": Method(at_random, lambda trials: FirstRung(trials), by_budget=True),
}


def trials_for(budget: float) -> int:
    """The number of trials that ASHA is expected to train for `budget` full trainings."""
    trials = 1
    while expected_epochs(trials + 1, RUNGS, FACTOR, MAX_EPOCHS) <= budget * MAX_EPOCHS:
        trials += 1
    return trials


@dataclass
class Simulation:
    """One search by some workers, who train `budget` * MAX_EPOCHS epochs in all, and start `limit` trials at most."""

    method: Method
    task: Task
    seed: int
    workers: int
    budget: float
    trials: int
    limit: float = math.inf

    def __post_init__(self) -> None:
        self.study = optuna.create_study(direction="maximize", sampler=self.method.sampler(self.seed, self.trials))
        self.scheduler = self.method.scheduler(self.trials)
        self.asked: dict[int, optuna.Trial] = {}
        self.curves: dict[int, Curve] = {}
        self.reached: dict[int, int] = {}
        self.events: list[tuple[float, int, int]] = []  # when a trial ends an epoch, the order of events, the trial
        self.order = 0

    def run(self) -> list[tuple[int, float]]:
        """(epochs spent, regret) whenever the incumbent changed."""
        trajectory: list[tuple[int, float]] = []
        best, incumbent, spent = -math.inf, -1, 0
        self._start_trials(0.0)
        while self.events and spent < self.budget * MAX_EPOCHS:
            now, _, number = heapq.heappop(self.events)
            self.reached[number] += 1
            spent += 1
            value = self.curves[number].value(self.reached[number])
            if value > best:
                if number != incumbent:
                    trajectory.append((spent, self.task.regret(self.curves[number].final())))
                best, incumbent = value, number
            self._after_epoch(number, value, now)
        return trajectory

    def _after_epoch(self, number: int, value: float, now: float) -> None:
        epoch = self.reached[number]
        if self.method.tells_each:
            self.asked[number].report(value, epoch)
        decision = "stop" if epoch == MAX_EPOCHS else self.scheduler.decide(number, epoch, value)
        if decision == "go":
            self._train(number, now)
            return
        if decision == "stop":
            if self.method.tells_each and epoch < MAX_EPOCHS:
                self.study.tell(self.asked[number], state=TrialState.PRUNED)
            else:
                self.study.tell(self.asked[number], value)
        self._start_trials(now)

    def _start_trials(self, now: float) -> None:
        while len(self.events) < self.workers:
            number = self.scheduler.next_paused(len(self.asked) >= self.limit)
            if number is None:
                if len(self.asked) >= self.limit:
                    return
                trial = self.study.ask()
                number = trial.number
                self.asked[number], self.reached[number] = trial, 0
                self.curves[number] = Curve(self.task, draw(trial))
            self._train(number, now)

    def _train(self, number: int, now: float) -> None:
        self.order += 1
        until = now + self.curves[number].duration(self.reached[number] + 1)
        heapq.heappush(self.events, (until, self.order, number))


def on_grid(trajectory: list[tuple[int, float]], budget: float) -> list[float]:
    """The regret after each half training."""
    regrets, at = [], 0
    for half in range(1, int(2 * budget) + 1):
        while at + 1 < len(trajectory) and trajectory[at + 1][0] <= half * MAX_EPOCHS / 2:
            at += 1
        regrets.append(trajectory[at][1])
    return regrets


@dataclass(frozen=True)
class Job:
    """One search."""

    method: str
    workers: int
    budget: int
    task: str
    seed: int

    def run(self) -> list[float]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # the first trials are random: with one seed for all tasks, a lucky draw would be lucky on every one
        seed = derived_seed(self.seed, task_names().index(self.task))
        trials = trials_for(self.budget)
        search = Simulation(METHODS[self.method], task(self.task), seed, self.workers, self.budget, trials)
        return on_grid(search.run(), self.budget)


def run_all(jobs: list[Job], processes: int) -> dict[Job, list[float]]:
    with multiprocessing.get_context("spawn").Pool(processes) as pool, click.progressbar(length=len(jobs)) as bar:
        results = {}
        # by task, so that each process asks for few tasks' random configurations
        for job, regrets in pool.imap_unordered(_run, sorted(jobs, key=lambda job: job.task), chunksize=8):
            results[job] = regrets
            bar.update(1)
    return results


def _run(job: Job) -> tuple[Job, list[float]]:
    return job, job.run()


class Summary:
    """Means over tasks and seeds, with intervals from resampling tasks, and seeds within them."""

    def __init__(self, results: dict[Job, list[float]], tasks: list[str], seeds: list[int]) -> None:
        self._results, self._tasks, self._seeds = results, tasks, seeds
        draw = np.random.default_rng(0)
        self._picks = [
            (draw.integers(len(tasks), size=len(tasks)), draw.integers(len(seeds), size=(len(tasks), len(seeds))))
            for _ in range(1000)
        ]

    def curves(self, method: str, workers: int, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean regret (2 * budget,) by half trainings, and resampled means (1000, 2 * budget)."""
        ran = budget if METHODS[method].by_budget else max(BUDGETS)
        every = np.array([[self._results[Job(method, workers, ran, t, s)] for s in self._seeds] for t in self._tasks])[
            :, :, : 2 * budget
        ]
        means = [every[tasks[:, None], seeds].mean((0, 1)) for tasks, seeds in self._picks]
        return every.mean((0, 1)), np.array(means)

    def regret(self, method: str, workers: int, budget: int) -> dict[str, list[float]]:
        """[mean, lower, upper] at each budget up to `budget`."""
        mean, resampled = self.curves(method, workers, budget)
        lower, upper = np.quantile(resampled, [0.025, 0.975], axis=0)
        return {str(b): [float(line[2 * b - 1]) for line in (mean, lower, upper)] for b in BUDGETS if b <= budget}

    def share(self, method: str, peer: str, workers: int, budget: int) -> list[float]:
        """[value, lower, upper] of the share of the peer's budget that `method` needs for the peer's final regret."""
        (mean, resampled), (peers, peers_resampled) = (self.curves(name, workers, budget) for name in (method, peer))
        shares = [needed(line, other[-1]) for line, other in zip(resampled, peers_resampled, strict=True)]
        interval = np.quantile(shares, [0.025, 0.975], method="inverted_cdf").tolist()  # the others cannot do infinity
        return [needed(mean, peers[-1]), *interval]


def needed(regrets: np.ndarray, target: float) -> float:
    """The first share of the budget from which regrets are at or below the target; infinite where they never are."""
    reached = np.flatnonzero(regrets <= target)
    return float(reached[0] + 1) / len(regrets) if len(reached) else math.inf


@click.command(help=__doc__)
@click.option("--seeds", default=6, show_default=True, help="Searches a task.")
@click.option("--tasks", default=17, show_default=True, help="How many tasks of the half.")
@click.option("--half", type=click.Choice(["report", "tune"]), default="report", show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="One seed, one task, small budgets; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/search_efficiency.json")
def main(seeds: int, tasks: int, half: str, processes: int, quick: bool, out: Path) -> None:
    started = time.monotonic()
    names = task_names()[1 if half == "report" else 0 :: 2][: 1 if quick else tasks]
    numbers = list(range(1 if quick else seeds))
    grid = [(4, 20), (4, 60)] if quick else [(workers, budget) for workers in (4, 16) for budget in (20, 60)]
    jobs = [
        Job(method, workers, budget, name, seed)
        for workers, budget in grid
        for method in METHODS
        if METHODS[method].by_budget or budget == max(BUDGETS)
        for name in names
        for seed in numbers
    ]
    summary = Summary(run_all(jobs, processes), names, numbers)
    record: dict[str, Any] = {
        "tasks": names,
        "seeds": numbers,
        "rungs": RUNGS,
        "searches": [],
    }
    for workers, budget in grid:
        click.echo(f"\n{workers} workers, {budget} full trainings: regret [95 % interval], share of its budget we need")
        for method in METHODS:
            regret = summary.regret(method, workers, budget)
            shares = {name: summary.share(name, method, workers, budget) for name in METHODS if "ours" in name}
            record["searches"].append(
                {"workers": workers, "budget": budget, "method": method, "regret": regret, "share_needed": shares}
            )
            figures = "  ".join(
                f"{b:>2}: {mean:.3f} [{low:.3f}, {high:.3f}]" for b, (mean, low, high) in regret.items()
            )
            needs = "  ".join(f"{name} {at:.3f} [{low:.3f}, {high:.3f}]" for name, (at, low, high) in shares.items())
            click.echo(f"{method:32}  {figures}  {needs}")
    record["seconds"] = round(time.monotonic() - started)
    click.echo(f"\n{len(jobs)} searches in {record['seconds']} s on {hardware()}")
    if not quick:
        write(out, record, "optuna", "ray", "numpy", "onnxruntime")


if __name__ == "__main__":
    main()
