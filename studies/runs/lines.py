"""Files to which several processes append lines of JSON, and may end while they do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...fl_core.records.lock import RunLock


def append_lines(path: Path, lines: str) -> None:
    """Appends whole lines, one process at a time.

    What another process left torn is ended first, so that it spoils no line but its own.

    Args:
        path: The file; it is made if it is missing.
        lines: Each with its end.
    """
    with RunLock(path.parent, on_wait=lambda: None), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            lines = lines if file.read() == b"\n" else f"\n{lines}"
        file.write(lines.encode())


def whole_lines(content: bytes) -> Iterator[dict[str, Any]]:
    r"""What the lines tell; those that a process tore as it ended are left out.

    Args:
        content: Of such a file. What follows the last end of a line may still be written.

    Example:
        >>> list(whole_lines(b'{"a": 1}\n{"a":\n{"a": 3}\n{"a": 4}'))
        [{'a': 1}, {'a': 3}]
    """
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        yield told
