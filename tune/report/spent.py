"""Where the time went: of all seconds of all slots, what was training and what was lost, by cause."""

from tune.recorded import Recorded
from tune.report.colours import COLOURS
from tune.report.section import Section, figure_html, label, new_figure, section, share, table
from tune.standing import duration
from tune.trials import DEAD

_IDLE = "slots idle"
_SHADES = (COLOURS["completed"], COLOURS["running"], COLOURS["diverged"], COLOURS["stopped"])
_IDLE_SHADE = "#b8c1cc"


def time_by_cause(known: Recorded) -> dict[str, float]:
    """Seconds of slots by what they went into; idle ones only where it is known how many slots there were.

    The last mile's are seconds of the clock.
    """
    dead = [trial for trial in known.trials if trial.state in DEAD]
    sound = [trial for trial in known.trials if trial.state not in DEAD]
    measured = any(trial.busy for trial in known.trials)
    told = {}
    if measured:
        told["training and validation"] = sum(trial.busy for trial in sound)
        told["waiting or starting within trials"] = sum(max(0.0, trial.seconds - trial.busy) for trial in sound)
    else:
        told["trials"] = sum(trial.seconds for trial in sound)
    told["trials that diverged or failed"] = sum(trial.seconds for trial in dead)
    if any(trial.audit for trial in known.trials):
        told["audits of early stopping"] = sum(trial.spent - trial.seconds for trial in known.trials)
    if known.slots:
        used = sum(trial.spent for trial in known.trials)
        told[_IDLE] = max(0.0, known.slot_seconds - used)
    told["last mile"] = known.retrain_seconds
    return told


def spent_section(known: Recorded) -> Section | None:
    """None before anything took time."""
    told = time_by_cause(known)
    whole = sum(seconds for name, seconds in told.items() if name != "last mile")
    if not whole:
        return None
    rows = [
        [name, duration(seconds), share(seconds / whole) if name != "last mile" else ""]
        for name, seconds in told.items()
    ]
    described = "Slot time of the search: " + ", ".join(f"{name} {part}" for name, _, part in rows if part) + "."
    figure = new_figure(
        height=190,
        margin={"t": 16, "r": 24, "b": 8, "l": 24},
        barmode="stack",
        xaxis={"tickformat": ".0%", "title": {"text": "of the slots' time"}, "range": [0, 1]},
        yaxis={"visible": False},
    )
    shades = iter(_SHADES)
    for name, seconds in told.items():
        colour = _IDLE_SHADE if name == _IDLE else next(shades, None)
        if seconds and name != "last mile":
            figure.add_bar(
                x=[seconds / whole],
                y=[""],
                orientation="h",
                name=label(name, 40),
                marker={"color": colour},
                hovertemplate="%{x:.1%}",
            )
    again = sum(trial.replaces is not None for trial in known.trials)
    lost = sum(trial.lost for trial in known.trials)
    sessions = len(known.provenance.get("resumed", ())) + 1
    return section(
        "Where the time went",
        "report/spent.html.j2",
        figure=figure_html(figure, described),
        table=table("Time by cause", ["cause", "time", "of the slots' time"], rows),
        slots=known.slots,
        again=again,
        lost=lost,
        sessions=sessions,
        time=duration(known.search_seconds),
    )
