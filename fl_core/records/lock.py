"""One process works in a folder at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ...allocator.errors import CheckpointError

LOCK_FILE = ".lock"
_BUSY = (errno.EAGAIN, errno.EACCES)


class FolderBusyError(CheckpointError):
    """Another process works in the folder."""


class RunLock:
    """Held while a folder is written; the system frees it when the process ends, however.

    Args:
        folder: Of a run or a study; it must exist.
        on_wait: Called if another process holds it, which is then waited for, however long; where
            None it is an error.

    Raises:
        FolderBusyError: On entering, if another process holds it.
        CheckpointError: On entering, if the folder cannot be written, or its disk knows no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, RunLock(Path(folder)):
        ...     RunLock(Path(folder)).__enter__()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        fedhq.fl_core.records.lock.FolderBusyError: `one process works in .../... a time` must...
    """

    def __init__(self, folder: Path, on_wait: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._on_wait = on_wait
        self._file: int | None = None

    def __enter__(self) -> RunLock:
        try:
            self._file = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CheckpointError(
                f"`{self._folder} can be written` must hold, but: {error}. Check its permissions."
            ) from error
        try:
            self._lock(self._file)
        except BaseException:
            os.close(self._file)
            self._file = None
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, file: int) -> None:
        if _flock(file, self._folder, waits=False):
            return
        if self._on_wait is None:
            raise FolderBusyError(
                f"`one process works in {self._folder} at a time` must hold, but another does. "
                "Wait for it, or take another folder."
            )
        self._on_wait()
        _flock(file, self._folder, waits=True)


def _flock(file: int, folder: Path, *, waits: bool) -> bool:
    """Whether the lock was free, or became it; on systems without `flock` everybody gets it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise CheckpointError(
            f"`{folder} can be locked` must hold, but: {error}. Its disk, perhaps one of a "
            "network, knows no locks: take a folder on another."
        ) from error
    return True
