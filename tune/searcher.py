"""Ray Tune's searcher: hands out the trials that the conductor chooses."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from tune.conductor import Conductor
from tune.naming import TITLE, title


class ConductedSearcher(Searcher):
    """Gives each trial as {"number", "hparams", "folder", "checkpoints", "changed", "alone", "audit", "title"}."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.conductor = conductor

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its parts to restore a search; ours goes on from the study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial, None while there is none, or that there will be none."""
        start = self.conductor.next()
        if start is None:
            return None
        if start == "finished":
            return Searcher.FINISHED
        return {
            "number": start.trial.number,
            "hparams": start.trial.hparams,
            "folder": start.folder,
            "checkpoints": [list(pair) for pair in start.checkpoints],
            "changed": start.trial.parent is not None,
            "alone": start.trial.alone,
            "audit": start.is_audit,
            TITLE: title(self.conductor.experiment, start.trial.number, start.trial.hparams, audit=start.is_audit),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the conductor hears of an end from the search's callback, which knows the error."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk."""
        Path(checkpoint_path).write_text("the state is in the study\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
