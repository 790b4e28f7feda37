"""The exchanges of a population, carried out: each is done again after a kill, as far as it was not done."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping

from tune.checkpoints import Checkpoints
from tune.population import Exchange, exchange, is_past, perturbed, standing_at
from tune.proposals import Proposals
from tune.spec import Experiment
from tune.study import StudyRecord
from tune.trials import ENDED, TRIALS, Trial


class Breeding:
    """saved: records a checkpoint that a trial was given: trial, epoch, path."""

    def __init__(
        self,
        experiment: Experiment,
        record: StudyRecord,
        trials: dict[int, Trial],
        proposals: Proposals,
        checkpoints: Checkpoints,
        saved: Callable[[Trial, int, str], None],
    ) -> None:
        self._experiment, self._record, self._trials = experiment, record, trials
        self._proposals, self._checkpoints, self._saved = proposals, checkpoints, saved

    def exchange(self, at_rungs: Mapping[int, int], waiting: deque[Trial]) -> Iterator[tuple[Trial, int, str, bool]]:
        """Of each trial that takes part: the epoch, why it goes on or not, and whether a copy takes its place.

        The copies, and those that go on, are put among those `waiting` for a slot; at_rungs: those that pause.
        """
        plan = self._due(at_rungs)
        if plan is None:
            return
        waiting.extend(child for child in self._born(plan) if child not in waiting)
        for trial in [self._trials[number] for number in plan.words if number in at_rungs]:
            replaced = trial.number in plan.copies
            yield trial, plan.epoch, plan.words[trial.number], replaced
            if not replaced:
                waiting.append(trial)
        ordered = sorted(waiting, key=lambda trial: trial.number)  # as after a kill
        waiting.clear()
        waiting.extend(ordered)

    def _due(self, at_rungs: Mapping[int, int]) -> Exchange | None:
        """What happens now, at an epoch that all of the population have reached; None before."""
        search, scheduler = self._experiment.search, self._experiment.scheduler
        epoch = min(at_rungs.values(), default=None)
        if scheduler.type != "pbt" or epoch is None or self._proposals.left:
            return None
        members = standing_at(self._trials.values(), epoch)
        behind = [trial for trial in members if trial.state not in ENDED and trial.epochs <= epoch]
        if not all(trial.waits_after(epoch) for trial in behind):
            return None
        return exchange(members, epoch, scheduler.quantile, search.seed, maximize=search.maximize)

    def _born(self, plan: Exchange) -> Iterator[Trial]:
        """The new trial in each loser's line, with the donor's checkpoint; those that were born before stay."""
        born = {trial.instead_of: trial for trial in self._trials.values()}
        seed, epoch = self._experiment.search.seed, plan.epoch
        for loser, donor in plan.copies.items():
            source = self._trials[donor]
            if born[loser].attempts if loser in born else is_past(self._trials[loser], epoch):
                continue  # of an earlier session, which more trials have joined since
            if loser not in born:
                params = perturbed(self._experiment.space, source.hparams, f"{seed} {loser} {epoch}")
                if not self._record.is_enqueued(instead_of=loser):
                    self._record.enqueue(params, parent=[donor, epoch], instead_of=loser)
                born[loser] = self._proposals.take()
            child = born[loser]
            if not child.checkpoints:
                path = f"{TRIALS}/{child.number:05d}.0"
                self._checkpoints.copy(source, child, epoch, path)
                self._saved(child, epoch, path)
            yield child
