"""What every benchmark needs: data, hardware, how figures are told and kept, how the peer is run."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CIFAR_DATA", ROOT.parent / "shared" / "data"))


def hardware() -> str:
    """The processor, and the GPU where torch is loaded and sees one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    told = f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"
    torch = sys.modules.get("torch")
    return f"{told}, {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else told


def spread(values: Sequence[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def write(file: Path, record: dict[str, Any], *packages: str) -> None:
    """Keeps a record, with date, hardware and the versions of `packages`, or of those that train."""
    packages = packages or ("ray", "optuna", "lightning", "torch", "torchvision")
    head = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": {name: version(name) for name in packages},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**head, **record}, indent=1).replace("Infinity", "null")
    file.write_text(text + "\n", encoding="utf-8")


def lossless_images(folder: Path) -> Path:
    """The 6,102 lossless CIFAR-10 images, unpacked below `folder`: `train/<class>/` and `test/<class>/`."""
    with tarfile.open(DATA / "cifar10-lossless-6k.tar") as archive:
        archive.extractall(folder / "images")
    return folder / "images"


def jpeg_images(folder: Path) -> Path:
    """All 60,000 CIFAR-10 images as JPEG, unpacked as the lossless ones are."""
    with tarfile.open(DATA / "cifar10-jpeg-60k.tar.xz") as archive:
        archive.extractall(folder / "images")
    return folder / "images"


def command(spec: Path, folder: Path, *sets: str) -> list[str]:
    """`python -m tune.run` in `folder`, each of `sets` as --set has it."""
    settings = [part for setting in sets for part in ("--set", setting)]
    return [sys.executable, "-m", "tune.run", "--space", str(spec), "--storage", str(folder), *settings]


def searched(spec: Path, folder: Path, *sets: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs `python -m tune.run` in `folder`; when things were, and its trials with their epochs."""
    from tune.study_storage import read_journal

    began = time.time()
    done = subprocess.run(command(spec, folder, *sets), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    trials = read_journal(folder / spec.stem / "study.journal").trials
    trials = [trial for trial in trials if trial.intermediate_values]  # one that was proposed ahead may not have begun
    saved = [[told for name, told in trial.user_attrs.items() if name.startswith("epoch ")] for trial in trials]
    reports = [told for each in saved for told in each]
    origin = max(trial.datetime_complete.timestamp() - trial.user_attrs["elapsed"] for trial in trials)
    told = {
        "began": began,
        "first_report": origin + min(report["elapsed"] for report in reports),
        "first_busy_s": min(reports, key=lambda report: report["elapsed"])["busy"],
        "last_report": origin + max(report["elapsed"] for report in reports),
        "end": max(trial.datetime_complete.timestamp() for trial in trials),
        "busy_s": sum(max(told["busy"] for told in each) for each in saved),
    }
    return told, [
        {"hparams": trial.user_attrs["hparams"], "epochs": max(trial.intermediate_values)} for trial in trials
    ]


def peer(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs peer.py's search; when it began, and what it told."""
    folder.mkdir()
    plan_file, out = folder / "plan.json", folder / "told.json"
    plan_file.write_text(json.dumps(plan))
    began = time.time()
    script = [sys.executable, str(ROOT / "benchmarks" / "peer.py"), str(plan_file), "--out", str(out)]
    done = subprocess.run(
        script, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"began": began, **json.loads(out.read_text())}


def apart(script: str, *arguments: object) -> dict[str, Any]:
    """What a benchmark's script prints as JSON in its last line, in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
