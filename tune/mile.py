"""What there is to train in the last mile, and how far it is. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from tune.averaging import uncompared, ways
from tune.errors import SearchFailedError
from tune.finalists import best_few, finalist_count, finalists, fresh_seeds
from tune.objectives import ranked
from tune.spec import Experiment
from tune.trainings import Repeat, Result, Tail, tail_learning_rate
from tune.trials import Trial


@dataclass(frozen=True)
class Stage:
    """Of `of` trainings `done` have ended; each has `epochs` at most."""

    name: str
    done: int
    of: int
    epochs: int


def few(experiment: Experiment, trials: Iterable[Trial]) -> list[Trial]:
    """The finalists, the best of the search first. Raises SearchFailedError as `tune.objectives.ranked`."""
    return best_few(ranked(experiment, trials), finalist_count(experiment))


def repeats(experiment: Experiment, trial: Trial) -> list[Repeat]:
    """A finalist's trainings with fresh seeds."""
    seeds = fresh_seeds(experiment.retrain, experiment.scheduler, experiment.search)
    return [Repeat(trial.number, trial.hparams, seed) for seed in seeds]


def tails(experiment: Experiment, trial: Trial, results: Mapping[str, Result]) -> list[Tail]:
    """The trainings that all ways open for the first of the finalists need: one has all averages.

    results: of the last mile, by key.
    """
    plan, open_ = experiment.retrain, ways(experiment.retrain)
    checkpoint = trial.winning_file(experiment.search.maximize)
    rate = tail_learning_rate(plan, trial.hparams)
    return [
        Tail(
            trial=trial.number,
            start=start,
            lr_schedule=lr_schedule,
            epochs=plan.epochs,
            learning_rate=rate,
            seed=repeat.seed,
            file=repeat.file if start == "scratch" else checkpoint,
        )
        for start, lr_schedule in dict.fromkeys((way.start, way.lr_schedule) for way in open_)
        for repeat in repeats(experiment, trial)
        if lr_schedule != "none" and (start == "checkpoint" or "ended" in results[repeat.key])
    ]


def model_epochs(experiment: Experiment) -> int:
    """Epochs that the model's training has at most, as far as the plan leaves its way open."""
    plan, longest = experiment.retrain, experiment.scheduler.max_epochs
    compared = fresh_seeds(plan, experiment.scheduler, experiment.search)
    open_ = ways(plan) if compared else [uncompared(plan)]
    return max((way.start == "scratch") * longest + (way.lr_schedule != "none") * plan.epochs for way in open_)


def stages(
    experiment: Experiment, trials: Iterable[Trial], results: Mapping[str, Result], *, made: bool
) -> list[Stage]:
    """What the last mile of an ended search trains, in order; nothing where no trial can win.

    results: those that are known, by key. made: whether the model is.
    """
    try:
        chosen = few(experiment, trials)
    except SearchFailedError:
        return []
    if not chosen:
        return []
    found = []
    jobs = [job.key for trial in chosen for job in repeats(experiment, trial)]
    if jobs:
        done = sum(key in results for key in jobs)
        found.append(Stage("finalists", done, len(jobs), experiment.scheduler.max_epochs))
        found += _averages(experiment, chosen, results, known=done == len(jobs))
    return [*found, Stage("model", int(made), 1, model_epochs(experiment))]


def _averages(
    experiment: Experiment, chosen: list[Trial], results: Mapping[str, Result], *, known: bool
) -> list[Stage]:
    """known: whether the finalists are, and so whose weights are averaged."""
    plan, open_ = experiment.retrain, ways(experiment.retrain)
    if len(open_) == 1:
        return []
    pairs = {(way.start, way.lr_schedule) for way in open_ if way.lr_schedule != "none"}
    done, of = 0, len(pairs) * len(repeats(experiment, chosen[0]))
    if known:
        curves = {
            trial.number: [results[job.key].get("curve") for job in repeats(experiment, trial)] for trial in chosen
        }
        first = finalists(chosen, curves, experiment.search.maximize)[0].trial
        keys = [tail.key for tail in tails(experiment, first, results)]
        done, of = sum(key in results for key in keys), len(keys)
    return [Stage("averages", done, of, plan.epochs)] if of else []


def seconds_left(
    plan: Iterable[Stage], results: Mapping[str, Result], slots: int | None, each: float | None
) -> float | None:
    """Until the model is made, if epochs take as long as those of the last mile did.

    each: seconds that an epoch of the search took, by which it is reckoned before the first training has ended. None
    where neither is known.
    """
    measured = [(one["seconds"], len(one["curve"])) for one in list(results.values()) if "curve" in one]
    if measured:
        each = sum(seconds for seconds, _ in measured) / sum(epochs for _, epochs in measured)
    if each is None:
        return None
    rounds = [ceil((stage.of - stage.done) / max(1, slots or 1)) * stage.epochs for stage in plan]
    return each * sum(rounds)
