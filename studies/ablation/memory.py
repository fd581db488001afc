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
        others_seconds: Processor time of processes that this one had started and that had ended.
    """

    start_bytes: int | None
    others_seconds: float

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
        except OSError:  # another system, or not allowed
            return cls(None, 0.0)
        return cls(_status_bytes("VmRSS"), _others_seconds())

    def rise_bytes(self) -> int | None:
        """The highest rise since then; None where the system does not tell.

        None, too, where another process was started and did the work: its peak is not known here.
        """
        if self.start_bytes is None or _others_seconds() > self.others_seconds:
            return None
        peak = _status_bytes("VmHWM")
        return None if peak is None else max(0, peak - self.start_bytes)


def _others_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


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
