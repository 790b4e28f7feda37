"""New trials: the next ones are proposed before a slot is free, so that no slot waits for the sampler.

One at a time where there are few slots. Of many slots several come free together, each of which would wait for all the
proposals before its own.
"""

from collections import deque
from collections.abc import Iterable

from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trials import Trial

_SLOTS_EACH = 8  # for each trial that is proposed ahead


class Proposals:
    """What is left to propose of an experiment. begun: trials that were begun, by number; ahead: those that were not.

    A trial that was proposed ahead is in the study and nowhere else: nobody counts it before it begins.
    """

    def __init__(
        self, experiment: Experiment, record: StudyRecord, begun: dict[int, Trial], ahead: Iterable[Trial]
    ) -> None:
        self._experiment, self._record, self._begun, self._ahead = experiment, record, begun, deque(ahead)
        self.made = sum(map(_counts, begun.values()))  # the trials that count

    @property
    def left(self) -> int:
        """How many more there are, or at least 1."""
        more = max(0, self._experiment.trials - self.made)
        return more or int(self._record.is_enqueued(replaces=...))

    def take(self) -> Trial:
        """The next one, which begins."""
        trial = self._ahead.popleft() if self._ahead else self._record.propose(self._experiment.space)
        self._begun[trial.number] = trial
        self.made += _counts(trial)
        return trial

    def look_ahead(self, slots: int) -> None:
        """Proposes one more, if there is one to come whose values are not given already, and too few are ready."""
        ready = len(self._ahead)
        if ready and (ready >= slots // _SLOTS_EACH or self.made + ready >= self._experiment.trials):
            return
        if self.left and not self._record.is_enqueued():
            self._ahead.append(self._record.propose(self._experiment.space))

    def close(self) -> None:
        """The search is over: what did not begin never will."""
        while self._ahead:
            self._record.drop(self._ahead.popleft().number)


def _counts(trial: Trial) -> bool:
    """Neither one that repeats another, nor one that a population bred."""
    return trial.replaces is None and trial.parent is None
