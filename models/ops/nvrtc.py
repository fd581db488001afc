"""Compiles CUDA sources with NVRTC, which torch's CUDA wheels bring along, and keeps the result.

A cubin is kept on disk under a key of all that it depends on, behind a checksum: what is damaged or
belongs to another key is compiled anew. No toolkit, host compiler or GPU is needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .cpu_build import cache_folder

# Contracting a * b + c would round differently from the CPU's kernels and from ATen.
OPTIONS = ("-std=c++17", "--fmad=false")
"""Of every compilation, beside the architecture."""

_HEADERS = ("cuda_tile.h", "quant.h")
_CHECKSUM_BYTES = hashlib.sha256().digest_size


class NvrtcError(RuntimeError):
    """NVRTC is missing or refuses a source; its text says why."""


@dataclass(frozen=True)
class Source:
    """What is compiled.

    Args:
        name: Of the source, for messages.
        text: CUDA C++.
        headers: Names and texts of what it may include.
    """

    name: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Compiled:
    """What came of it.

    Args:
        cubin: Machine code of one architecture.
        log: What the compiler says.
    """

    cubin: bytes
    log: str


def read_source(name: str) -> Source:
    """A source of this package with the headers that all of them share.

    Example:
        >>> [header for header, text in read_source("cuda_flat.cu").headers]
        ['cuda_tile.h', 'quant.h']
    """
    folder = resources.files(__package__)
    headers = tuple((header, folder.joinpath(header).read_text("utf-8")) for header in _HEADERS)
    return Source(name, folder.joinpath(name).read_text("utf-8"), headers)


class Nvrtc:
    """The library.

    Args:
        path: Of the shared object, or its name.

    Raises:
        NvrtcError: If it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        try:
            if Path(path).is_absolute():  # some versions do not find what lies beside them
                for beside in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")):
                    ctypes.CDLL(str(beside), mode=ctypes.RTLD_GLOBAL)
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise NvrtcError(f"NVRTC at {path} cannot be loaded: {error}.") from None
        self._library.nvrtcGetErrorString.restype = c_char_p

    @functools.cached_property
    def version(self) -> tuple[int, int]:
        """Major and minor."""
        major, minor = c_int(), c_int()
        self._check(self._library.nvrtcVersion(byref(major), byref(minor)))
        return major.value, minor.value

    @functools.cached_property
    def architectures(self) -> frozenset[int]:
        """Those that it compiles for, such as 90 for `sm_90`."""
        number = c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(byref(number)))
        known = (c_int * number.value)()
        self._check(self._library.nvrtcGetSupportedArchs(known))
        return frozenset(known)

    def compile(self, source: Source, architecture: int, options: Sequence[str] = ()) -> Compiled:
        """Machine code for one architecture.

        Args:
            source: What to compile.
            architecture: Such as 90 for `sm_90`.
            options: Beside `OPTIONS`.

        Raises:
            NvrtcError: With the compiler's log, if it refuses the source.
        """
        library, program = self._library, c_void_p()
        names = (c_char_p * len(source.headers))(*(name.encode() for name, _ in source.headers))
        texts = (c_char_p * len(source.headers))(*(text.encode() for _, text in source.headers))
        text, name = source.text.encode(), source.name.encode()
        created = library.nvrtcCreateProgram(byref(program), text, name, len(names), texts, names)
        self._check(created)
        try:
            wanted = [
                o.encode() for o in (f"--gpu-architecture=sm_{architecture}", *OPTIONS, *options)
            ]
            result = library.nvrtcCompileProgram(
                program, len(wanted), (c_char_p * len(wanted))(*wanted)
            )
            log = self._bytes(program, "ProgramLog").decode("utf-8", "replace").rstrip("\0")
            self._check(result, f" {source.name} for sm_{architecture}: {log}")
            return Compiled(self._bytes(program, "CUBIN"), log)
        finally:
            library.nvrtcDestroyProgram(byref(program))

    def _bytes(self, program: c_void_p, what: str) -> bytes:
        size = c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, byref(size)))
        buffer = create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, result: int, about: str = "") -> None:
        if result:
            text = self._library.nvrtcGetErrorString(result).decode()
            raise NvrtcError(f"NVRTC says {text} ({result}).{about}")


@functools.cache
def find_nvrtc(major: str = "*") -> Nvrtc | None:
    """NVRTC of a CUDA wheel, else of the system; None where there is none.

    Args:
        major: Version that is wanted; `*` takes any, the newest first.
    """
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(place).glob(f"*/lib/libnvrtc.so.{major}"), key=lambda path: path.name)
        if found:
            return Nvrtc(str(found[-1].absolute()))
    name = ctypes.util.find_library("nvrtc")
    if name is None or (major != "*" and not name.endswith(f".{major}")):
        return None
    return Nvrtc(name)


def load_cubin(nvrtc: Nvrtc, source: Source, architecture: int) -> bytes:
    """Machine code from the cache; compiled if it is not there or not as it was written.

    Raises:
        NvrtcError: If the source does not compile.
    """
    described = (source, architecture, OPTIONS, nvrtc.version)
    key = hashlib.sha256(repr(described).encode()).hexdigest()
    path = cache_folder() / f"{Path(source.name).stem}-sm_{architecture}-{key[:24]}.cubin"
    kept = _read(path, key)
    if kept is not None:
        return kept
    cubin = nvrtc.compile(source, architecture).cubin
    _write(path, _checksum(key, cubin) + cubin)
    return cubin


def _checksum(key: str, cubin: bytes) -> bytes:
    return hashlib.sha256(key.encode() + cubin).digest()


def _read(path: Path, key: str) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, cubin = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    return cubin if checksum == _checksum(key, cubin) else None


def _write(path: Path, content: bytes) -> None:
    """Renames a finished file, so that processes never see half of one; a cache may also fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            finished = Path(folder) / path.name
            finished.write_bytes(content)
            os.replace(finished, path)
    except OSError:
        return
