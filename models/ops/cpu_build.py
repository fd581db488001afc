"""Compiles the CPU kernels with the system's compiler, once, and keeps the result on disk.

Without a compiler the torch kernels do the same work, slower. `CC` names another compiler,
`FEDHQ_CACHE` another folder than the user's cache.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

SOURCES = ("cpu.c", "cpu_pool.h", "cpu_typed.h", "cpu_wire.h", "quant.h")

# Contraction would round differently from CUDA and ATen; without the two -fno- flags floorf and
# rintf are not vectorised. GCC's choice of 256 bits costs the stochastic rounding a third.
_X86_64 = platform.machine().lower() in ("x86_64", "amd64")
_FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=off"),
    *("-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"),
    *(("-mprefer-vector-width=512",) if _X86_64 else ()),
)
_BUILD_SECONDS = 120


class BuildError(RuntimeError):
    """The kernels could not be compiled; its text says why."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$FEDHQ_CACHE`, else the user's cache folder.

    Example:
        >>> cache_folder().name
        'fedhq'
    """
    if chosen := os.environ.get("FEDHQ_CACHE"):
        return Path(chosen) / "fedhq"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedhq"


@functools.cache
def load_library() -> ctypes.CDLL:
    """The compiled kernels; compiles them if this machine has not yet.

    Raises:
        BuildError: If there is no compiler, or it fails.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None or sys.platform == "win32":
        raise BuildError("no C compiler was found. Install gcc or clang, or set CC.")
    path = cache_folder() / f"cpu-{_key(compiler)}.so"
    if not path.exists():
        _build(compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # damaged, or of another system
        _build(compiler, path)
        return ctypes.CDLL(str(path))


def _key(compiler: str) -> str:
    """Of all that the result depends on; -march=native takes the processor's features into it."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, check=False, timeout=_BUILD_SECONDS
    ).stdout
    digest = hashlib.sha256(version + repr((_FLAGS, platform.machine(), _features())).encode())
    for name in SOURCES:
        digest.update(_source(name))
    return digest.hexdigest()[:24]


def _features() -> str:
    """The processor's features, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    wanted = ("flags", "features", "model name")
    return "".join(sorted({line for line in lines if line.lower().startswith(wanted)}))


def _source(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


def _build(compiler: str, path: Path) -> None:
    """Compiles beside the target and renames, so that processes never see half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            for name in SOURCES:
                (Path(folder) / name).write_bytes(_source(name))
            target = Path(folder) / path.name
            # Some compilers come without OpenMP: one thread is better than none.
            said = _compile(compiler, Path(folder), target, "-fopenmp")
            if said and _compile(compiler, Path(folder), target):
                raise BuildError(f"{compiler} failed: {said[:2000]}")
            os.replace(target, path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(
            f"the kernels could not be compiled into {path.parent}: {error}. "
            "FEDHQ_CACHE names another folder."
        ) from None


def _compile(compiler: str, folder: Path, target: Path, *more: str) -> str:
    """What the compiler said when it failed; nothing where it did not."""
    command = [compiler, *_FLAGS, *more, "-o", str(target), str(folder / "cpu.c"), "-lm"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
    )
    return (done.stderr.strip() or "no message") if done.returncode else ""
