"""New trials: the next one is proposed before a slot is free, so that no slot waits for the sampler."""

from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trials import Trial


class Proposals:
    """What is left to propose of an experiment. begun: the trials that were begun, by number; ahead: one that was not.

    A trial that was proposed ahead is in the study and nowhere else: nobody counts it before it begins.
    """

    def __init__(
        self, experiment: Experiment, record: StudyRecord, begun: dict[int, Trial], ahead: Trial | None
    ) -> None:
        self._experiment, self._record, self._begun, self._ahead = experiment, record, begun, ahead
        self.made = sum(map(_counts, begun.values()))  # the trials that count

    @property
    def left(self) -> int:
        """How many more there are, or at least 1."""
        more = max(0, self._experiment.trials - self.made)
        return more or int(self._record.is_enqueued(replaces=...))

    def take(self) -> Trial:
        """The next one, which begins."""
        trial, self._ahead = self._ahead or self._record.propose(self._experiment.space), None
        self._begun[trial.number] = trial
        self.made += _counts(trial)
        return trial

    def look_ahead(self) -> None:
        """Proposes the next one, if there is one to come whose values are not given already."""
        if self._ahead is None and self.left and not self._record.is_enqueued():
            self._ahead = self._record.propose(self._experiment.space)

    def close(self) -> None:
        """The search is over: what did not begin never will."""
        if self._ahead is not None:
            self._record.drop(self._ahead.number)
            self._ahead = None


def _counts(trial: Trial) -> bool:
    """Neither one that repeats another, nor one that a population bred."""
    return trial.replaces is None and trial.parent is None
