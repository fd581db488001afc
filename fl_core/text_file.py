"""Reads tables from text files within bounds; messages name the file and the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Source:
    """A text that was read, and what messages call the place it came from.

    Args:
        name: The path, or `standard input`.
        text: All of it.
    """

    name: str
    text: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Source:
        """Decodes a file's bytes; drops a byte order mark.

        Raises:
            ValueError: If they are no text in UTF-8.

        Example:
            >>> Source.of("a.csv", b"client,slowdown").at(1)
            'a.csv, line 1'
        """
        try:
            text = content.decode("utf-8-sig")
            bad = text.find("\0")
        except UnicodeDecodeError as error:
            text, bad = "", error.start
        if bad >= 0:
            line = content.count(b"\n", 0, bad) + 1
            raise ValueError(
                f"{name}, line {line}: the file must be text in UTF-8, but byte {bad} is not. "
                "Save it as UTF-8."
            )
        return cls(name, text)

    def at(self, line: int) -> str:
        """A line, for the start of a message."""
        return f"{self.name}, line {line}"


def read_bounded(name: str, file: BinaryIO, most_bytes: int, mend: str) -> bytes:
    """All of a file, if that is not too much.

    Args:
        name: What messages call it.
        file: Where to read.
        most_bytes: Its size at most; no more is read.
        mend: What to do about a larger one, for the message.

    Raises:
        ValueError: If it is larger.
    """
    content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(
            f"{name}: `size <= {most_bytes >> 20} MiB` must hold, but it is larger. {mend}"
        )
    return content


def csv_lines(source: Source) -> Iterator[tuple[int, list[str]]]:
    """The number and values of every line that is not blank; the header first.

    Raises:
        ValueError: If it is no CSV, or a line has not as many values as the header.
    """
    reader = csv.reader(io.StringIO(source.text), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if header is not None and len(values) != len(header):
                raise ValueError(
                    f"{source.at(reader.line_num)}: must have {len(header)} values like the "
                    f"header, but has {len(values)}. Put names with a comma in quotes."
                )
            header = values if header is None else header
            yield reader.line_num, values
    except csv.Error as error:
        raise ValueError(f"{source.at(reader.line_num)}: must be valid CSV, but {error}.") from None
