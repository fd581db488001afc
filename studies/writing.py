"""Files that are there whole or not at all."""

from __future__ import annotations

import os
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
