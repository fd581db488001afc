"""The step profiles that ship, measured anew: every one of them with one command."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from ..profile import measure_profile

_MENU = ("fp32", *(f"{m}-w{b}a{b}" for b in (2, 3, 4, 8) for m in ("ptq", "qat")))
_BATCH_SIZE = 32


def shipped_names() -> list[str]:
    """The files to write: those that ship.

    Example:
        >>> "mnist5k-cnn.json" in shipped_names()
        True
    """
    folder = resources.files("fedhq.fl_core").joinpath("profiles")
    names = {file.name for file in folder.iterdir() if file.name.endswith(".json")}
    return sorted(names - {"rates.json"})


def measure_shipped(folder: Path, samples: int, tell: Callable[[str], None]) -> None:
    """Measures every shipped profile: its model and data, batch size 32, and all strategies.

    Args:
        folder: Where to write them.
        samples: Of ten steps each, of every strategy.
        tell: Is told of every file.

    Raises:
        ValueError: If the package of a data set is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in shipped_names():
        data, _, network = name.removesuffix(".json").rpartition("-")
        profile = measure_profile(data, network, _MENU, _BATCH_SIZE, samples)
        profile.save(folder / name)
        tell(name)
