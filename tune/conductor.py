"""The conductor: which trial gets the next free slot, which one stops, and when the search is over. Knows no Ray.

Everything it decides by is written to the study first, so that a conductor made from the study of a killed search
decides as that one would have.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from tune.at_rungs import AtRungs
from tune.audit import Audits, or_audit
from tune.breeding import Breeding
from tune.checkpoints import checkpoints_of
from tune.limits import Limits
from tune.proposals import Proposals
from tune.rungs import Rungs
from tune.slots import Slots
from tune.spec import Experiment
from tune.stopping import make_rule, recall
from tune.storage import Storage
from tune.study import StudyRecord
from tune.trials import DEAD, Report, Start, State, Trial

Finished = Literal["finished"]
_MOVES = "its node leaves"  # why a trial pauses that goes on as soon as there is another slot


class Conductor:
    """Is asked and told by Ray Tune's searcher, scheduler and callback.

    place: the experiment's directory. slots: how many trials fit at once now. told: hears every change of a trial;
    say: a line where an audit begins or ends; audited: every change of a trial's audit. alone: slots of a trial with a
    GPU to itself. `trouble` is the error that ended the search where study or storage could not be written.
    """

    def __init__(
        self,
        experiment: Experiment,
        record: StudyRecord,
        place: Storage,
        slots: Callable[[], int],
        told: Callable[[Trial], None],
        say: Callable[[str], None] = lambda line: None,
        audited: Callable[[Trial], None] = lambda trial: None,
        alone: int = 1,
    ) -> None:
        self.experiment, self.record, self.slots, self.told = experiment, record, slots, told
        search, scheduler = experiment.search, experiment.scheduler
        self.rule = make_rule(scheduler, search)
        self._at_rungs = AtRungs(scheduler, self.rule if scheduler.promotes and isinstance(self.rule, Rungs) else None)
        # a failed trial may run again; in the place of a diverged one another is promoted
        self._no_peers = DEAD if scheduler.promotes else frozenset[State]({"failed"})
        self.live = Slots(search.trial_timeout, alone)
        self.interrupted = False
        self.trouble: Exception | None = None
        self.first_traceback = ""
        self._outcome: dict[int, tuple[State, str]] = {}  # of trials that were told to stop
        self._all_ended = False  # every trial of the search; audits may be left
        known = record.trials()
        self.trials = {trial.number: trial for trial in known if trial.begun}
        ahead = [trial for trial in known if not trial.begun]
        self.proposals = Proposals(experiment, record, self.trials, ahead)
        self.waiting = deque(trial for trial in self.trials.values() if trial.state == "paused")
        self.limits = Limits(search, record.elapsed)
        self.limits.recall(self.trials.values())
        self.checkpoints = checkpoints_of(experiment, place)
        self.checkpoints.recall(self.trials.values())
        self._breeding = Breeding(experiment, record, self.trials, self.proposals, self.checkpoints, self._saved)
        common = (experiment, record, self.checkpoints, self.limits)
        self.audits = Audits(*common, self.live, self._guarded, self._wants_slots, say, audited)
        self.audits.recall(self.trials.values())
        self._recall()

    def _recall(self) -> None:
        """Builds the rungs again from the study's values, and decides what a kill left undecided."""
        recall(self.rule, self.trials.values(), self._no_peers)
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
        self._at_rungs.recall(self.trials.values())
        self._end_hopeless()
        goes_on = self.waiting or self.proposals.left or self._at_rungs.promotable(finishing=True)
        ended = self.record.ended_because and self.limits.reason  # by a limit that was not raised since: audits, too
        if self.audits.share and not goes_on and not ended:
            self._end_the_rest()

    # -- what runs next

    @property
    def over(self) -> str:
        """Why the search ends before its last trial; empty while it does not."""
        if self.trouble:
            return f"the experiment directory can no longer be written: {self.trouble}"
        return self.limits.spent if self._all_ended else self.limits.reason

    @property
    def has_work(self) -> bool:
        """Whether there is anything left to train."""
        return not self.over and self.could_begin > 0

    @property
    def could_begin(self) -> int:
        """How many trainings might yet want a slot beside those that have one; some of them will be stopped first."""
        return len(self.waiting) + len(self._at_rungs.waiting) + self.audits.left + self.proposals.left

    def wants(self) -> int:
        """How many trainings would begin now if there were slots for them."""
        if self.over or self.interrupted:
            return 0
        ready = len(self.waiting) + self.audits.left + self.proposals.left + bool(self._at_rungs.promotable())
        return max(0, ready - max(0, self.slots() - len(self.live)))

    def next(self) -> Start | Finished | None:
        """The trial for a free slot; None if there is no slot, or nothing to do until a running trial says more."""
        if not self.over and not self.live.room(self.slots()):
            # Ray Tune asks again once a trial has its slot, before it tells of any result: so the sampler sees the same
            # study whether or not the search is killed in between. Before that, the trial would wait.
            if not self.pending:
                with self._guarded():
                    self.proposals.look_ahead(self.slots())
            return None
        if self.over or self.interrupted:
            return None if self.live else "finished"
        if self.makes_room or (self.waiting and not self.live.room(self.slots(), self.waiting[0])):
            return None
        with self._guarded():
            if trial := self._choose():
                return self._start(trial)
            if audit := self.audits.next():
                return audit
        return None if self.live else "finished"

    @property
    def pending(self) -> list[int]:
        """The trials that were started and have no slot yet."""
        return self.live.pending

    @property
    def makes_room(self) -> bool:
        """Whether a trial waits for a whole GPU, which others that begin would go on sharing."""
        return any(self.in_slot(number).alone for number in self.pending)

    def in_slot(self, number: int) -> Trial:
        """What trains by that number: the trial, or its audit."""
        return self.audits.live.get(number) or self.trials[number]

    def _choose(self) -> Trial | None:
        self._exchange()  # before any trial trains on: a kill may have left one half done
        if self.waiting:
            return self.waiting.popleft()
        found = self._at_rungs.promotable()
        if found is None and self.proposals.left:
            return self.proposals.take()
        if found is None and len(self.live) == len(self.audits.live):
            found = self._at_rungs.promotable(finishing=True)
            if found is None and self.audits.share:
                self._end_the_rest()
        if found is None:
            return None
        trial, verdict = self.trials[found[0]], found[1]
        self._note_judged(trial, trial.epochs, str(verdict))
        return trial

    def _wants_slots(self) -> bool:
        """Whether an audit is to make room: for a trial of the search, or since that was interrupted."""
        if self.interrupted or self.live.room(self.slots()):
            return self.interrupted
        return bool(self.waiting or self.proposals.left or self._at_rungs.promotable())

    def _end_hopeless(self) -> None:
        """Ends the paused trials that will not go on, whatever comes: their checkpoints only take space."""
        trials = len(self.trials) + max(0, self.experiment.trials - self.proposals.made)
        for number, verdict in self._at_rungs.hopeless(trials):
            self._end(self.trials[number], "stopped", str(verdict))

    def _end_the_rest(self) -> None:
        """Nothing of the search goes on any more: paused trials end, unheard by limits, and audits alone are left."""
        self._all_ended = True
        for number, verdict in self._at_rungs.all_standing():
            self._end(self.trials[number], "stopped", str(verdict), limited=False)

    def _exchange(self) -> None:
        """At an epoch that all of a population have reached, copies of the best take the places of the worst.

        Done again after a kill, it does what was left to do: until it is done, none of them trains on.
        """
        for trial, epoch, words, replaced in self._breeding.exchange(self._at_rungs.waiting, self.waiting):
            self._note_judged(trial, epoch, words)
            if replaced:
                self._end(trial, "stopped", words)

    def _start(self, trial: Trial) -> Start:
        self.record.note(trial.number, attempts=trial.attempts + 1)
        trial.attempts += 1
        trial.state = "running"
        self._at_rungs.note(trial)
        self.live.begin(trial)
        return Start(trial, tuple(sorted(trial.checkpoints.items(), reverse=True)))

    # -- what happened

    @or_audit
    def started(self, number: int) -> None:
        """A trial got its slot."""
        self.live.heard(number)
        self.told(self.trials[number])

    @or_audit
    def result(self, number: int, report: Report) -> bool:
        """A trial has trained an epoch; whether it is to stop."""
        trial, epoch = self.trials[number], report.epoch
        self.live.reported(trial, report)
        if number in self._outcome:
            return True
        with self._guarded():
            if report.broken:
                self._outcome[number] = ("diverged", report.broken)
                return True
            if epoch not in trial.values:
                self.record.report(number, epoch, report.value, report.figures)
                trial.values[epoch] = report.value
                trial.figures |= {epoch: dict(report.figures)} if report.figures else {}
            self._judge(trial, epoch)
            if (self.interrupted or report.leaving) and epoch < self.experiment.scheduler.max_epochs:
                self._outcome.setdefault(number, ("paused", "" if self.interrupted else _MOVES))
        self.told(trial)
        return number in self._outcome or self.trouble is not None

    def _judge(self, trial: Trial, epoch: int) -> None:
        """Decides whether a trial goes on, unless that has been decided: an epoch may be trained twice."""
        if epoch not in trial.judged:
            if self._at_rungs.pauses_at(trial, epoch):
                self.rule.record(trial.number, epoch, trial.values[epoch])
                self._outcome[trial.number] = ("paused", "")
            elif decision := self.rule.judge(trial.number, epoch, trial.values[epoch]):
                self._note_judged(trial, epoch, str(decision))
        if (words := trial.judged.get(epoch, "")).startswith("stopped"):
            self._outcome[trial.number] = ("stopped", words)

    def _note_judged(self, trial: Trial, epoch: int, words: str) -> None:
        trial.judged[epoch] = words
        self._at_rungs.note(trial)
        self.record.note(trial.number, **{f"rung {epoch}": words})

    @or_audit
    def checkpointed(self, number: int, path: str) -> None:
        """The checkpoint of a trial's latest epoch is whole in the storage."""
        trial, epoch = self.trials[number], self.live.epoch(number)
        outcome, _ = self._outcome.get(number, (None, ""))
        if outcome == "diverged" or epoch not in trial.values:  # which then could not be recorded
            self.checkpoints.discard(path)
            return
        with self._guarded():
            is_new = epoch not in trial.saved_at
            self._saved(trial, epoch, path)
            trial.checkpoints[epoch] = path
            self.limits.trained(trial, int(is_new))
            self.checkpoints.added(trial)

    @or_audit
    def ended(self, number: int) -> None:
        """A trial left its slot, by itself or because it was told to."""
        self.live.leave(number)
        trial, (state, reason) = self.trials[number], self._outcome.pop(number, ("completed", ""))
        if state == "paused":
            trial.state = "paused"
            self._at_rungs.note(trial)
            self.told(trial)
            if reason == _MOVES:
                self.waiting.append(trial)
            self._end_hopeless()
            return
        self._end(trial, state, reason)

    @or_audit
    def withdrawn(self, number: int) -> None:
        """A trial that has no slot yet is not going to get one: the search was interrupted."""
        self._outcome[number] = ("paused", "")

    @or_audit
    def lost(self, number: int, reason: str, *, counts: bool = True) -> None:
        """A trial's process or node was lost: it goes on from its checkpoint, `max_retries` times at most."""
        trial, reason = self.trials[number], self.live.cause(number, reason)
        self.live.leave(number)
        if number in self._outcome:  # it had been told to stop already
            self.ended(number)
            if trial.state == "paused" and trial not in self.waiting and not trial.waits_after(trial.epochs):
                self.waiting.append(trial)  # that epoch is trained again
            return
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
        self._at_rungs.note(trial)
        self.told(trial)
        self.waiting.append(trial)

    @or_audit
    def failed(self, number: int, reason: str, traceback: str = "", *, users_mistake: bool = False) -> None:
        """A trial raised an error, which would come again."""
        trial = self.trials[number]
        self.live.leave(number)
        self._outcome.pop(number, None)
        trial.users_mistake = users_mistake
        self.first_traceback = self.first_traceback or traceback
        self._end(trial, "failed", reason)
        self.limits.failed(self.trials.values())

    @or_audit
    def crowded_out(self, number: int) -> None:
        """A trial that shared its GPU had no memory left: it goes on from its checkpoint, on a GPU of its own."""
        trial = self.trials[number]
        with self._guarded():
            self.record.note(number, alone=True)
        trial.alone = True
        self.live.leave(number)
        self._outcome.pop(number, None)
        self._wait(trial)

    def overdue(self) -> list[int]:
        """Trials that have said nothing for longer than `trial_timeout`; each is told once."""
        return self.live.overdue()

    def interrupt(self) -> None:
        """No more trials are started; the running ones end their epoch, save it, and pause."""
        self.interrupted = True

    def close(self) -> None:
        """The search is over: what did not end is stopped, unless the search is to be resumed."""
        with self._guarded():
            self.record.elapsed = self.limits.elapsed
            self.record.ended_because = "" if self._all_ended else self.limits.reason
        self.audits.close()
        for number in self.live.clear():
            self.trials[number].state = "paused"
            self.told(self.trials[number])
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
            elif (verdict := self._at_rungs.standing(trial)) and not self.over:
                self._end(trial, "stopped", str(verdict))
            else:
                self._end(trial, "stopped", self.over)

    def _end(self, trial: Trial, state: State, reason: str = "", *, limited: bool = True) -> None:
        """limited: whether limits hear of it."""
        if state == "stopped":
            self.audits.stopped(trial, reason)
        trial.state, trial.reason, trial.ended_at = state, reason, self.limits.elapsed
        self._at_rungs.note(trial)
        if state in self._no_peers:
            self.rule.forget(trial.number)
        with self._guarded():
            self.record.end(trial)
            if limited:
                self.limits.ended(trial)
            self.checkpoints.ended(trial)
        self.told(trial)

    def _saved(self, trial: Trial, epoch: int, path: str) -> None:
        """Records that the checkpoint of an epoch is whole, and the seconds of the trial and of the search by then."""
        self.record.note(trial.number, **trial.saved(epoch, path, self.limits.elapsed))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A study or storage that cannot be written ends the search, without an error in Ray's own loop."""
        try:
            yield
        except OSError as error:
            self.trouble = self.trouble or error
