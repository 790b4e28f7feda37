"""The critic: what the trials of a search say against its space and its scheduler. Pure.

Each finding has its evidence in numbers, and is made only where chance alone would seldom give as much: where no
parameter had an effect, one search in a hundred has a false finding of each kind about its space at most. Of many looks
at the same trials each gets its share of that rate (Bonferroni). Of the scheduler one in twenty may be false.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import annotated_types

from cifar.hparams import HParams
from tune.hindsight import rank_correlations
from tune.open_study import levels
from tune.points import in_effect
from tune.problems import Path
from tune.space import Choice, Constant, Numeric, Scalar, Space
from tune.spec import Experiment
from tune.trials import DEAD, Trial

FALSE_ALARMS = 0.01  # of each kind of finding, for a whole search
_FEW = 20  # trials that compare, below which the best quarter says nothing of a bound
_GOOD = 0.25  # the share of them that are the best
_EDGE = 0.25  # of a domain, on its scale
_THIN = 0.25  # chance of as few in the outer half of that
_SOME = 40  # trials that compare, below which a small importance may be chance
_SMALL = 0.3  # of the importance that each parameter would have if all mattered alike
_UNLIKE = 0.2  # chance of as large a difference, above which two distributions are taken for alike
_LEAST_DEAD, _MOST = 4, 0.75  # trials that came to nothing in a region, and the share of its trials
_WHOLE = 10  # curves known to the end, below which correlations say little
_UNSURE, _SURE = 0.5, 0.7  # rank correlations

Kind = Literal["bound", "no effect", "diverges", "scheduler"]


@dataclass(frozen=True)
class Change:
    """What the next experiment has at `path` of its file; nothing is changed where the value is None."""

    path: Path
    value: Scalar | None = None


@dataclass(frozen=True)
class Finding:
    """about: a parameter as the study names it, or a field of the scheduler. change: its comment stands there."""

    kind: Kind
    about: str
    evidence: str
    suggestion: str
    change: Change


@dataclass(frozen=True)
class Compared:
    """Trials that can be compared, the best first. by: what they are compared by, in words."""

    by: str
    trials: Sequence[Trial]

    def best(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """The best quarter of some of them."""
        return trials[: math.ceil(_GOOD * len(trials))]


def criticise(experiment: Experiment, trials: Sequence[Trial], importances: Mapping[str, float]) -> list[Finding]:
    """What is to be said of a search that ended, or runs. importances: as `tune.importance.importances` gave them."""
    seen = compared(experiment, trials)
    found = list(_diverging(experiment, trials, seen))
    cut = {finding.change.path for finding in found}
    found = [*(one for one in _hugging(experiment, seen) if one.change.path not in cut), *found]
    found += _without_effect(experiment, seen, importances)
    return [*found, *_scheduling(experiment, trials)]


def compared(experiment: Experiment, trials: Sequence[Trial]) -> Compared:
    """The sound trials in an order; none where fewer than 20 have one.

    With asha by the rung that each got to, which says that it was better than others, and by its value there; else by
    the values at the last epoch that 20 trials got to.
    """
    sign = -1 if experiment.search.maximize else 1
    sound = [trial for trial in trials if trial.state not in DEAD]
    if experiment.scheduler.type == "asha":
        reached = {trial.number: [e for e in levels(experiment) if e in trial.values][-1:] for trial in sound}
        there = [(-reached[t.number][0], sign * t.values[reached[t.number][0]], t) for t in sound if reached[t.number]]
        ranked = [trial for *_, trial in sorted(there, key=lambda place: (*place[:2], place[2].number))]
        return Compared("by the rung reached and the value there", ranked if len(ranked) >= _FEW else [])
    for epoch in reversed(levels(experiment)):
        known = [trial for trial in sound if epoch in trial.values]
        if len(known) >= _FEW:
            known.sort(key=lambda trial: (sign * trial.values[epoch], trial.number))
            return Compared(f"by the value after epoch {epoch}", known)
    return Compared("", [])


def places(space: Space, raw: Any, path: Path = ("space",)) -> Iterator[tuple[Numeric | Choice, Path]]:
    """Every searched domain, and where the file has it. raw: the file's section."""
    for domain in space.domains:
        if isinstance(domain, Constant):
            continue
        here = (*path, domain.name)
        yield domain, here
        if isinstance(domain, Choice) and isinstance(raw[domain.name]["options"], dict):
            for option, inner in zip(domain.options, domain.parameters, strict=True):
                options = raw[domain.name]["options"]
                yield from places(inner, options[option], (*here, "options", option))  # type: ignore[arg-type]


def _numbers(experiment: Experiment) -> list[tuple[Numeric, Path]]:
    return [(one, path) for one, path in places(experiment.space, experiment.raw_space) if isinstance(one, Numeric)]


def having(experiment: Experiment, domain: Numeric | Choice, trials: Sequence[Trial]) -> list[Trial]:
    """The trials in which a domain has an effect: others chose another option."""
    space = experiment.space
    return [trial for trial in trials if any(one.key == domain.key for one in _searched(space, trial))]


def _searched(space: Space, trial: Trial) -> Iterator[Numeric | Choice]:
    return (one for one in in_effect(space, trial.hparams) if not isinstance(one, Constant))


def position(domain: Numeric, value: float) -> float:
    """Where a number stands in its domain, from 0 to 1, on its scale."""
    scale: Callable[[float], float] = math.log if domain.log else float
    return (scale(value) - scale(domain.lower)) / (scale(domain.upper) - scale(domain.lower))


# -- bounds


def _hugging(experiment: Experiment, seen: Compared) -> Iterator[Finding]:
    """Where the best quarter crowds at a bound: more of it in the outer quarter of the domain than chance would put.

    Of n trials, K of them in the outer quarter, the number among the best k is hypergeometric if the parameter has no
    effect, wherever the sampler looked. What lies beyond is worth a look if the best crowd to the very edge, too: if
    they are not fewer in its outer half than an even spread would seldom put there.
    """
    from scipy.stats import binom, hypergeom

    numbers = _numbers(experiment)
    for domain, path in numbers:
        trials = having(experiment, domain, seen.trials)
        if len(trials) < _FEW:
            continue
        best = seen.best(trials)
        for side in ("lower", "upper"):
            depth = [_depth(domain, trial, side) for trial in trials]
            inside, of_best = sum(one <= _EDGE for one in depth), sum(one <= _EDGE for one in depth[: len(best)])
            outermost = sum(one <= _EDGE / 2 for one in depth[: len(best)])
            chance = float(hypergeom.sf(of_best - 1, len(trials), inside, len(best)))
            to_the_edge = binom.cdf(outermost, of_best, 0.5) > _THIN
            crowded = 2 * of_best > len(best) and to_the_edge and depth[0] <= _EDGE
            wider = widened(domain, side)
            if wider is not None and crowded and chance <= FALSE_ALARMS / (2 * len(numbers)):
                scale = "of its logarithm" if domain.log else "of its domain"
                evidence = (
                    f"{of_best} of the best {len(best)}, {seen.by}, lie in the {side} quarter {scale}, and {inside} "
                    f"of all {len(trials)} (p = {chance:.2g} by chance)"
                )
                was = getattr(domain, side)
                verb = "raise" if side == "upper" else "lower"
                suggestion = f"{verb} its {side} bound from {was:g} to {wider:g}"
                yield Finding("bound", domain.key, evidence, suggestion, Change((*path, side), wider))


def _depth(domain: Numeric, trial: Trial, side: str) -> float:
    """How far from a bound, as a share of the domain."""
    where = position(domain, trial.hparams[domain.name])
    return where if side == "lower" else 1 - where


def widened(domain: Numeric, side: str) -> float | int | None:
    """A bound further out, as HParams allow it; None where they do not.

    On a logarithmic scale by a third of the domain, at least twice and at most ten times; else by half of the domain.
    """
    upper, bound = side == "upper", domain.upper if side == "upper" else domain.lower
    if domain.log:
        factor = min(10.0, max(2.0, (domain.upper / domain.lower) ** (1 / 3)))
        wanted = bound * factor if upper else bound / factor
    else:
        half = (domain.upper - domain.lower) / 2
        wanted = bound + half if upper else bound - half
    wanted = _allowed(domain.name, bound, wanted)
    if domain.step is None:
        rounded = float(f"{wanted:.2g}")
        if rounded == bound or _allowed(domain.name, bound, rounded) != rounded:
            rounded = wanted
        return (
            rounded if (rounded > bound if upper else rounded < bound) and not (domain.log and rounded <= 0) else None
        )
    steps = math.floor(abs(wanted - bound) / domain.step + 1e-9) or 1
    whole = int(bound) + domain.step * steps * (1 if upper else -1)
    fits = _allowed(domain.name, bound, whole) == whole and not (domain.log and whole <= 0)
    return whole if fits else None


def _allowed(name: str, bound: float, wanted: float) -> float:
    """`wanted`, or what HParams allow of the way there from `bound`."""
    for rule in HParams.model_fields[name].metadata:
        match rule:
            case annotated_types.Ge(ge=limit) if wanted < limit:  # type: ignore[operator]
                wanted = limit  # type: ignore[assignment]
            case annotated_types.Le(le=limit) if wanted > limit:  # type: ignore[operator]
                wanted = limit  # type: ignore[assignment]
            case annotated_types.Gt(gt=limit) if wanted <= limit:  # type: ignore[operator]
                wanted = (bound + limit) / 2  # type: ignore[operator]
            case annotated_types.Lt(lt=limit) if wanted >= limit:  # type: ignore[operator]
                wanted = (bound + limit) / 2  # type: ignore[operator]
    return wanted


# -- parameters without effect


def _without_effect(experiment: Experiment, seen: Compared, importances: Mapping[str, float]) -> Iterator[Finding]:
    """Parameters of small importance whose values among the best are as among the others.

    Only where another parameter shows an effect: else the trials could not have shown one of this one either.
    """
    domains = [(one, path) for one, path in places(experiment.space, experiment.raw_space) if one.key in importances]
    unlike = {one.key: _difference(one, having(experiment, one, seen.trials), seen) for one, _ in domains}
    if not any(chance <= FALSE_ALARMS / len(domains) for chance in unlike.values()):
        return
    for domain, path in domains:
        there, share = having(experiment, domain, seen.trials), importances[domain.key]
        count = len(there)
        if count >= _SOME and share < _SMALL / len(importances) and unlike[domain.key] > _UNLIKE:
            value = there[0].hparams[domain.name]
            shown = f"{value:.4g}" if isinstance(value, float) else str(value).lower()
            evidence = (
                f"{share:.1%} of the importance of {len(importances)} parameters; in the best quarter of {count} "
                f"trials, {seen.by}, its values are as in the others (p = {unlike[domain.key]:.2g})"
            )
            suggestion = (
                f"a constant, as {shown}, would spare the sampler a dimension, and the warm start the trials that had "
                "another value"
            )
            yield Finding("no effect", domain.key, evidence, suggestion, Change(path))


def _difference(domain: Numeric | Choice, trials: Sequence[Trial], seen: Compared) -> float:
    """The chance of as large a difference of values between the best quarter and the others; 1 where few compare.

    Kolmogorov and Smirnov's test of numbers, Fisher's of options, the most frequent among the best against all others.
    """
    from scipy.stats import fisher_exact, ks_2samp

    if len(trials) < _FEW:
        return 1.0
    values = [trial.hparams[domain.name] for trial in trials]
    count = len(seen.best(trials))
    best, others = values[:count], values[count:]
    if isinstance(domain, Numeric):
        return float(ks_2samp(best, others, method="asymp").pvalue)  # the exact one warns where values are equal
    chances = [
        float(fisher_exact([[best.count(one), count - best.count(one)],
                            [others.count(one), len(others) - others.count(one)]])[1])
        for one in domain.options
    ]  # fmt: skip
    return min(1.0, len(chances) * min(chances))


# -- regions that come to nothing


def _diverging(experiment: Experiment, trials: Sequence[Trial], seen: Compared) -> Iterator[Finding]:
    """Where a parameter, above or below a threshold, let most trials diverge or fail, and the best are not there.

    The chance of as many dead ones beyond it is hypergeometric, by Fisher's test, times the thresholds looked at.
    """
    numbers = _numbers(experiment)
    ended = [trial for trial in trials if trial.values or trial.state in DEAD]
    best = seen.best(seen.trials) or sorted(ended, key=lambda trial: trial.state in DEAD)[:1]
    for domain, path in numbers:
        here, good = having(experiment, domain, ended), having(experiment, domain, best)
        for side in ("lower", "upper"):
            finding = _region(domain, path, side, here, good, 2 * len(numbers))
            if finding:
                yield finding


def _region(
    domain: Numeric, path: Path, side: str, here: Sequence[Trial], best: Sequence[Trial], looks: int
) -> Finding | None:
    from scipy.stats import hypergeom

    order = sorted(here, key=lambda trial: _depth(domain, trial, side))
    dead = [trial.state in DEAD for trial in order]
    depths = [_depth(domain, trial, side) for trial in order]
    nearest = min((_depth(domain, trial, side) for trial in best), default=1.0)
    until = list(accumulate(dead, initial=0))
    cuts = [
        count
        for count in range(_LEAST_DEAD, len(order))
        if depths[count - 1] < depths[count] <= nearest and until[count] >= max(_LEAST_DEAD, _MOST * count)
    ]
    tested = [(float(hypergeom.sf(until[n] - 1, len(order), until[-1], n)), n) for n in cuts]
    chance, count = min(tested, default=(1.0, 0))
    bound = _between(domain, order[count - 1], order[count]) if count else None
    if bound is None or chance > FALSE_ALARMS / (looks * max(1, len(order) - _LEAST_DEAD)):
        return None
    beyond = "above" if side == "upper" else "below"
    evidence = (
        f"{until[count]} of {count} trials {beyond} {bound:g} diverged or failed, and {until[-1] - until[count]} of "
        f"the other {len(order) - count} (p = {chance:.2g} by chance); none of the best is there"
    )
    suggestion = f"set its {side} bound, {getattr(domain, side):g}, to {bound:g}"
    return Finding("diverges", domain.key, evidence, suggestion, Change((*path, side), bound))


def _between(domain: Numeric, dead: Trial, sound: Trial) -> float | int | None:
    """A bound that leaves `sound` in the domain and `dead` out."""
    out, inside = dead.hparams[domain.name], sound.hparams[domain.name]
    if domain.step is not None:
        return int(inside) if domain.lower < inside < domain.upper else None
    middle = math.sqrt(out * inside) if domain.log else (out + inside) / 2
    rounded = float(f"{middle:.2g}")
    return rounded if min(out, inside) < rounded < max(out, inside) else middle


# -- the scheduler


def _scheduling(experiment: Experiment, trials: Sequence[Trial]) -> Iterator[Finding]:
    """A grace period after which the order of trials says little of the order at the end.

    Of trials that were chosen by their first values those values say less than of all: so only where an audit, or no
    stop, shows others too.
    """
    search, scheduler = experiment.search, experiment.scheduler
    whole = [trial for trial in trials if (trial.audit or trial).state == "completed"]
    audited = sum(trial.audit is not None for trial in whole)
    first = scheduler.grace_period
    ranks = rank_correlations(trials, maximize=search.maximize)
    if scheduler.type not in ("asha", "hyperband") or len(whole) < _WHOLE or 2 * audited < len(whole):
        return
    later = [epoch for epoch, rank in ranks.items() if epoch > first and rank >= _SURE]
    if first not in ranks or not later or later[0] >= scheduler.max_epochs:
        return
    rank = max(-0.999, min(0.999, ranks[first]))
    high = math.tanh(math.atanh(rank) + 1.645 / math.sqrt(len(whole) - 3))  # Fisher's, one-sided, 95 %
    if high < _UNSURE:
        evidence = (
            f"the rank correlation with the end is {ranks[first]:.2f} after epoch {first} (95 % sure below {high:.2f}) "
            f"and {ranks[later[0]]:.2f} after epoch {later[0]}, over {len(whole)} whole curves, {audited} audited"
        )
        change = Change(("scheduler", "grace_period"), later[0])
        yield Finding("scheduler", "grace_period", evidence, f"compare first after epoch {later[0]}", change)
