"""Writes and reads the records of a run: three append-only files of JSON lines in its folder.

`records` says what stands in a line; every line begins with its round. A round's clients are
written first and its round last: a line in rounds.jsonl says that the round is whole. A process
that is killed may leave half a line at the end of a file; readers leave that out, and
`RunRecorder.truncate` removes it with all that was written after a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from ...allocator.errors import CheckpointError
from .records import ClientRecord, Record, RoundRecord, WallRecord

ROUNDS_FILE = "rounds.jsonl"
CLIENTS_FILE = "clients.jsonl"
WALL_FILE = "wall.jsonl"

_FILES = (CLIENTS_FILE, WALL_FILE, ROUNDS_FILE)
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_ROUND = re.compile(rb'\{"round":(\d+),')

RecordT = TypeVar("RecordT", RoundRecord, ClientRecord, WallRecord)


class RunRecorder:
    """Appends records to a run's folder; one process writes a folder at a time.

    Args:
        folder: The run's folder; made if it does not exist.

    Raises:
        CheckpointError: Like every method here, if the system refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RunRecorder(Path(folder)).truncate(0)
        ...     read_rounds(Path(folder))
        []
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(folder, "made", error) from error

    def append(
        self,
        round_record: RoundRecord,
        client_records: Sequence[ClientRecord],
        wall_record: WallRecord,
    ) -> None:
        """Writes a round's records and hands them to the operating system.

        Raises:
            ValueError: If the records belong to different rounds.
            CheckpointError: If a file ends in half a line.
        """
        rounds = {round_record.round, wall_record.round, *(c.round for c in client_records)}
        if len(rounds) > 1:
            raise ValueError(f"records of one round must be given, but got {sorted(rounds)}.")
        self._write(CLIENTS_FILE, client_records)
        self._write(WALL_FILE, [wall_record])
        self._write(ROUNDS_FILE, [round_record])

    def flush(self) -> None:
        """Has all that was written on the disk: what a checkpoint relies on."""
        for name in _FILES:
            _shorten(self._folder / name, None)

    def truncate(self, round_number: int) -> None:
        """Drops what was written after a round; all files are checked before one is changed.

        Args:
            round_number: The last round to keep; 0 keeps nothing.

        Raises:
            CheckpointError: If a file is missing or does not reach to the end of the round.
        """
        ends = {self._folder / name: 0 for name in _FILES}
        if round_number > 0:
            ends = {path: _end_of_round(path, round_number) for path in ends}
        for path, end in ends.items():
            _shorten(path, end)

    def _write(self, name: str, records: Sequence[Record]) -> None:
        path = self._folder / name
        lines = b"".join(_to_line(record) for record in records)
        try:
            with path.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size and file.seek(size - 1) >= 0 and file.read(1) != b"\n":
                    raise CheckpointError(
                        f"`{path} ends in a whole line` must hold before it is appended to, but "
                        "its last line is half: truncate to the offsets of a checkpoint first."
                    )
                file.write(lines)
        except OSError as error:
            raise _failed(path, "written", error) from error


def read_rounds(folder: Path) -> list[RoundRecord]:
    """Reads the rounds of a run, without a last line that was not written whole.

    Raises:
        CheckpointError: If the file is missing, or another line is no record.
    """
    return _read(folder / ROUNDS_FILE, RoundRecord)


def read_clients(folder: Path) -> list[ClientRecord]:
    """Reads what the clients did, perhaps in a round more than `read_rounds` if a run was killed.

    Raises:
        CheckpointError: As `read_rounds`.
    """
    return _read(folder / CLIENTS_FILE, ClientRecord)


def read_walls(folder: Path) -> list[WallRecord]:
    """Reads the wall-clock times of a run's rounds.

    Raises:
        CheckpointError: As `read_rounds`.
    """
    return _read(folder / WALL_FILE, WallRecord)


def round_of(line: bytes) -> int | None:
    """The round with which a line begins; None where it is no record's.

    Example:
        >>> round_of(b'{"round":12,"client":3,'), round_of(b'{"client":3')
        (12, None)
    """
    found = _ROUND.match(line)
    return None if found is None else int(found[1])


def _to_line(record: Record) -> bytes:
    return _ENCODER.encode(vars(record)).encode("ascii") + b"\n"


def _read(path: Path, kind: type[RecordT]) -> list[RecordT]:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise _failed(path, "read", error) from error
    names = [field.name for field in fields(kind)]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            pairs = json.loads(line, object_pairs_hook=list)
            if line[:1] != b"{" or [pair[0] for pair in pairs] != names:
                raise ValueError(f"its keys must be {names}")
            records.append(kind(**dict(pairs)))
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(
                f"`every line is a {kind.__name__}` must hold, but line {number} of {path} is not "
                f"({error}): {line[:80]!r}. Restore the file, or resume from a checkpoint."
            ) from error
    return records


def _end_of_round(path: Path, round_number: int) -> int:
    """Where the last whole line of the rounds up to this one ends, in bytes."""
    again = "The records are not this checkpoint's: restore the file or start the run anew."
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise _failed(path, "read", error, again) from error
    end, last = 0, 0
    for line in lines:
        number = round_of(line)
        if number is None or number > round_number:
            break
        end, last = end + len(line) + 1, number
    if last != round_number:
        raise CheckpointError(
            f"`{path} holds round {round_number}` must hold, but its whole lines end with round "
            f"{last}. {again}"
        )
    return end


def _shorten(path: Path, offset: int | None) -> int:
    """Cuts a file, flushes it to the disk and returns its size; makes it if it is missing."""
    try:
        with path.open("ab") as file:
            if offset is not None:
                file.truncate(offset)
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _failed(path, "flushed to the disk", error) from error


def _failed(path: Path, verb: str, error: OSError, mend: str | None = None) -> CheckpointError:
    mend = mend or "Check the path, its permissions and the free space of the disk."
    return CheckpointError(f"`{path} can be {verb}` must hold, but: {error}. {mend}")
