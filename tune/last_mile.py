"""The last mile to the model: the best few over fresh seeds, and the best way to make a model of the winner."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

from tune import mile, objectives
from tune.averaging import PLAIN, Evidence, Way, best_way, compared, uncompared, ways
from tune.errors import RetrainFailedError, StorageError
from tune.experiment import ExperimentDir, to_yaml
from tune.finalists import Finalist, finalists, fresh_seeds
from tune.objectives import chosen_by, within_bounds
from tune.sections import AVERAGES, RetrainConfig, SearchConfig
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trainings import FINALISTS, Job, Repeat, Result, Tail, validation_metric
from tune.trials import Trial

Run = Callable[[Sequence[Job], Callable[[Job, Result], None]], None]  # as tune.jobs.run_jobs, all else given
Say = Callable[[str], None]


@dataclass(frozen=True)
class Winner:
    """The trial that becomes the model, and how.

    epochs: of a training afresh. finalists: the best first. evidence: empty where nothing was compared.
    """

    trial: Trial
    way: Way
    epochs: int
    finalists: tuple[Finalist, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def finalist(self) -> Finalist | None:
        """What the trial gave over fresh seeds."""
        return next((each for each in self.finalists if each.trial is self.trial and each.values), None)

    @property
    def chosen(self) -> Evidence | None:
        """What the way gave."""
        return next((row for row in self.evidence if row.way == self.way), None)

    def made_from(self, experiment: Experiment) -> dict[str, Any]:
        """What its model depends on: a model made from anything else is another one."""
        epoch, _ = self.trial.winning(experiment.search.maximize)
        return {"trial": self.trial.number, "epoch": epoch, **self.way.resolved(experiment.retrain)}

    def why(self, trials: int, search: SearchConfig) -> str:
        """Why it is the winner, of so many trials."""
        chosen = chosen_by(search)
        side, metric = "highest" if chosen.maximize else "lowest", chosen.metric
        of_them = f"of {trials} trials{within_bounds(search)}"
        if self.finalist is None:
            return f"the {side} {metric} {of_them}"
        of, seeds = len(self.finalists), len(self.finalist.values)
        if of == 1:
            return f"the {side} {metric} {of_them}, again with {seeds} fresh seeds"
        return f"the {side} mean {metric} over {seeds} fresh seeds, of the best {of} {of_them}"


class LastMile:
    """Trains what is not in the study yet. run: does trainings, in parallel; say: hears of each.

    `ran` is whether there were any, `results` is what is known of each, by key.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: ExperimentDir,
        record: StudyRecord,
        run: Run,
        say: Callable[[str], None],
    ) -> None:
        self.experiment, self.directory, self.record = experiment, directory, record
        self._run, self._say = run, say
        self.seeds = fresh_seeds(experiment.retrain, experiment.scheduler, experiment.search)
        self.results = record.results
        self.ran = False

    def winner(self, trials: list[Trial]) -> Winner | None:
        """Of the trials, chosen by all that is known; None if none has a checkpoint.

        What is measured again is the search's metric: where another objective decides, its best trial is the only
        finalist. Raises SearchFailedError as `tune.objectives.ranked`, RetrainFailedError if no training over fresh
        seeds came to its end, what `run` raises, and StorageError if the study cannot be written.
        """
        few = mile.few(self.experiment, trials)
        if not few:
            return None
        if not self.seeds:
            epochs = self._length([few[0].epochs])
            return Winner(few[0], uncompared(self.experiment.retrain), epochs)
        repeats = {trial.number: mile.repeats(self.experiment, trial) for trial in few}
        results = self._trained("finalists", [job for jobs in repeats.values() for job in jobs])
        curves = {number: [results[job.key].get("curve") for job in jobs] for number, jobs in repeats.items()}
        ranked = finalists(few, curves, self.experiment.search.maximize)
        if not ranked[0].values:
            raise self._none("finalists", list(results.values()), "set retrain.finalists higher, or retrain.seeds to 0")
        return self._averaged(ranked, self._length([len(curve) for curve in curves[ranked[0].trial.number] if curve]))

    def _length(self, lengths: list[int]) -> int:
        """Epochs of a training afresh that has no validation images to stop by: as those that had some."""
        early = self.experiment.trainer.early_stopping
        return round(median(lengths)) if early else self.experiment.scheduler.max_epochs

    def _averaged(self, ranked: tuple[Finalist, ...], epochs: int) -> Winner:
        """With the way to make the model of the first."""
        plan, trial = self.experiment.retrain, ranked[0].trial
        open_ = ways(plan)
        if len(open_) == 1:
            return Winner(trial, open_[0], epochs, ranked)
        repeats = mile.repeats(self.experiment, trial)
        self._mend(repeats, mile.tails(self.experiment, trial, self.results))
        tails = mile.tails(self.experiment, trial, self.results)
        results = self._trained("averages", tails)
        metric = validation_metric(self.experiment.search.metric)
        table = {PLAIN: [_figures(self.results[job.key].get("ended"), metric) for job in repeats]}
        for start, lr_schedule in dict.fromkeys((tail.start, tail.lr_schedule) for tail in tails):
            of_seed = {tail.seed: tail.key for tail in tails if (tail.start, tail.lr_schedule) == (start, lr_schedule)}
            for average in AVERAGES:
                measured = [results.get(of_seed.get(seed, ""), {}).get(average) for seed in self.seeds]
                table[Way(start, lr_schedule, average)] = [_figures(one, metric) for one in measured]
        evidence = compared(plan, table)
        best = best_way(evidence, self.experiment.search.maximize)
        if best is None:
            raise self._none("ways to make the model", list(results.values()), "lower retrain.learning_rate")
        return Winner(trial, best, epochs, ranked, evidence)

    def _mend(self, repeats: list[Repeat], tails: list[Tail]) -> None:
        """Trains those again whose last weights `tails` need, and that are gone."""
        needed = {tail.file for tail in tails if tail.start == "scratch" and tail.key not in self.results}
        place = self.directory.place
        gone = [each for each in repeats if each.file in needed and not place.exists(each.file)]
        for each in gone:
            del self.results[each.key]
        self._trained("finalists whose weights are gone", gone)

    def _trained(self, what: str, jobs: Sequence[Job]) -> dict[str, Result]:
        """Of every job its result, by key."""
        left = [job for job in jobs if job.key not in self.results]
        ended = len(jobs) - len(left)

        def done(job: Job, result: Result) -> None:
            nonlocal ended
            ended += 1
            self.ran = True
            self.results[job.key] = result
            if "failed" not in result:  # that is tried again when the experiment goes on
                with self._written():
                    self.record.note_result(job.key, result)
                    self.directory.publish(self.directory.journal)
            self._say(f"{what} {ended}/{len(jobs)}: {job.told(result, self.experiment.search)}")

        if left:
            self._run(left, done)
        return {job.key: self.results[job.key] for job in jobs}

    def _none(self, what: str, results: list[Result], repair: str) -> RetrainFailedError:
        failed = next((each for each in results if "failed" in each), None)
        if failed is not None:
            return RetrainFailedError(f"none of the {what} came to its end: {failed['failed']}", failed["traceback"])
        why = next((each["diverged"] for each in results if "diverged" in each), "a value was no number")
        return RetrainFailedError(f"all {what} diverged, {why}: {repair}")

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.directory.place.uri} can no longer be written: {error}") from None

    def tidy(self, winner: Winner) -> None:
        """Deletes the weights of finalists that did not win."""
        kept = {each.file for each in mile.repeats(self.experiment, winner.trial)}
        with suppress(OSError):  # a leftover costs space only
            for name in self.directory.place.list(FINALISTS):
                if (file := f"{FINALISTS}/{name}") not in kept:
                    self.directory.place.delete(file)

    def write(self, winner: Winner, count: int) -> None:
        """winner.yaml: who won of `count` trials, in which way the model is made, and why. Raises StorageError."""
        search = self.experiment.search
        epoch, value = winner.trial.winning(search.maximize)
        record: dict[str, Any] = {
            "trial": winner.trial.number,
            "hparams": winner.trial.hparams,
            "epoch": epoch,
            search.metric: value,
            **objectives.best_figures(search, winner.trial, kept=True),
            "why": winner.why(count, search),
            "checkpoint": winner.trial.checkpoints[epoch],
            "retrain": asdict(winner.way),
            "epochs afresh": winner.epochs,
            "finalists": [_finalist_record(each, search.maximize) for each in winner.finalists],
            "evidence": [_evidence_record(row) for row in winner.evidence],
        }
        with self._written():
            to_yaml(record, self.directory.winner)
            self.directory.publish(self.directory.winner)


def _figures(measured: dict[str, float] | None, metric: str) -> tuple[float, float]:
    """(metric, loss), not numbers where the training diverged."""
    return (measured[metric], measured["val_loss"]) if measured else (float("nan"), float("nan"))


def _finalist_record(each: Finalist, maximize: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"trial": each.trial.number, "search": each.score, "values": list(each.values)}
    told["values over as many epochs"] = list(each.alike)
    if each.values:
        told |= {"mean": each.mean, f"mean over {each.trial.epochs} epochs": mean(each.alike)}
        told["drop"] = each.drop(maximize)
    if each.interval:
        told["interval"] = list(each.interval)
    return told | ({"diverged or failed": each.broken} if each.broken else {})


def _evidence_record(row: Evidence) -> dict[str, Any]:
    return {**asdict(row.way), "values": list(row.values), "losses": list(row.losses)}


def read_winner(record: Mapping[str, Any], plan: RetrainConfig, trials: Mapping[int, Trial]) -> Winner:
    """The winner that `LastMile.write` told of: record is what winner.yaml holds, trials are those of the study.

    Raises KeyError, TypeError or ValueError if it is no such record.
    """
    trial = trials[record["trial"]]
    trial.checkpoints = {record["epoch"]: record["checkpoint"]}
    few = []
    for one in record["finalists"]:
        values, alike = tuple(one["values"]), tuple(one["values over as many epochs"])
        broken = one.get("diverged or failed", 0)
        few.append(Finalist(trials[one["trial"]], one["search"], values, alike, broken))
    table = {
        Way(row["start"], row["lr_schedule"], row["average"]): list(zip(row["values"], row["losses"], strict=True))
        for row in record["evidence"]
    }
    return Winner(trial, Way(**record["retrain"]), record["epochs afresh"], tuple(few), compared(plan, table))
