"""The last mile to the model: the best few over fresh seeds, and the best way to make a model of the winner."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tune import objectives
from tune.averaging import PLAIN, Evidence, Way, best_way, compared, uncompared, ways
from tune.errors import RetrainFailedError, StorageError
from tune.experiment import ExperimentDir, to_yaml
from tune.finalists import Finalist, best_few, finalists, fresh_seeds
from tune.objectives import chosen_by, within_bounds
from tune.sections import SearchConfig
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trainings import FINALISTS, Repeat, Result, Tail, tail_learning_rate, validated
from tune.trials import CHECKPOINT_FILE, Trial

Job = Repeat | Tail
Run = Callable[[list[Any], Callable[[Any, Result], None]], None]  # as tune.jobs.run_jobs, all else given
Say = Callable[[str], None]


@dataclass(frozen=True)
class Winner:
    """The trial that becomes the model, and how. finalists: the best first; evidence: empty where none was compared."""

    trial: Trial
    way: Way
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
    """Trains what is not in the study yet. run: does trainings, in parallel; say: hears of each."""

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

    def winner(self, trials: list[Trial]) -> Winner | None:
        """Of the trials, chosen by all that is known, and written to winner.yaml; None if none has a checkpoint.

        What is measured again is the search's metric: where another objective decides, its best trial is the only
        finalist. Raises SearchFailedError as `tune.objectives.ranked`, RetrainFailedError if no training over fresh
        seeds came to its end, what `run` raises, and StorageError if the study cannot be written.
        """
        search, plan = self.experiment.search, self.experiment.retrain
        decides = chosen_by(search).metric == search.metric
        few = best_few(objectives.ranked(self.experiment, trials), plan.finalists if decides else 1)
        if not few:
            return None
        if not self.seeds:
            winner = Winner(few[0], uncompared(plan))
        else:
            repeats = [Repeat(trial.number, trial.hparams, seed) for trial in few for seed in self.seeds]
            results = self._trained("finalists", repeats)
            values: dict[int, list[float | None]] = {trial.number: [] for trial in few}
            for job in repeats:
                values[job.trial].append(results[job.key].get("value"))
            ranked = finalists(few, values, search.maximize)
            if not ranked[0].values:
                raise RetrainFailedError("every training of the finalists with a fresh seed diverged")
            winner = self._averaged(ranked)
        self._write(winner, len(trials))
        return winner

    def _averaged(self, ranked: tuple[Finalist, ...]) -> Winner:
        """With the way to make the model of the first."""
        plan, trial, maximize = self.experiment.retrain, ranked[0].trial, self.experiment.search.maximize
        open_ = ways(plan)
        if len(open_) == 1:
            return Winner(trial, open_[0], ranked)
        tails = self._tails(trial, open_)
        self._mended(trial, tails)
        results = self._trained("averages", tails)
        metric = validated(self.experiment.search.metric)
        table: dict[Way, list[tuple[float, float]]] = {PLAIN: []}
        for repeat in self._repeats(trial):
            table[PLAIN].append(_figures(self.record.results.get(repeat.key, {}).get("ended"), metric))
        for tail in tails:
            for average in ("raw", "swa", "ema"):
                way = Way(tail.start, tail.lr_schedule, average)
                table.setdefault(way, []).append(_figures(results[tail.key].get(average), metric))
        evidence = compared(plan, table)
        best = best_way(evidence, maximize)
        if best is None:
            raise RetrainFailedError("every way to make the model diverged: lower retrain.learning_rate")
        return Winner(trial, best, ranked, evidence)

    def _repeats(self, trial: Trial) -> list[Repeat]:
        return [Repeat(trial.number, trial.hparams, seed) for seed in self.seeds]

    def _tails(self, trial: Trial, open_: list[Way]) -> list[Tail]:
        """The trainings that all open ways need: one has all averages."""
        plan = self.experiment.retrain
        best = trial.best_kept(self.experiment.search.maximize)
        assert best is not None, "a finalist has a checkpoint"
        needed = dict.fromkeys((way.start, way.lr_schedule) for way in open_ if way.lr_schedule != "none")
        return [
            Tail(
                trial=trial.number,
                start=start,
                lr_schedule=lr_schedule,
                epochs=plan.epochs,
                learning_rate=tail_learning_rate(plan, trial.hparams),
                seed=repeat.seed,
                file=repeat.file if start == "scratch" else f"{trial.checkpoints[best[0]]}/{CHECKPOINT_FILE}",
            )
            for start, lr_schedule in needed
            for repeat in self._repeats(trial)
            if start == "checkpoint" or "diverged" not in self.record.results[repeat.key]
        ]

    def _mended(self, trial: Trial, tails: list[Tail]) -> None:
        """Trains finalists again whose weights are needed and gone."""
        known = self.record.results
        needed = {tail.file for tail in tails if tail.start == "scratch" and tail.key not in known}
        gone = [
            each for each in self._repeats(trial) if each.file in needed and not self.directory.place.exists(each.file)
        ]
        self._trained("finalists, whose weights are gone,", gone, anew=True)

    def _trained(self, what: str, jobs: list[Any], *, anew: bool = False) -> dict[str, Result]:
        """Of every job its result, by key."""
        left = [job for job in jobs if anew or job.key not in self.record.results]
        ended = len(jobs) - len(left)

        def done(job: Job, result: Result) -> None:
            nonlocal ended
            ended += 1
            try:
                self.record.note_result(job.key, result)
                self.directory.publish(self.directory.journal)
            except OSError as error:
                raise StorageError(f"{self.directory.place.uri} can no longer be written: {error}") from None
            self._say(f"{what} {ended}/{len(jobs)}: {job.told(result, self.experiment.search.metric)}")

        if left:
            self._run(left, done)
        return self.record.results

    def tidy(self, winner: Winner) -> None:
        """Deletes the weights of finalists that did not win."""
        place = self.directory.place
        kept = {f"{FINALISTS}/{name}" for name in place.list(FINALISTS)} & {r.file for r in self._repeats(winner.trial)}
        for name in place.list(FINALISTS):
            if f"{FINALISTS}/{name}" not in kept:
                place.delete(f"{FINALISTS}/{name}")

    def _write(self, winner: Winner, count: int) -> None:
        search = self.experiment.search
        best = winner.trial.best_kept(search.maximize)
        assert best is not None, "a winner has a value"
        record: dict[str, Any] = {
            "trial": winner.trial.number,
            "hparams": winner.trial.hparams,
            "epoch": best[0],
            search.metric: best[1],
            **objectives.best_figures(search, winner.trial, kept=True),
            "why": winner.why(count, search),
            "checkpoint": winner.trial.checkpoints[best[0]],
            "retrain": {
                "start": winner.way.start,
                "lr_schedule": winner.way.lr_schedule,
                "average": winner.way.average,
            },
            "finalists": [_finalist_record(each, search.maximize) for each in winner.finalists],
            "evidence": [_evidence_record(row) for row in winner.evidence],
        }
        to_yaml(record, self.directory.winner)
        self.directory.publish(self.directory.winner)


def _figures(measured: dict[str, float] | None, metric: str) -> tuple[float, float]:
    """(metric, loss), not numbers where the training diverged."""
    return (measured[metric], measured["val_loss"]) if measured else (float("nan"), float("nan"))


def _finalist_record(each: Finalist, maximize: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"trial": each.trial.number, "search": each.score, "values": list(each.values)}
    if each.values:
        told |= {"mean": each.mean, "drop": each.drop(maximize)}
    if each.interval:
        told["interval"] = list(each.interval)
    return told | ({"diverged": each.diverged} if each.diverged else {})


def _evidence_record(row: Evidence) -> dict[str, Any]:
    way = {"start": row.way.start, "lr_schedule": row.way.lr_schedule, "average": row.way.average}
    return {**way, "values": list(row.values), "losses": list(row.losses)}
