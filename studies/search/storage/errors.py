"""What a search may fail with that its caller can handle."""

from __future__ import annotations

from ....allocator.errors import FedHQError


class StorageError(FedHQError):
    """A storage of studies is not there, not ours or does not answer: the message says the mend."""


class StudyError(FedHQError):
    """A study is not the one that was asked for: it has other objectives, or another set-up."""


class WorkerError(FedHQError):
    """Workers cannot go on: the same failure comes again and again; the message shows it."""
