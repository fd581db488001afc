"""How processes are started: forked from a server that has imported what they need once."""

from __future__ import annotations

import multiprocessing
from typing import Any


def forking_context(module: str) -> Any:
    """A context of `multiprocessing` whose processes do not import torch again (2 s each).

    They are forked from a server that does nothing but import, and so has no thread of torch's that
    a fork would lose. Where the system has no such thing, they are spawned. A process has one
    server, which keeps what the first to ask for it named, and the environment that it then had.

    Args:
        module: Imported by the server, with all that it imports.

    Example:
        >>> forking_context("fedhq.fl_core.engine.worker").get_start_method() in (
        ...     "forkserver", "spawn"
        ... )
        True
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context
