"""What every test relies on: one torch thread, deterministic operators.

The allocator's tests run where torch is not installed, too.
"""

import gc
from importlib.util import find_spec

import pytest

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
    # what `use_deterministic_algorithms` sets, but without a second's import of torch's compiler
    torch.set_deterministic_debug_mode("error")


@pytest.hookimpl(trylast=True)  # when marks have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what `TestSolver` asks where `TestManySolver` asks the same of more problems."""
    chosen = {item.nodeid for item in items}
    left_out = {
        item
        for item in items
        if "::Test" in item.nodeid and item.nodeid.replace("::Test", "::TestMany") in chosen
    }
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """What lives as long as the tests is looked at by no collection of garbage, which some time."""
    gc.collect()
    gc.freeze()
