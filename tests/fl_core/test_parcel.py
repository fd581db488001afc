"""What is packed for other processes comes out as it was, from few blocks of shared memory."""

import io
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch import nn

from fedhq.fl_core.engine.parcel import Parcel


def blocks(parcel: Parcel) -> int:
    """How many blocks of shared memory a process would be sent."""
    sent = []

    class Counting(ForkingPickler):
        def reducer_override(self, value):
            if isinstance(value, torch.UntypedStorage):
                assert value.is_shared()
                sent.append(value)
            return NotImplemented

    Counting(io.BytesIO(), pickle.HIGHEST_PROTOCOL).dump(parcel)
    return len(sent)


@pytest.mark.parametrize("others", [0, 300])
def test_all_that_a_tensor_is_survives(others) -> None:
    """With 300 others in front of them by size they lie in the common block."""
    base = torch.arange(24.0)
    content = {
        "others": [torch.full((40,), float(k)) for k in range(others)],
        "whole": base,
        "part": base[4:10],
        "turned": base.view(4, 6).t(),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "labels": torch.tensor([[3, 4]]),
        "empty": torch.empty(0, 8),
        "number": torch.tensor(7.0),
        "complex": torch.tensor([1 + 2j]).conj(),
        "grows": torch.tensor([1.0], requires_grad=True),
        "parameter": nn.Parameter(torch.ones(2, 2), requires_grad=False),
    }
    found = Parcel(content).open()
    assert list(found) == list(content)
    for k, other in enumerate(found.pop("others")):
        assert torch.equal(other, content["others"][k])
    for name, tensor in found.items():
        wanted = content[name]
        assert torch.equal(tensor, wanted), name
        for of in ("dtype", "shape", "requires_grad", "is_leaf"):
            assert getattr(tensor, of) == getattr(wanted, of), name
        assert (type(tensor), tensor.stride()) == (type(wanted), wanted.stride())
    found["whole"][5] = -1
    assert found["part"][1] == found["turned"][5, 0] == -1


def test_tied_parameters_stay_tied() -> None:
    layer = nn.Linear(3, 3)
    found = Parcel(nn.Sequential(layer, nn.ReLU(), layer)).open()
    assert found[0].weight is found[2].weight
    assert torch.equal(found[0].weight, layer.weight)


def test_any_number_of_tensors_takes_few_blocks_which_all_openers_share() -> None:
    content = [torch.full((k % 7 + 1,), float(k)) for k in range(1000)]
    parcel = Parcel(content)
    assert 1 <= blocks(parcel) <= 65
    assert blocks(Parcel(content[:3])) == 3
    one, two = parcel.open(), parcel.open()
    for k in (0, 500, 999):
        one[k][0] = -5.0
        assert two[k][0] == -5.0
