"""What ends a search before its last trial: time, epochs, a target, or no more progress. Pure but for the clock."""

import time
from collections.abc import Collection, Iterable
from dataclasses import replace

from tune.sections import SearchConfig
from tune.trials import Trial

ALIKE = 3  # trials that fail the same way at the beginning, after which the rest would too


class Limits:
    """Hears of every epoch and of every end. `reason` says in words which limit was reached, and is empty before."""

    def __init__(self, search: SearchConfig, elapsed: float) -> None:
        """elapsed: seconds that earlier sessions of the same search took."""
        self.search = search
        self._began = time.monotonic() - elapsed
        self._reason = ""
        self._best: float | None = None
        self._best_trial = -1
        self._epochs = 0
        self._since = 0  # ended trials since the last improvement

    @property
    def elapsed(self) -> float:
        """Seconds of the search, in all its sessions."""
        return time.monotonic() - self._began

    @property
    def without_improvement(self) -> int:
        """How many trials have ended since the best value improved, as `search.patience` counts them."""
        return self._since

    @property
    def reason(self) -> str:
        """Why the search is over."""
        self._reason = self._reason or self.spent
        return self._reason

    @reason.setter
    def reason(self, words: str) -> None:
        self._reason = self._reason or words

    @property
    def spent(self) -> str:
        """Which budget, of time or epochs, is used up."""
        budget = self.search.time_budget_s
        if budget is not None and self.elapsed > budget:
            return f"the search's {budget:g} s were up (search.time_budget_s)"
        return self._epochs_spent

    @property
    def _epochs_spent(self) -> str:
        budget = self.search.epoch_budget
        reached = budget is not None and self._epochs >= budget
        return f"the search's {budget} epochs were trained (search.epoch_budget)" if reached else ""

    def audited(self, epochs: int) -> None:
        """So many epochs were trained beyond the search, and are saved."""
        self._epochs += epochs

    def recall(self, trials: Iterable[Trial]) -> None:
        """Hears again, in its order, what earlier sessions recorded."""
        events = []
        for trial in trials:
            own = {epoch: at for epoch, at in trial.saved_at.items() if not trial.parent or epoch > trial.parent[1]}
            events += [(at, 0, trial.number, epoch, trial) for epoch, at in own.items()]
            if trial.ended_at is not None:
                events.append((trial.ended_at, 1, trial.number, 0, trial))
        for _, is_end, _, epoch, trial in sorted(events, key=lambda event: event[:4]):
            if is_end:
                self.ended(trial)
            else:
                until = {before: value for before, value in trial.values.items() if before <= epoch}
                self.trained(replace(trial, values=until), 1)

    def trained(self, trial: Trial, epochs: int) -> None:
        """`trial` has finished so many more epochs, which are saved."""
        search = self.search
        self._epochs += epochs
        best = trial.best(search.maximize)
        if search.target is not None and best and self._better(best[1], search.target, orequal=True):
            reached = f"trial {trial.number} reached {search.metric} {best[1]:.4g}"
            self.reason = f"{reached} (search.target {search.target:g})"
        self._improved(trial)
        self.reason = self._epochs_spent

    def ended(self, trial: Trial) -> None:
        """A trial ended."""
        search = self.search
        self._improved(trial)
        self._since = 0 if trial.number == self._best_trial else self._since + 1
        if search.patience is not None and self._since >= search.patience:
            by = f" by more than {search.min_improvement:g}" if search.min_improvement else ""
            self.reason = (
                f"{self._since} trial{'s' * (self._since != 1)} did not improve {search.metric}{by} (search.patience)"
            )

    def _improved(self, trial: Trial) -> None:
        best = trial.best(self.search.maximize)
        margin = self.search.min_improvement if self.search.maximize else -self.search.min_improvement
        if best and (self._best is None or self._better(best[1], self._best + margin)):
            self._best, self._best_trial, self._since = best[1], trial.number, 0

    def failed(self, trials: Collection[Trial]) -> None:
        """A trial failed. If all did so alike, and none that runs has got further, the rest would too."""
        failed = [trial for trial in trials if trial.state == "failed"]
        furthest = max(trial.epochs for trial in failed)
        others = [trial for trial in trials if trial.state != "failed"]
        hopeful = [trial for trial in others if trial.state != "running" or trial.epochs > furthest]
        if len(failed) >= ALIKE and len({trial.reason for trial in failed}) == 1 and not hopeful:
            self.reason = f"the first {ALIKE} trials failed alike ({failed[0].reason})"

    def _better(self, value: float, than: float, *, orequal: bool = False) -> bool:
        if orequal and value == than:
            return True
        return value > than if self.search.maximize else value < than
