"""The searcher: Optuna proposes HParams to Ray Tune, and the Optuna study is the one record of every trial."""

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from cifar.hparams import HParams
from tune.space import Space
from tune.spec import SearchConfig
from tune.trials import State, Trial

# What the study calls a trial that ended so.
_STUDY_STATES: dict[State, TrialState] = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


def make_sampler(search: SearchConfig) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of that name.

    TPE is univariate and without the constant liar (Optuna 4's defaults): beside early stopping, Optuna 5's own
    defaults stall on trials that were stopped at different lengths.
    """
    match search.sampler:
        case "tpe":
            startup = max(5, min(20, search.trials // 3))
            return optuna.samplers.TPESampler(
                n_startup_trials=startup, multivariate=False, constant_liar=False, seed=search.seed
            )
        case "random":
            return optuna.samplers.RandomSampler(seed=search.seed)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # a parameter that only some trials have is drawn at random
                return optuna.samplers.QMCSampler(seed=search.seed, warn_independent_sampling=False)


class StudyLog:
    """Writes what happens into an Optuna study, value by value."""

    def __init__(self, journal: Path, name: str, search: SearchConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            sampler=make_sampler(search),
            direction="maximize" if search.maximize else "minimize",
        )
        self.maximize = search.maximize
        self._running: dict[int, optuna.Trial] = {}

    def propose(self, space: Space) -> tuple[int, HParams]:
        """A new trial's number and HParams."""
        trial = self.study.ask()
        hparams = HParams(**space.draw(trial))
        trial.set_user_attr("hparams", hparams.model_dump())
        self._running[trial.number] = trial
        return trial.number, hparams

    def report(self, number: int, epoch: int, value: float) -> None:
        """A trial's value after `epoch`."""
        self._running[number].report(value, step=epoch)

    def unfinished(self) -> list[int]:
        """Numbers of the trials proposed whose end is not known."""
        return list(self._running)

    def withdraw(self, number: int) -> None:
        """A trial was proposed ahead of a free slot, and the search ended before it started."""
        mine = self._running.pop(number)
        mine.set_user_attr("reason", "never started")
        self.study.tell(mine, state=TrialState.FAIL)

    def end(self, trial: Trial) -> None:
        """A trial's end: state, reason, and of a completed one the best value, for which it may be chosen."""
        mine = self._running.pop(trial.number)
        if trial.reason:
            mine.set_user_attr("reason", trial.reason)
        mine.set_user_attr("state", trial.state)
        state = _STUDY_STATES[trial.state]
        best = trial.best(self.maximize)
        if state is TrialState.COMPLETE and best is not None:
            self.study.tell(mine, best[1], state)
        else:
            self.study.tell(mine, state=TrialState.FAIL if state is TrialState.COMPLETE else state)


class StudySearcher(Searcher):
    """Ray Tune's side of the study: gives each new trial `{"number": …, "hparams": {…}}`."""

    def __init__(self, log: StudyLog, space: Space, trials: int) -> None:
        super().__init__()
        self.log, self.space, self.trials = log, space, trials
        self._proposed = 0

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; this one is not restored."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial, or that there is none."""
        if self._proposed >= self.trials:
            return Searcher.FINISHED
        self._proposed += 1
        number, hparams = self.log.propose(self.space)
        return {"number": number, "hparams": hparams.model_dump()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the study hears of an end from the search's recorder, which knows the reason."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk."""
        Path(checkpoint_path).write_text("the state is in study.journal\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
