"""The Optuna study: the one record of every trial, value by value, from which an interrupted search goes on."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from cifar.hparams import HParams
from tune.noted import AUDIT, DROPPED, FIGURES, FROM, RESULT, VALUE, Noted, dropped, own_trials, trial_of, values_of
from tune.objectives import figures as figures_of
from tune.sections import Objective
from tune.space import Space
from tune.study_storage import taken, together
from tune.trials import State, Trial

# What the study calls a trial that ended so.
_STUDY_STATES: dict[State, TrialState] = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


class StudyRecord:
    """One experiment's study. Every method that writes raises OSError if it cannot be written.

    maximize: the metric. objectives: where there are several, the metric among them.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        sampler: BaseSampler,
        *,
        maximize: bool,
        resume: bool,
        objectives: Sequence[Objective] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.maximize, self.objectives = maximize, objectives
        better = [each.maximize for each in objectives] or [maximize]
        try:
            with _as_os_error():
                self.study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    sampler=sampler,
                    directions=["maximize" if highest else "minimize" for highest in better],
                    load_if_exists=resume,
                )
                self._name_objectives()
        except DuplicatedStudyError:
            raise taken(name) from None
        self._handles: dict[int, optuna.Trial] = {}

    def _name_objectives(self) -> None:
        """For those who look at the study elsewhere."""
        names: list[str] = [each.metric for each in self.objectives]
        if names and self.study.metric_names != names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names(names)

    def trials(self) -> list[Trial]:
        """Every trial that was proposed here and not dropped, as the study knows it; one without an end is paused."""
        return own_trials(self.study.get_trials(deepcopy=False), self.study.user_attrs)

    def ended(self) -> list[int]:
        """Numbers of the trials that ended, in the order of their ends."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.datetime_complete]
        ended = [trial for trial in ended if FROM not in trial.user_attrs and not dropped(trial)]
        return [trial.number for trial in sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))]

    def mend(self, space: Space) -> None:
        """Draws what is missing of trials whose proposal was interrupted."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "hparams" not in trial.user_attrs:
                self._draw(optuna.Trial(self.study, trial._trial_id), space)

    def propose(self, space: Space) -> Trial:
        """A new trial: the first of those enqueued, else as the sampler says."""
        with _as_os_error():
            return self._draw(self.study.ask(), space)

    def _draw(self, handle: optuna.Trial, space: Space) -> Trial:
        _ = handle.relative_params  # which the sampler reckons; no lock is held meanwhile
        with self._written():
            hparams = HParams(**space.draw(handle)).model_dump()
            handle.set_user_attr("hparams", hparams)
        self._handles[handle.number] = handle
        return trial_of(self.study._storage.get_trial(handle._trial_id))

    def enqueue(self, params: Mapping[str, Any], **attributes: Any) -> None:
        """Puts a point, whole or in part, before what the sampler would propose."""
        with _as_os_error():
            self.study.enqueue_trial(dict(params), user_attrs=attributes)

    def teach(self, trial: FrozenTrial) -> None:
        """Adds a trial of an earlier experiment, for the sampler alone."""
        with _as_os_error():
            self.study.add_trial(trial)

    def learned_from(self, source: str) -> set[int]:
        """Numbers of the trials of the earlier experiment `source` that were added."""
        added = [trial.user_attrs[FROM] for trial in self.study.get_trials(deepcopy=False) if FROM in trial.user_attrs]
        return {number for name, number in added if name == source}

    def plan(self, points: list[dict[str, Any]]) -> None:
        """Enqueues points to begin with, those left out that an earlier session enqueued."""
        trials = self.study.get_trials(deepcopy=False)
        planned = sum(1 for trial in trials if "start" in trial.user_attrs)
        for index, point in list(enumerate(points))[planned:]:
            self.enqueue(point, start=index)

    def repeat_failed(self) -> int:
        """Enqueues the trials that gave nothing and that no other trial repeats. Returns how many.

        Those that failed, and those that were stopped before their first value, since too many failed.
        """
        trials = self.study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get("replaces") for trial in trials}
        states = {trial.number: trial.user_attrs.get("state") for trial in trials if trial.number not in repeated}
        failed = [
            trial
            for trial in trials
            if states.get(trial.number) == "failed" or (states.get(trial.number) == "stopped" and not values_of(trial))
        ]
        for trial in failed:
            self.enqueue(trial.params, replaces=trial.number)
        return len(failed)

    def is_enqueued(self, **attributes: Any) -> bool:
        """Whether a point waits that has these attributes; ... stands for any value."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any(
            all(
                name in trial.user_attrs and value in (..., trial.user_attrs[name])
                for name, value in attributes.items()
            )
            for trial in waiting
        )

    def drop(self, number: int) -> None:
        """Ends a trial that was proposed and will not be begun; nobody counts it."""
        with self._written():
            self.note(number, state=DROPPED)
            self.study.tell(self._handle(number), state=TrialState.FAIL)

    def report(self, number: int, epoch: int, value: float, figures: Mapping[str, float] | None = None) -> None:
        """A trial's finite value after `epoch`; figures: of several objectives each, by name."""
        if self.objectives:  # the value last: where it is, the epoch is whole
            self.note(number, **{f"{FIGURES} {epoch}": dict(figures or {}), f"{VALUE} {epoch}": value})
            return
        with _as_os_error():
            self._handle(number).report(value, step=epoch)

    def note(self, number: int, **attributes: Any) -> None:
        """Attributes of a trial, by name."""
        with self._written():
            for name, value in attributes.items():
                self._handle(number).set_user_attr(name, value)

    def note_audit(self, number: int, **attributes: Any) -> None:
        """Attributes of a trial's audit, by name, as `note` writes those of trials; nothing else looks at them."""
        with self._written():
            for name, value in attributes.items():
                self.study.set_user_attr(f"{AUDIT} {number} {name}", value)

    def end(self, trial: Trial) -> None:
        """A trial's end: state, reason, and of a completed one the best value, for which it may be chosen.

        Of several objectives, what it has of each at the best epoch of the metric.
        """
        told = {"state": trial.state, "reason": trial.reason, "seconds": trial.seconds, "elapsed": trial.ended_at}
        state, best = _STUDY_STATES[trial.state], trial.best(self.maximize)
        values = [best[1]] if best else []
        if best and self.objectives:
            values = list(figures_of(self.objectives, trial, best[0]).values())
        if state is TrialState.COMPLETE and not values:
            state = TrialState.FAIL
        with self._written():
            self.note(trial.number, **told)
            self.study.tell(self._handle(trial.number), values if state is TrialState.COMPLETE else None, state)
        self._handles.pop(trial.number, None)

    @property
    def _noted(self) -> Noted:
        return Noted(self.study.user_attrs)

    @property
    def elapsed(self) -> float:
        """Seconds that the search has run, in all its sessions."""
        return self._noted.elapsed(self.trials())

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        with _as_os_error():
            self.study.set_user_attr("elapsed_s", round(seconds, 3))

    @property
    def retrain_seconds(self) -> float:
        """Seconds that the retrain of the winner took, in whichever session."""
        return self._noted.retrain_seconds

    @retrain_seconds.setter
    def retrain_seconds(self, seconds: float) -> None:
        with _as_os_error():
            self.study.set_user_attr("retrain_s", round(seconds, 3))

    @property
    def slots(self) -> int | None:
        """How many trials fitted at once, when that was looked at last."""
        return self._noted.slots

    @slots.setter
    def slots(self, count: int) -> None:
        self.resized(count, self.elapsed)

    def resized(self, slots: int, elapsed: float) -> None:
        """So many trials fit at once, since so many seconds of the search."""
        noted = self._noted
        with _as_os_error():
            if noted.slots:
                self.study.set_user_attr("slot_s", [round(noted.slot_seconds(elapsed), 3), round(elapsed, 3)])
            self.study.set_user_attr("slots", slots)

    @property
    def test_readings(self) -> dict[str, Any]:
        """What `tune.ledger.seal` gave after the last reading of the test set; empty before the first."""
        return dict(self.study.user_attrs.get("test_readings", {}))

    @test_readings.setter
    def test_readings(self, sealed: dict[str, Any]) -> None:
        with _as_os_error():
            self.study.set_user_attr("test_readings", sealed)

    @property
    def results(self) -> dict[str, Any]:
        """What the trainings of the last mile gave, by the key that each was noted under."""
        return self._noted.results

    def note_result(self, key: str, result: dict[str, Any]) -> None:
        """The result of one of them."""
        with _as_os_error():
            self.study.set_user_attr(f"{RESULT}{key}", result)

    @property
    def ended_because(self) -> str:
        """Which limit ended the search before its last trial; empty where none did."""
        return self._noted.ended_because

    @ended_because.setter
    def ended_because(self, reason: str) -> None:
        with _as_os_error():
            self.study.set_user_attr("ended_because", reason)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """What is written inside is written together."""
        with _as_os_error(), together(self.study._storage):
            yield

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._handles:
            trial_id = self.study.get_trials(deepcopy=False)[number]._trial_id
            self._handles[number] = optuna.Trial(self.study, trial_id)
        return self._handles[number]


@contextmanager
def _as_os_error() -> Iterator[None]:
    """A database that cannot be written is the same trouble as a disk that cannot be written."""
    try:
        yield
    except StorageInternalError as error:
        raise OSError(str(error.__cause__ or error).strip().splitlines()[0]) from error
    except RuntimeError as error:  # Optuna's lock, whose file is no longer where it was
        if not isinstance(error.__context__, OSError):
            raise
        raise error.__context__ from None
