"""A report in a real browser, wide and narrow: everything is drawn, nothing is fetched, and it works by keyboard."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("six_thousand"),  # with the others that want that search, which takes minutes
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium, as in Debian's package"),
]

FIGURES = "[...document.querySelectorAll('.plotly-graph-div')]"
DRAWN = f"{FIGURES}.every(one => one.querySelector('svg.main-svg'))"
# of each figure: its size, the size of what is drawn in it, and the marks
MEASURED = f"""{FIGURES}.map(one => {{
    const svg = one.querySelector('svg.main-svg').getBoundingClientRect();
    const marks = one.querySelectorAll('.trace path, .point path, .heatmaplayer image, .contourlayer path').length;
    return {{width: svg.width, height: svg.height, room: one.getBoundingClientRect().width, marks: marks}};
}})"""
# text that is wider than what it stands in, boxes that scroll left out
CUT = """[...document.querySelectorAll('h1, h2, p, li, figcaption, summary')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0)
    .map(one => one.textContent.slice(0, 60))"""


CLASSES = (
    "<script>alert(1)<!--",
    "<img src=x onerror=alert(2)>",
    "\"quoted\" 'too' &amp; <b>bold %{x} $a$",
    "🎉 " + "long" * 40,
)
NAME = '<script>alert(3) "quoted" <b>&lt; %{y} 🎉 ' + "long" * 30
NETWORK = "n" * 200  # the name of a module


@pytest.fixture(scope="module", params=["hostile", "six_thousand"])
def report(request: pytest.FixtureRequest) -> Path:
    """That of each of two real searches."""
    made = request.getfixturevalue(request.param)
    return made if request.param == "hostile" else made[1] / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real search of a few seconds, in which all names that a user gives are hostile."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("hostile")
    (folder / f"{NETWORK}.py").write_text(
        "from torch import nn\n\n\ndef make(classes, channels, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))\n"
    )
    draw = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for split, count in (("train", 24), ("test", 6)):
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(draw.normal(60 + 25 * label, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{number}.png")
    (folder / "space.yaml").write_text(
        "data: {source: image_folder, root: images, image_size: 8}\n"
        "space:\n"
        f"  network: {{type: categorical, options: [resnet9, '{NETWORK}:make']}}\n"
        "  width: 0.0625\n"
        "  learning_rate: {type: float, lower: 1e-4, upper: 100, log: true}\n"
        "  translate: {type: int, lower: 0, upper: 2}\n"
        "  batch_size: 16\n"
        "search: {trials: 12, sampler: random}\n"
        "scheduler: {max_epochs: 4, reduction_factor: 2}\n"
        "retrain: {finalists: 2, seeds: 2, epochs: 1, lr_schedule: constant}\n"
    )
    command = [sys.executable, "-m", "tune.run", "--space", "space.yaml", "--name", NAME]
    environment = {**os.environ, "CIFAR_CACHE": str(folder / "cache"), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "experiments" / NAME / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[1280, 390])
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[tuple[Any, list[str]]]:
    """The report at this width, all of it drawn; and what went wrong: complaints, and requests that would leave."""
    trouble: list[str] = []
    page = browser.new_page(viewport={"width": request.param, "height": 844})

    def only_here(route: Any) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            trouble.append(f"request: {route.request.url}")
            route.abort()

    page.route("**/*", only_here)
    page.on("console", lambda said: trouble.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(report.as_uri())
    page.wait_for_function(DRAWN, timeout=60_000)
    yield page, trouble
    page.close()


def test_it_draws_everything_and_asks_nobody(opened):
    page, trouble = opened
    figures = page.evaluate(MEASURED)
    assert len(figures) >= 10
    for figure in figures:
        assert figure["width"] > 200
        assert figure["height"] > 100
        assert figure["width"] <= figure["room"] + 1
        assert figure["marks"] > 0
    pictures = page.evaluate("[...document.images].map(one => one.naturalWidth)")
    assert all(pictures)
    assert trouble == []


def test_the_page_is_as_wide_as_the_window_and_nothing_is_cut(opened):
    page, _ = opened
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    assert page.evaluate(CUT) == []


def test_it_works_by_keyboard(opened):
    page, trouble = opened
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#result"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") == "Trials"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#trials').getBoundingClientRect().top < innerHeight", timeout=5_000)
    folded = page.query_selector("details:not([open]) > summary")
    folded.focus()
    page.keyboard.press("Enter")
    assert folded.evaluate("one => one.parentElement.open")
    assert trouble == []
