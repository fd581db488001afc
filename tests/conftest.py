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


def pytest_collection_finish(session: pytest.Session) -> None:
    """What lives as long as the tests is looked at by no collection of garbage, which some time."""
    gc.collect()
    gc.freeze()
