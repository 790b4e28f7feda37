"""The conductor: which trial gets the next free slot, which one stops, and when the search is over. Knows no Ray.

Everything it decides by is written to the study first, so that a conductor made from the study of a killed search
decides as that one would have.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

from tune.checkpoints import Checkpoints
from tune.limits import Limits
from tune.objectives import in_order
from tune.population import Exchange, exchange, is_past, perturbed, standing_at
from tune.proposals import Proposals
from tune.rungs import Rungs
from tune.spec import Experiment
from tune.stopping import make_rule
from tune.storage import Storage
from tune.study import StudyRecord
from tune.trials import DEAD, ENDED, TRIALS, Start, State, Trial

Finished = Literal["finished"]


class Conductor:
    """Is asked and told by Ray Tune's searcher, scheduler and callback.

    place: the experiment's directory. slots: how many trials fit at once now. told: hears every change of a trial.
    `trouble` is the error that ended the search where the study or the storage could not be written.
    """

    def __init__(
        self,
        experiment: Experiment,
        record: StudyRecord,
        place: Storage,
        slots: Callable[[], int],
        told: Callable[[Trial], None],
    ) -> None:
        self.experiment, self.record, self.slots, self.told = experiment, record, slots, told
        search, scheduler = experiment.search, experiment.scheduler
        self.rule = make_rule(scheduler, search)
        self._rungs = self.rule if scheduler.promotes and isinstance(self.rule, Rungs) else None
        # a failed trial may run again; in the place of a diverged one another is promoted
        self._no_peers = DEAD if self._rungs else frozenset[State]({"failed"})
        self.pauses = scheduler.pauses
        self.live: dict[int, float] = {}  # number -> when it was last heard of
        self.interrupted = False
        self.trouble: Exception | None = None
        self.first_traceback = ""
        self._outcome: dict[int, tuple[State, str]] = {}  # of trials that were told to stop
        self._reported: dict[int, int] = {}  # the epoch a trial reported last
        self._seconds_before: dict[int, tuple[float, float]] = {}  # of each live trial, and busy ones, before
        self._hung: set[int] = set()
        self._at_rungs: dict[int, int] = {}  # number -> rung, of the trials that wait at one
        known = record.trials()
        self.trials = {trial.number: trial for trial in known if trial.begun}
        ahead = next((trial for trial in known if not trial.begun), None)
        self.proposals = Proposals(experiment, record, self.trials, ahead)
        self.waiting = deque(trial for trial in self.trials.values() if trial.state == "paused")
        self.limits = Limits(search, record.elapsed)
        self.limits.recall(self.trials.values())
        self._new = {number for number, trial in self.trials.items() if trial.epochs not in (0, *trial.saved_at)}
        self.checkpoints = Checkpoints(
            place, experiment.kept_checkpoints, maximize=search.maximize, in_order=partial(in_order, search)
        )
        self.checkpoints.recall(self.trials.values())
        self._recall()

    def _recall(self) -> None:
        """Builds the rungs again from the study's values, and decides what a kill left undecided."""
        for trial in self.trials.values():
            for epoch, value in trial.values.items():
                if trial.state in ENDED or epoch in trial.judged or epoch < trial.epochs:
                    self.rule.record(trial.number, epoch, value)
            if trial.state in self._no_peers:
                self.rule.forget(trial.number)
        for trial in [trial for trial in self.waiting if trial.parent and not trial.checkpoints]:
            self.waiting.remove(trial)  # born in an exchange that was interrupted, and will be done again
        for trial in [trial for trial in self.waiting if trial.values]:
            epoch = trial.epochs
            self._judge(trial, epoch)
            state, reason = self._outcome.pop(trial.number, ("completed", ""))
            if epoch not in trial.checkpoints:
                continue  # that epoch is trained again
            if state == "paused":
                self.waiting.remove(trial)
            elif state == "stopped" or epoch >= self.experiment.scheduler.max_epochs:
                self.waiting.remove(trial)
                self._end(trial, state, reason)
        self._at_rungs = {number: trial.epochs for number, trial in self.trials.items() if self._at_rung(trial)}
        self._end_hopeless()

    # -- what runs next

    @property
    def over(self) -> str:
        """Why the search ends before its last trial; empty while it does not."""
        if self.trouble:
            return f"the experiment directory can no longer be written: {self.trouble}"
        return self.limits.reason

    @property
    def has_work(self) -> bool:
        """Whether there is anything left to train."""
        if self.over:
            return False
        return self.proposals.left or bool(self.waiting or self._at_rungs)

    def next(self) -> Start | Finished | None:
        """The trial for a free slot; None if there is no slot, or nothing to do until a running trial says more."""
        if not self.over and len(self.live) >= self.slots():
            # Ray Tune asks again as soon as a trial has its slot, before it tells of any result: so the study that the
            # sampler sees is the same one whether or not the search is killed or interrupted in between. Not before
            # that: the trial would wait for the proposal.
            if not self.pending:
                with self._guarded():
                    self.proposals.look_ahead()
            return None
        if self.over or self.interrupted:
            return None if self.live else "finished"
        if self.makes_room:
            return None
        with self._guarded():
            if trial := self._choose():
                return self._start(trial)
        return None if self.live else "finished"

    @property
    def pending(self) -> list[int]:
        """The trials that were started and have no slot yet."""
        return [number for number, heard in self.live.items() if heard == math.inf]

    @property
    def makes_room(self) -> bool:
        """Whether a trial waits for a whole GPU, which others that begin meanwhile would go on sharing."""
        return any(self.trials[number].alone for number in self.pending)

    def _choose(self) -> Trial | None:
        if self.experiment.scheduler.type == "pbt":
            self._exchange()  # before any trial trains on: a kill may have left one half done
        if self.waiting:
            return self.waiting.popleft()
        if trial := self._promoted(finishing=False):
            return trial
        if self.proposals.left:
            return self.proposals.take()
        return None if self.live else self._promoted(finishing=True)

    def _promoted(self, *, finishing: bool) -> Trial | None:
        """The paused trial that goes on, if one may."""
        found = self._rungs.promotable(self._at_rungs, finishing=finishing) if self._rungs else None
        if found is None:
            return None
        number, verdict = found
        trial = self.trials[number]
        self._note_judged(trial, trial.epochs, str(verdict))
        return trial

    def _end_hopeless(self) -> None:
        """Ends the paused trials that will not go on, whatever comes: their checkpoints only take space."""
        if self._rungs is None:
            return
        trials = len(self.trials) + max(0, self.experiment.trials - self.proposals.made)
        for number, verdict in self._rungs.hopeless(self._at_rungs, trials):
            self._end(self.trials[number], "stopped", str(verdict))

    def _note_place(self, trial: Trial) -> None:
        """After each change of a trial: whether it waits at a rung."""
        if self._at_rung(trial):
            self._at_rungs[trial.number] = trial.epochs
        else:
            self._at_rungs.pop(trial.number, None)

    def _exchange(self) -> None:
        """At an epoch that all of a population have reached, copies of the best take the places of the worst.

        Done again after a kill, it does what was left to do: until it is done, none of them trains on.
        """
        search, scheduler = self.experiment.search, self.experiment.scheduler
        epoch = min(self._at_rungs.values(), default=None)
        if epoch is None or self.proposals.left:
            return
        members = standing_at(self.trials.values(), epoch)
        behind = [trial for trial in members if trial.state not in ENDED and trial.epochs <= epoch]
        if not all(trial.waits_after(epoch) for trial in behind):
            return
        plan = exchange(members, epoch, scheduler.quantile, search.seed, maximize=search.maximize)
        self._breed(plan)
        for number, words in plan.words.items():
            trial = self.trials[number]
            if number in self._at_rungs:
                self._note_judged(trial, epoch, words)
                if number in plan.copies:
                    self._end(trial, "stopped", words)
                else:
                    self.waiting.append(trial)
        self.waiting = deque(sorted(self.waiting, key=lambda trial: trial.number))  # as after a kill

    def _breed(self, plan: Exchange) -> None:
        """Gives each loser's line a new trial, with the donor's checkpoint; those that were born before stay."""
        born = {trial.instead_of: trial for trial in self.trials.values()}
        seed, epoch = self.experiment.search.seed, plan.epoch
        for loser, donor in plan.copies.items():
            source = self.trials[donor]
            if born[loser].attempts if loser in born else is_past(self.trials[loser], epoch):
                continue  # of an earlier session, which more trials have joined since
            if loser not in born:
                params = perturbed(self.experiment.space, source.hparams, f"{seed} {loser} {epoch}")
                if not self.record.is_enqueued(instead_of=loser):
                    self.record.enqueue(params, parent=[donor, epoch], instead_of=loser)
                born[loser] = self.proposals.take()
            child = born[loser]
            if not child.checkpoints:
                path = f"{TRIALS}/{child.number:05d}.0"
                self.checkpoints.copy(source, child, epoch, path)
                self._saved(child, epoch, path)
            if child not in self.waiting:
                self.waiting.append(child)

    def _at_rung(self, trial: Trial) -> bool:
        return self._pauses_at(trial, trial.epochs) and trial.waits_at(self.pauses)

    def _pauses_at(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial waits there for others. In a population, one that repeats a failed trial has no part."""
        return epoch in self.pauses and not (self.experiment.scheduler.type == "pbt" and trial.replaces is not None)

    def _start(self, trial: Trial) -> Start:
        self.record.note(trial.number, attempts=trial.attempts + 1)
        trial.attempts += 1
        trial.state = "running"
        self._note_place(trial)
        self.live[trial.number] = math.inf  # until it has its slot
        self._hung.discard(trial.number)
        self._seconds_before[trial.number] = (trial.seconds, trial.busy)
        usable = sorted(trial.checkpoints.items(), reverse=True)
        return Start(trial, tuple(usable))

    # -- what happened

    def started(self, number: int) -> None:
        """A trial got its slot."""
        self.live[number] = time.monotonic()
        self.told(self.trials[number])

    def result(
        self,
        number: int,
        epoch: int,
        value: float,
        seconds: float,
        busy: float = 0.0,
        broken: str = "",
        figures: Mapping[str, float] | None = None,
    ) -> bool:
        """A trial's value after an epoch; whether it is to stop.

        seconds: of this attempt so far; busy: of them, spent in training. broken: what was no number, in words.
        figures: of several objectives each, by name.
        """
        trial = self.trials[number]
        self.live[number] = time.monotonic()
        self._hung.discard(number)
        self._reported[number] = epoch
        before = self._seconds_before.get(number, (0.0, 0.0))
        trial.seconds, trial.busy = before[0] + seconds, before[1] + busy
        if number in self._outcome:
            return True
        with self._guarded():
            if broken:
                self._outcome[number] = ("diverged", broken)
                return True
            if epoch not in trial.values:
                self.record.report(number, epoch, value, figures)
                trial.values[epoch] = value
                trial.figures |= {epoch: dict(figures)} if figures else {}
                self._new.add(number)
            self._judge(trial, epoch)
            if self.interrupted and epoch < self.experiment.scheduler.max_epochs:
                self._outcome.setdefault(number, ("paused", ""))
        self.told(trial)
        return number in self._outcome or self.trouble is not None

    def _judge(self, trial: Trial, epoch: int) -> None:
        """Decides whether a trial goes on, unless that has been decided: an epoch may be trained twice."""
        if epoch not in trial.judged:
            if self._pauses_at(trial, epoch):
                self.rule.record(trial.number, epoch, trial.values[epoch])
                self._outcome[trial.number] = ("paused", "")
            elif decision := self.rule.judge(trial.number, epoch, trial.values[epoch]):
                self._note_judged(trial, epoch, str(decision))
        if (words := trial.judged.get(epoch, "")).startswith("stopped"):
            self._outcome[trial.number] = ("stopped", words)

    def _note_judged(self, trial: Trial, epoch: int, words: str) -> None:
        trial.judged[epoch] = words
        self._note_place(trial)
        self.record.note(trial.number, **{f"rung {epoch}": words})

    def checkpointed(self, number: int, path: str) -> None:
        """The checkpoint of a trial's latest epoch is whole in the storage."""
        trial = self.trials[number]
        epoch = self._reported[number]
        outcome, _ = self._outcome.get(number, (None, ""))
        if outcome == "diverged" or epoch not in trial.values:  # which then could not be recorded
            self.checkpoints.discard(path)
            return
        with self._guarded():
            self._saved(trial, epoch, path)
            trial.checkpoints[epoch] = path
            self.limits.trained(trial, int(number in self._new))
            self._new.discard(number)
            self.checkpoints.added(trial)

    def ended(self, number: int) -> None:
        """A trial left its slot, by itself or because it was told to."""
        trial = self.trials[number]
        self.live.pop(number, None)
        state, reason = self._outcome.pop(number, ("completed", ""))
        if state == "paused":
            trial.state = "paused"
            self._note_place(trial)
            self.told(trial)
            self._end_hopeless()
            return
        self._end(trial, state, reason)

    def withdrawn(self, number: int) -> None:
        """A trial that has no slot yet is not going to get one: the search was interrupted."""
        self._outcome[number] = ("paused", "")

    def lost(self, number: int, reason: str, *, counts: bool = True) -> None:
        """A trial's process or node was lost: it goes on from its checkpoint, `max_retries` times at most."""
        trial = self.trials[number]
        self.live.pop(number, None)
        if number in self._outcome:  # it had been told to stop already
            self.ended(number)
            if trial.state == "paused" and not trial.waits_after(trial.epochs):
                self.waiting.append(trial)  # that epoch is trained again
            return
        if number in self._hung:
            self._hung.discard(number)
            reason = f"it reported nothing for {self.experiment.search.trial_timeout:g} s (search.trial_timeout)"
        trial.lost += counts
        with self._guarded():
            self.record.note(number, lost=trial.lost)
        if trial.lost > self.experiment.search.max_retries:
            times = "once" if trial.lost == 1 else f"{trial.lost} times, the last time"
            self._end(trial, "failed", f"lost {times}: {reason}")
            self.limits.failed(self.trials.values())
            return
        self._wait(trial)

    def _wait(self, trial: Trial) -> None:
        """For the next free slot."""
        trial.state = "paused"
        self._note_place(trial)
        self.told(trial)
        self.waiting.append(trial)

    def failed(self, number: int, reason: str, traceback: str = "", *, users_mistake: bool = False) -> None:
        """A trial raised an error, which would come again."""
        trial = self.trials[number]
        self.live.pop(number, None)
        self._outcome.pop(number, None)
        trial.users_mistake = users_mistake
        self.first_traceback = self.first_traceback or traceback
        self._end(trial, "failed", reason)
        self.limits.failed(self.trials.values())

    def crowded_out(self, number: int) -> None:
        """A trial that shared its GPU had no memory left: it goes on from its checkpoint, on a GPU of its own."""
        trial = self.trials[number]
        trial.alone = True
        with self._guarded():
            self.record.note(number, alone=True)
        self.live.pop(number, None)
        self._outcome.pop(number, None)
        self._wait(trial)

    def overdue(self) -> list[int]:
        """Trials that have said nothing for longer than `trial_timeout`; each is told once."""
        timeout = self.experiment.search.trial_timeout
        if timeout is None:
            return []
        late = [number for number, heard in self.live.items() if time.monotonic() - heard > timeout]
        new = [number for number in late if number not in self._hung]
        self._hung.update(new)
        return new

    def interrupt(self) -> None:
        """No more trials are started; the running ones end their epoch, save it, and pause."""
        self.interrupted = True

    def close(self) -> None:
        """The search is over: what did not end is stopped, unless the search is to be resumed."""
        with self._guarded():
            self.record.elapsed = self.limits.elapsed
            self.record.ended_because = self.limits.reason
        for number in list(self.live):
            del self.live[number]
            self.trials[number].state = "paused"
        if self.interrupted or self.trouble:
            return
        with self._guarded():
            self.proposals.close()
        for trial in [trial for trial in self.trials.values() if trial.state == "paused"]:
            outcome = self._outcome.pop(trial.number, None)
            if outcome and outcome[0] != "paused":  # Ray ended the search before the trial left
                self._end(trial, *outcome)
            elif trial.waits_after(self.experiment.scheduler.max_epochs):
                self._end(trial, "completed")
            elif self._rungs and not self.over and trial.epochs in self.pauses:
                self._end(trial, "stopped", str(self._rungs.standing(trial.number, trial.epochs)))
            else:
                self._end(trial, "stopped", self.over)

    def _end(self, trial: Trial, state: State, reason: str = "") -> None:
        trial.state, trial.reason, trial.ended_at = state, reason, self.limits.elapsed
        self._note_place(trial)
        if state in self._no_peers:
            self.rule.forget(trial.number)
        with self._guarded():
            self.record.end(trial)
            self.limits.ended(trial)
            self.checkpoints.ended(trial)
        self.told(trial)

    def _saved(self, trial: Trial, epoch: int, path: str) -> None:
        """Records that the checkpoint of an epoch is whole, and the seconds of the trial and of the search by then."""
        at = trial.saved_at[epoch] = round(self.limits.elapsed, 3)
        told = {"checkpoint": path, "seconds": round(trial.seconds, 3), "busy": round(trial.busy, 3), "elapsed": at}
        self.record.note(trial.number, **{f"epoch {epoch}": told})

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A study or storage that cannot be written ends the search, without an error in Ray's own loop."""
        try:
            yield
        except OSError as error:
            self.trouble = self.trouble or error
