"""The two ways in which the CPU's kernels are computed."""

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from fedhq.models.ops import cpu_kernels, torch_kernels
from fedhq.models.ops.cpu_build import BuildError, load_library


@pytest.fixture
def compiled() -> ModuleType:
    """The compiled kernels, where there is a compiler."""
    try:
        load_library()
    except BuildError as error:
        pytest.skip(str(error))
    return cpu_kernels


@pytest.fixture(params=["plain", "compiled"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """Plain torch, then the compiled kernels."""
    if request.param == "plain":
        return torch_kernels
    chosen: ModuleType = request.getfixturevalue("compiled")
    return chosen


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's number of threads while the test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
