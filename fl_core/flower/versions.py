"""Which versions of Flower this package was tested with; others are refused."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

OLDEST, BELOW = (1, 42), (2, 0)
"""The range of `pyproject.toml`'s extra `flower`."""

_MEND = "pip install 'fedhq[flower]'"


def require_flower() -> None:
    """Checks that flwr is installed, in a version that was tested.

    Raises:
        ImportError: If it is not: names the version, the rule and the mend.

    Example:
        >>> require_flower()
    """
    try:
        found = version("flwr")
    except PackageNotFoundError:
        raise ImportError(
            f"`flwr is installed` must hold for fedhq.fl_core.flower, but it is not: {_MEND}."
        ) from None
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) < BELOW:
        raise ImportError(
            f"`flwr >= {OLDEST[0]}.{OLDEST[1]}, < {BELOW[0]}` must hold for fedhq.fl_core.flower, "
            f"but version {found} is installed, which was not tested: {_MEND}."
        )
