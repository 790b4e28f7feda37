"""The mistakes of the test that the model was most sure of, as pictures."""

import base64
import io
from pathlib import Path
from typing import Any

from tune.recorded import Recorded
from tune.report.section import Section, section
from tune.summary import summary_of

_SIDE = 96  # pixels; of larger images a smaller copy, so that 24 of them stay light


def mistakes_section(known: Recorded) -> Section | None:
    """None where there is no model, or it made no mistake."""
    if known.metrics is None or not (mistakes := summary_of(known).test.mistakes):
        return None
    names = summary_of(known).classes
    told = [
        {
            "picture": _picture(known.directory.model / one["file"]),
            "true": names[one["true"]],
            "named": names[one["predicted"]],
            "probability": f"{one['probability']:.1%}",
            "image": one["image"],
        }
        for one in mistakes
    ]
    return section(
        "Most confident mistakes", "report/mistakes.html.j2", mistakes=told, images=summary_of(known).test.images
    )


def _picture(file: Path) -> dict[str, Any] | None:
    """The image as a data URI, and its size on the page; None if it is gone."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            width, height = opened.size
            times = _SIDE / max(width, height)
            content, kind = file.read_bytes(), "png"
            if times < 1:
                small = opened.convert("L" if opened.mode == "L" else "RGB")
                small.thumbnail((_SIDE, _SIDE))
                small.save(stream := io.BytesIO(), "JPEG", quality=85)
                content, kind = stream.getvalue(), "jpeg"
    except OSError:
        return None
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"uri": uri, "width": max(1, round(width * times)), "height": max(1, round(height * times))}
