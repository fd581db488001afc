"""By how much this process' memory rises at most while something runs in it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_RESET_PEAK = "5"  # of /proc/self/clear_refs: the peak becomes what is resident now
_KIB = 1024


@dataclass(frozen=True)
class MemoryMark:
    """Where memory stood before something ran.

    Args:
        start_bytes: Resident then; None where the system does not tell peaks.
        others: What processes had done until then that this one had started.
    """

    start_bytes: int | None
    others: _Others | None

    @classmethod
    def now(cls) -> MemoryMark:
        """Gives free memory back to the system and starts a new peak.

        Example:
            >>> mark = MemoryMark.now()
            >>> held = bytearray(b"x") * 20_000_000
            >>> (rise := mark.rise_bytes()) is None or rise > 15_000_000
            True
        """
        gc.collect()
        _give_back()()
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, "ascii")
            return cls(_status_bytes("VmRSS"), _Others.now())
        except OSError:  # another system, or not allowed
            return cls(None, None)

    def rise_bytes(self) -> int | None:
        """The highest rise since then; None where the system does not tell.

        None, too, where another process did some of the work: its peak is not known here.
        """
        try:
            if self.start_bytes is None or _Others.now() != self.others:
                return None
        except OSError:  # one of them has just ended
            return None
        peak = _status_bytes("VmHWM")
        return None if peak is None else max(0, peak - self.start_bytes)


@dataclass(frozen=True)
class _Others:
    """What the processes did that this one has started; to the nanosecond, as some are short.

    Args:
        ended_seconds: Processor time of those that ended.
        living: Number of each that lives, and how long and how often it ran.
    """

    ended_seconds: float
    living: tuple[tuple[str, str], ...]

    @classmethod
    def now(cls) -> _Others:
        """Until now.

        Raises:
            OSError: If the system does not tell.
        """
        import resource  # not on every system

        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Those that the main thread has started; a kernel may be built without this file.
        living = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
        spent = tuple((n, Path(f"/proc/{n}/schedstat").read_text("ascii")) for n in sorted(living))
        return cls(ended.ru_utime + ended.ru_stime, spent)


def _status_bytes(key: str) -> int | None:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * _KIB
    return None


@cache
def _give_back() -> Callable[[], object]:
    """What makes glibc return what it keeps of freed memory; nothing elsewhere.

    Else a solver would be let off for what those before it left.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return (lambda: None) if trim is None else (lambda: trim(0))
