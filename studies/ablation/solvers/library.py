"""Libraries that a contestant needs and that fedhq does not install by itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ....allocator.errors import SolverError


def load(module: str, solver: object) -> Any:  # most of them have no types
    """Imports a module of a library.

    Args:
        module: Its full name.
        solver: Who needs it, for the error.

    Raises:
        SolverError: If it is not installed.

    Example:
        >>> load("no_such_library", object())
        Traceback (most recent call last):
        ...
        fedhq.allocator.errors.SolverError: object needs no_such_library, which is not installed: \
pip install 'fedhq[solvers]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise SolverError(
            f"{type(solver).__name__} needs {package}, which is not installed: "
            "pip install 'fedhq[solvers]'"
        ) from None
