"""An object that holds tensors, packed for other processes: some bytes, and few shared blocks.

A process is sent at most about 250 blocks of shared memory when it starts, and each costs a file
descriptor; models and lists of data sets hold any number of tensors.
"""

from __future__ import annotations

import io
import pickle
from itertools import accumulate
from typing import Any

import torch

_MOST_ALONE = 64
"""So many tensors are shared where they are; the smaller others are copied into one block."""
_ALIGNMENT = 64

_Place = tuple[torch.UntypedStorage, int]  # a block, and the byte where something begins in it


class Parcel:
    """An object to be sent to any number of processes, which read its tensors in shared memory.

    The greatest tensors move there, as `torch.multiprocessing` does it; of the others there is a
    copy, one for all processes. What shares memory still does so when it is opened. What is not
    on the CPU goes by value.

    Args:
        content: What is sent; it is pickled here and now.

    Raises:
        pickle.PicklingError: If that cannot be; or whatever its own methods raise.

    Example:
        >>> Parcel({"w": torch.tensor([1.0, 2.0])}).open()
        {'w': tensor([1., 2.])}
    """

    def __init__(self, content: object) -> None:
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(content)
        self._bytes = file.getvalue()
        self._places = _share(packer.storages)

    def open(self) -> Any:
        """The object, remade; to be called once in a process."""
        return _Opener(io.BytesIO(self._bytes), self._places).load()


def _share(storages: list[torch.UntypedStorage]) -> list[_Place]:
    """Where each lies in shared memory."""
    places: list[_Place] = [(storage, 0) for storage in storages]
    by_size = sorted(range(len(storages)), key=lambda k: -storages[k].nbytes())
    for k in by_size[:_MOST_ALONE]:
        storages[k].share_memory_()
    small = by_size[_MOST_ALONE:]
    sizes = [-(-storages[k].nbytes() // _ALIGNMENT) * _ALIGNMENT for k in small]
    block = torch.zeros(sum(sizes), dtype=torch.uint8)
    block.share_memory_()  # type: ignore[no-untyped-call]
    shared = block.untyped_storage()
    for k, start in zip(small, accumulate(sizes, initial=0), strict=False):
        block[start : start + storages[k].nbytes()] = _bytes_of(storages[k])
        places[k] = shared, start
    return places


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)


class _Packer(pickle.Pickler):
    """Leaves out what tensors hold, and collects it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.storages: list[torch.UntypedStorage] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def persistent_id(self, value: object) -> int | None:
        """The number of a storage; None of anything else."""
        if not isinstance(value, torch.UntypedStorage):
            return None
        number = self._numbers.setdefault((value.data_ptr(), value.nbytes()), len(self._numbers))
        if number == len(self.storages):
            self.storages.append(value)
        return number

    def reducer_override(self, value: object) -> Any:
        """How a tensor is remade; parameters hold one."""
        if type(value) is not torch.Tensor or not _is_plain(value):
            return NotImplemented
        view = value.storage_offset(), tuple(value.shape), value.stride()
        storage = value.untyped_storage()
        return _remake, (storage, value.dtype, *view, value.requires_grad)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether its storage, type and strides say all of it."""
    odd = tensor.is_quantized or tensor.is_conj() or tensor.is_neg()
    return tensor.device.type == "cpu" and tensor.layout is torch.strided and not odd


class _Opener(pickle.Unpickler):
    """Puts in what the packer left out."""

    def __init__(self, file: io.BytesIO, places: list[_Place]) -> None:
        super().__init__(file)
        self._places = places

    def persistent_load(self, number: Any) -> _Place:
        """Where a storage lies."""
        place: _Place = self._places[number]
        return place


def _remake(
    place: _Place,
    dtype: torch.dtype,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
) -> torch.Tensor:
    block, start = place
    first = start // dtype.itemsize + offset
    tensor = torch.empty(0, dtype=dtype).set_(block, first, shape, stride)
    return tensor.requires_grad_(requires_grad)
