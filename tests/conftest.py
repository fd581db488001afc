"""What every test relies on: one torch thread, deterministic operators.

The allocator's tests run where torch is not installed, too.
"""

import gc
import os
from collections.abc import Generator
from importlib.util import find_spec

import pytest

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
    # what `use_deterministic_algorithms` sets, but without a second's import of torch's compiler
    torch.set_deterministic_debug_mode("error")


@pytest.hookimpl(trylast=True)  # when marks have chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests begin first, some in each process: each is dealt one stretch of the list."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    stretch = -(-len(items) // processes)
    items.clear()
    for process in range(processes):
        first = long[process::processes]
        items += first + others[: stretch - len(first)]
        del others[: stretch - len(first)]
    items += others


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting makes little garbage and many objects, which would be looked at over and over."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What lives as long as the tests is looked at by no collection of garbage, which some time."""
    gc.collect()
    gc.freeze()
