"""Colours and signs, the same in all figures and tables; told apart by those who do not see all colours."""

from markupsafe import Markup

from tune.trials import State

COLOURS: dict[State, str] = {
    "completed": "#0b5fa5",
    "stopped": "#c77700",
    "diverged": "#a3005c",
    "failed": "#52606d",
    "running": "#0e7c66",
    "paused": "#6b52b8",
}
SIGNS: dict[State, str] = {
    "completed": "circle",
    "stopped": "square",
    "diverged": "x",
    "failed": "cross",
    "running": "triangle-up",
    "paused": "diamond",
}
_IN_TEXT: dict[State, str] = {
    "completed": "●",
    "stopped": "■",
    "diverged": "✕",
    "failed": "✚",
    "running": "▲",
    "paused": "◆",
}
WINNER = "#101418"
WINNER_SIGN = "star"
# From the worst to the best: darker is better, so that it reads without colours too.
STEPS = ("#c9d3e0", "#9fb3cf", "#7392bd", "#4a70a8", "#274e8d", "#0b2a66")
SCALE = [(place / (len(STEPS) - 1), colour) for place, colour in enumerate(STEPS)]
SERIES = ("#0b5fa5", "#c77700", "#a3005c", "#0e7c66", "#6b52b8", "#52606d")  # of experiments side by side
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def state_in_text(state: State) -> Markup:
    """A state, with its sign."""
    return Markup('<span class="state"><span aria-hidden="true" style="color:{}">{}</span> {}</span>').format(
        COLOURS[state], _IN_TEXT[state], state
    )
