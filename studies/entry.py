"""Where the command `fedhq` enters; it says what to install where packages are missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 2 where a package that it needs is not installed."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "fedhq":
            raise
        print(
            f"fedhq: error: the command needs {missing}, which is not installed; "
            "run: pip install 'fedhq[all]'",
            file=sys.stderr,
        )
        return 2
    return run(arguments)
