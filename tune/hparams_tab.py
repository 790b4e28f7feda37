"""TensorBoard's HParams tab: a session a trial, with its state and the best value it reached.

All of it is in a file of its own in a trial's folder, which only the driver appends to: a trial that pauses goes on in
another process, and none of them knows how it ends. A reader takes the first beginning and the first end of a session.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar.hparams import only_with
from tune.sections import SearchConfig
from tune.space import Choice, Numeric, Space
from tune.trials import DEAD, State

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

FILE = "events.out.tfevents.0000000000.hparams"  # before those of the training, in the order of names
BEST = "hp_metric"  # TensorBoard's own name for what trials are compared by


def write_experiment(folder: Path, search: SearchConfig, space: Space) -> None:
    """Says which HParams are searched, and what trials are compared by; once an experiment.

    folder: that of all trials.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    if (folder / FILE).exists():
        return
    metrics = [
        hp.Metric(BEST, display_name=f"best {search.metric}"),
        hp.Metric(f"{search.metric}_epoch", display_name=f"last {search.metric}"),
        hp.Metric("epoch", display_name="epochs"),
    ]
    _append(folder, 0, hp.hparams_config_pb(_searched(space), metrics))


def begin(folder: Path, hparams: Mapping[str, Any], name: str, space: Space) -> None:
    """A session begins. folder: of its curves; name: as the tab shows it; those of one name are averaged there."""
    from tensorboard.plugins.hparams import summary_v2 as hp

    mixed = {each.name for each in space.searched() if isinstance(each, Choice) and _is_mixed(each.options)}
    values = {
        key: str(value) if key in mixed else value
        for key, value in hparams.items()
        if all(hparams[other] in allowed for other, allowed in only_with(key).items())
    }
    _append(folder, 0, hp.hparams_pb(values, trial_id=name))


def note_best(folder: Path, epoch: int, value: float) -> None:
    """The best value after so many epochs."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    _append(folder, epoch, Summary(value=[Summary.Value(tag=BEST, simple_value=value)]))


def end(folder: Path, state: State, reason: str) -> None:
    """How the session ended: well or not, as the tab has it, and as a text by the name of `ended`."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboard.plugins.text.summary_v2 import text_pb

    status = STATUS_FAILURE if state in DEAD else STATUS_SUCCESS
    ended = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    described = metadata.create_summary_metadata(ended)
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described, tensor=metadata.NULL_TENSOR)
    _append(folder, 0, text_pb("ended", f"{state}: {reason}" if reason else state))
    _append(folder, 0, Summary(value=[value]))


def known(folder: Path) -> tuple[bool, bool]:
    """Whether a session was begun there, and whether it was ended."""
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return False, False
    return b"session_start_info" in content, b"session_end_info" in content


def _append(folder: Path, step: int, summary: "Summary") -> None:
    """In one write, so that a process that is killed leaves no half of it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab") as file:
        writer = RecordWriter(file)
        if file.tell() == 0:
            writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())


def _searched(space: Space) -> list[Any]:
    """The HParams that are searched, in TensorBoard's terms; one that two options search has the domains of both."""
    from tensorboard.plugins.hparams import summary_v2 as hp

    domains: dict[str, list[Numeric | Choice]] = {}
    for each in space.searched():
        domains.setdefault(each.name, []).append(each)
    infos = []
    for name, those in domains.items():
        intervals = [each for each in those if isinstance(each, Numeric)]
        if intervals:
            lower, upper = min(each.lower for each in intervals), max(each.upper for each in intervals)
            infos.append(hp.HParam(name, hp.RealInterval(float(lower), float(upper))))
            continue
        options = [option for each in those if isinstance(each, Choice) for option in each.options]
        if _is_mixed(options):
            options = [str(option) for option in options]
        infos.append(hp.HParam(name, hp.Discrete(dict.fromkeys(options))))
    return infos


def _is_mixed(options: Any) -> bool:
    """Whether TensorBoard has no type for all of them."""
    return len({type(option) for option in options}) > 1
