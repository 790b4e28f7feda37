"""Experiments as their directories tell them: a search whose Ray was played by hand, and a model that was made up."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tune.averaging import PLAIN, Way, compared
from tune.evaluation import Evaluation
from tune.finalists import finalists
from tune.last_mile import LastMile, Winner
from tune.objectives import ranked
from tune.recorded import Recorded, read_experiment

FIELDS = (
    "search.trials=16",
    "search.sampler=random",
    "scheduler.max_epochs=4",
    "scheduler.reduction_factor=2",
    "retrain.start=auto",
)
MADE = Way("scratch", "cosine", "swa")
EVIDENCE = {
    PLAIN: [(0.90, 0.30), (0.88, 0.32)],
    Way("scratch", "cosine", "raw"): [(0.91, 0.30), (0.90, 0.30)],
    MADE: [(0.93, 0.25), (0.91, 0.26)],
    Way("scratch", "cosine", "ema"): [(0.92, 0.25), (0.91, math.nan)],
}


@pytest.fixture
def searched(begun: Callable[..., Any], storage: Path) -> Callable[..., Recorded]:
    """A search that is over: its first trial diverged, its second failed with `error`. There is no model."""

    def make(name: str = "one", *fields: str, error: str = "ValueError: no", **options: Any) -> Recorded:
        session = begun(name, *FIELDS, *fields, **options)
        for number in (0, 1):
            session.start()
            if number == 0:
                session.measure(number, broken="val_loss was nan at epoch 1")
                session.leave(number)
                session.conductor.ended(number)
            else:
                session.leave(number)
                session.conductor.failed(number, error)
        session.run()
        session.record.slots = 2
        session.record.retrain_seconds = 12.0
        return read_experiment(str(storage), name, "report")

    return make


@pytest.fixture
def finished(searched: Callable[..., Recorded], storage: Path) -> Callable[..., Recorded]:
    """The same with a model: `finished("name", classes=("cat", "dog"))`. test: of the evaluation, what is not usual."""

    def make(
        name: str = "one",
        *fields: str,
        classes: tuple[str, ...] = ("cat", "dog"),
        mistakes: int = 2,
        side: int = 8,
        test: dict[str, Any] | None = None,
        skipped: tuple[str, ...] = (),
        **options: Any,
    ) -> Recorded:
        known = searched(name, *fields, **options)
        winner = _note_winner(known)
        folder = known.directory.model / "mistakes"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
        wrong = []
        for number in range(mistakes):
            Image.fromarray(pixels).save(folder / f"{number:06d}.png")
            file = f"mistakes/{number:06d}.png"
            told = {"image": number, "true": 0, "predicted": 1, "probability": 0.9, "file": file}
            wrong.append(told)
        count = len(classes)
        confusion = (5 * np.eye(count, dtype=int) + np.eye(count, k=1, dtype=int)).tolist()
        figures = Evaluation(0.95, 0.9, 0.98, 100, 0.2, confusion, [], mistakes=wrong)
        metrics = {
            "test": {**asdict(figures), **(test or {})},
            "classes": list(classes),
            "onnx_error": "",
            "skipped": list(skipped),
            "image_shape": [3, side, side],
            "training_images": 80,
            "validation_images": 20,
            "made_from": winner.made_from(known.experiment),
        }
        (known.directory.model / "metrics.json").write_text(json.dumps(metrics))
        return read_experiment(str(storage), name, "report")

    return make


def _note_winner(known: Recorded) -> Winner:
    """winner.yaml, of the two best trials, as the last mile writes it."""
    few = ranked(known.experiment, known.trials)[:2]
    curves = {trial.number: [[0.8, 0.8, 0.82, 0.89], [0.8, 0.9, 0.7, 0.87]] for trial in few}
    table = finalists(few, curves, maximize=True)
    winner = Winner(table[0].trial, MADE, 4, table, compared(known.experiment.retrain, EVIDENCE))
    mile = LastMile(known.experiment, known.directory, _NoRecord(), lambda jobs, done: None, print)
    mile.write(winner, len(known.trials))
    return winner


class _NoRecord:
    """The study of a last mile in which nothing is trained."""

    results: dict[str, Any] = {}  # noqa: RUF012


class Page(HTMLParser):
    """What a browser and a screen reader would find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        bare = re.sub(r"<script.*?</script>|<style.*?</style>", " ", html, flags=re.DOTALL)
        self.words = " ".join(re.sub(r"<[^>]+>", " ", bare).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page() -> Callable[[str], Page]:
    return Page
