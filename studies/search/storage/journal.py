"""A journal file that survives processes which are killed while they write to it."""

from __future__ import annotations

import errno
import io
import json
import os
import time
from typing import Any

from optuna.storages.journal import JournalFileBackend

try:
    import fcntl
except ImportError:  # not on Windows
    CAN_LOCK = False
else:
    CAN_LOCK = True

_FLUSH_SECONDS = 1.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_BLOCK = 1 << 16
_FIRST = b'{"op_code":'


class SharedJournal(JournalFileBackend):
    """Optuna's journal of JSON lines, written by many processes of which any may be killed.

    Optuna's own backend marks a write by a link beside the file, for which all others wait half a
    minute once its owner was killed, and a line that was half written makes the file unreadable.
    Here the system holds the lock and frees it with its owner, and half a line is cut off before
    the next is written. Readers are Optuna's. Lines are on the disk within a second of the next
    line; what only a failure of power can lose.

    Args:
        path: The file; it is made if it does not exist.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = path
        self._flushed = 0.0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends operations, all or none of them."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self._path, "r+b") as file:
            if not _lock(file.fileno()):
                super().append_logs(logs)
                return
            _cut_half_line(file)
            file.write(lines.encode())
            file.flush()
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                os.fsync(file.fileno())
                self._flushed = time.monotonic()


def _lock(file: int) -> bool:
    """Waits for the lock, which closing the file frees; False where the file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _cut_half_line(file: io.BufferedRandom) -> None:
    """Leaves the file at its end, which is the end of a line."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    file.truncate(end)
    file.seek(end)


def check_journal(path: str) -> None:
    """Refuses a file that is no journal, before anything reads or changes it.

    Raises:
        ValueError: If its first line is none of Optuna's operations; the message says what it is.
    """
    with open(path, "rb") as file:
        first = file.readline(_BLOCK)
    if not first.endswith(b"\n") and _FIRST.startswith(first[: len(_FIRST)]):
        return  # new, or its first line was half written
    try:
        line = json.loads(first)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not {"op_code", "worker_id"} <= line.keys():
        raise ValueError(f"its first line is {first[:40]!r}")
