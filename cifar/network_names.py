"""The names a network may go by, known without importing torch, so that checking a spec takes milliseconds."""

import importlib.util
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

OWN_NAMES = ("cnn", "resnet9", "resnet18", "resnet34")
_FACTORY = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


@cache
def torchvision_names() -> tuple[str, ...]:
    """The classifiers that torchvision registers, read off its source: importing it costs seconds."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return ()
    models = Path(spec.origin).parent / "models"
    registered = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    return tuple(sorted(name for file in models.glob("*.py") for name in registered.findall(file.read_text())))


def checked_name(name: str) -> str:
    """Returns `name` if a network goes by it.

    Raises ValueError with the rule and the nearest right name if none does.
    """
    if name in OWN_NAMES or name in torchvision_names():
        return name
    if _FACTORY.match(name):
        package = name.partition(":")[0].partition(".")[0]
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"no package named {package!r} can be imported; run from the folder that holds it")
        return name
    near = get_close_matches(name, (*OWN_NAMES, *torchvision_names()), n=1)
    raise ValueError(
        f"must be one of {', '.join(OWN_NAMES)}, a torchvision classifier, or package.module:factory"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )
