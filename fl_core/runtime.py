"""Sets a process up for training: threads, and an allocator that keeps its pages."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def set_up_process(threads: int = 1) -> None:
    """Fixes the threads of torch, and keeps freed memory.

    Results are the same bytes only for equal thread counts.

    Args:
        threads: Threads of torch's operators.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed, for the rest of the process' life.

    Without it every training step returns its activations to the system and faults them in again,
    which at 28 x 28 costs more than fake quantization does.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Sets the threads of torch's operators, and sets them back.

    Example:
        >>> with threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_torch(seed: int, device: torch.device) -> None:
    """Seeds what torch draws on a device, and on the CPU.

    `torch.manual_seed` takes half a millisecond: it keeps a stack trace for every kind of device
    that is not there.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def set_up_worker(threads: int = 1) -> None:
    """Sets a worker process up; it ends with its parent, however that ends."""
    set_up_process(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
