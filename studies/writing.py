"""Files that are there whole or not at all, and whether they can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_at_once(path: Path, content: str | bytes) -> None:
    """Writes a file; what stood there is replaced only when all is written.

    Args:
        path: The file; its folder is made if it is missing.
        content: What to write: text with its line ends as they are, or bytes.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_file(option: str, path: Path) -> None:
    """Says now, not when all is worked out, that a file cannot be written; makes its folder.

    Args:
        option: That names it, for the message.
        path: The file.

    Raises:
        ValueError: If it cannot.
    """
    if path.is_dir():
        raise ValueError(f"{option} {path}: must be a file, but is a folder. Name a file in it.")
    make_folder(option, path.parent)


def make_folder(option: str, folder: Path) -> None:
    """Makes a folder, and makes sure that files can be written into it.

    Args:
        option: That names it, or a file in it, for the message.
        folder: The folder.

    Raises:
        ValueError: If it cannot be made or written.

    Example:
        >>> make_folder("--out", Path(__file__))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: --out: .../writing.py must be a folder that can be written, but: File exists...
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{option}: {folder} must be a folder that can be written, but: {error.strerror}. "
            "Take another, or change what stands there."
        ) from None
