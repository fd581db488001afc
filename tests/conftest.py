"""What every test relies on: one torch thread, deterministic operators.

The allocator's tests run where torch is not installed, too.
"""

from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
