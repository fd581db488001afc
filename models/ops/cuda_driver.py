"""Launches compiled kernels through CUDA's driver, on torch's current stream.

A kernel takes one structure, whose bytes every thread writes into a block of its own: autograd runs
backward passes on other threads. Nothing here waits for the device. The first launch of a kernel
loads it, which a CUDA graph should not capture: call once before, as torch asks for anyway.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
from ctypes import byref, c_char_p, c_int, c_uint, c_void_p
from dataclasses import dataclass

import torch

from .nvrtc import Nvrtc, NvrtcError, find_nvrtc, load_cubin, read_source

_MOST_ARGUMENT_BYTES = 512


class CudaError(RuntimeError):
    """The driver refuses; its text says why."""


@dataclass(frozen=True)
class Kernel:
    """A family of kernels of one source that take the same structure.

    Args:
        source: File in this package.
        layout: Of the structure, in the native alignment of `struct`.
    """

    source: str
    layout: struct.Struct

    def launch(
        self,
        name: str,
        device: torch.device,
        blocks: int,
        threads: int,
        *arguments: float,
    ) -> None:
        """Enqueues a kernel on the device's current stream; nothing if there are no blocks.

        Args:
            name: Of the instance.
            device: Where all its tensors lie.
            blocks: How many.
            threads: Of a block.
            *arguments: Fields of the structure: addresses, whole numbers, floats.

        Raises:
            CudaError: If the driver refuses.
            NvrtcError: If the source does not compile.
        """
        if not blocks:
            return
        with _device_guard(device):
            handle = _load_kernel(self.source, name, _architecture(device))
            self.layout.pack_into(_BLOCK.bytes, 0, *arguments)
            result = _driver().cuLaunchKernel(
                *(handle, blocks, 1, 1, threads, 1, 1, 0, _stream(device), _BLOCK.pointers, None)
            )
            _check(result, name)


class _ArgumentBlock(threading.local):
    """The bytes of a kernel's structure, and the list of pointers that the driver wants."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(_MOST_ARGUMENT_BYTES)
        self.pointers = (c_void_p * 1)(ctypes.addressof(self.bytes))


_BLOCK = _ArgumentBlock()


@functools.cache
def is_available() -> bool:
    """Whether torch sees CUDA devices, and NVRTC of its version compiles for all of them."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return False
    try:
        known = _nvrtc().architectures
    except NvrtcError:
        return False
    devices = (torch.device("cuda", i) for i in range(torch.cuda.device_count()))
    return all(_architecture(device) in known for device in devices)


@functools.cache
def _nvrtc() -> Nvrtc:
    found = find_nvrtc((torch.version.cuda or "*").partition(".")[0])
    if found is None:
        raise NvrtcError("NVRTC was not found. Install nvidia-cuda-nvrtc in torch's CUDA version.")
    return found


@functools.cache
def _driver() -> ctypes.CDLL:
    return declare(ctypes.CDLL("libcuda.so.1"))


def declare(driver: ctypes.CDLL) -> ctypes.CDLL:
    """The driver, or what stands in for it, with the types of its functions."""
    sizes, options = (c_uint,) * 7, (c_void_p, c_void_p, c_uint)
    driver.cuLaunchKernel.argtypes = (c_void_p, *sizes, c_void_p, c_void_p, c_void_p)
    driver.cuLibraryGetKernel.argtypes = (c_void_p, c_void_p, c_char_p)
    driver.cuLibraryLoadData.argtypes = (c_void_p, c_char_p, *options, *options)
    driver.cuGetErrorString.argtypes = (c_int, c_void_p)
    return driver


@functools.cache
def _load_library(source: str, architecture: int) -> int:
    """Serves all devices of the architecture; stays loaded until the process ends."""
    library, cubin = c_void_p(), load_cubin(_nvrtc(), read_source(source), architecture)
    _check(_driver().cuLibraryLoadData(byref(library), cubin, None, None, 0, None, None, 0), source)
    return library.value or 0


@functools.cache
def _load_kernel(source: str, name: str, architecture: int) -> int:
    handle = c_void_p()
    library = _load_library(source, architecture)
    _check(_driver().cuLibraryGetKernel(byref(handle), library, name.encode()), name)
    return handle.value or 0


def _check(result: int, about: str) -> None:
    if result:
        text = c_char_p()
        _driver().cuGetErrorString(result, byref(text))
        raise CudaError(f"CUDA says {(text.value or b'?').decode()} ({result}) about {about}.")


@functools.cache
def _architecture(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _device_guard(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device)


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream
