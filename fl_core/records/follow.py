"""Follows the records of a run while another process writes them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from ...allocator.errors import CheckpointError
from .recorder import CLIENTS_FILE, ROUNDS_FILE, WALL_FILE, RecordT, round_of
from .records import ClientRecord, RoundRecord, WallRecord


@dataclass(frozen=True, eq=False)
class FollowedRound:
    """A round that was recorded whole; what its clients did is read when it is asked for.

    Args:
        record: The round's.
        client_lines: Of the clients' file.
        wall_lines: Of the file of wall times; empty if the writer was cutting it just then.

    Raises:
        CheckpointError: On reading a line that is no record.
    """

    record: RoundRecord
    client_lines: tuple[bytes, ...]
    wall_lines: tuple[bytes, ...]

    @cached_property
    def clients(self) -> tuple[ClientRecord, ...]:
        """What each client did."""
        return tuple(_parse(line, ClientRecord) for line in self.client_lines)

    @cached_property
    def wall(self) -> WallRecord | None:
        """Wall times of the machine that trained it."""
        return _parse(self.wall_lines[-1], WallRecord) if self.wall_lines else None


class RunFollower:
    """Gives what is new in a run's folder each time that it is asked.

    A resumed run cuts what it had recorded after its checkpoint, and records these rounds again. If
    they are other bytes than before, they come again here, too: a round whose number is not above
    the last one's takes the place of that round and of all after it.

    Args:
        folder: The run's; neither it nor the records need to be there yet.

    Example:
        >>> list(RunFollower(Path("not", "begun")).new_rounds())
        []
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marks: list[_Mark] = []

    def new_rounds(self) -> Iterator[FollowedRound]:
        """The rounds that were recorded whole since the last call.

        Raises:
            CheckpointError: If a line is no record, or the system refuses to read.
        """
        if not (self._folder / ROUNDS_FILE).exists():
            return
        try:
            with (self._folder / ROUNDS_FILE).open("rb") as rounds:
                self._go_back(rounds)
                lines = list(_whole_lines(rounds))
            if not lines:
                return
            with (
                (self._folder / CLIENTS_FILE).open("rb") as clients,
                (self._folder / WALL_FILE).open("rb") as walls,
            ):
                for line in lines:
                    yield self._take(line, clients, walls)
        except OSError as error:
            raise CheckpointError(
                f"`{self._folder} can be read` must hold, but: {error}. Check its permissions, "
                f"and that {CLIENTS_FILE} and {WALL_FILE} are there."
            ) from error

    def _go_back(self, rounds: BinaryIO) -> None:
        """To the last round that still stands where it was read."""
        size = os.fstat(rounds.fileno()).st_size
        while self._marks:
            mark = self._marks[-1]
            if mark.end <= size:
                rounds.seek(mark.end - len(mark.line))
                if rounds.read(len(mark.line)) == mark.line:
                    return
            self._marks.pop()
        rounds.seek(0)

    def _take(self, line: bytes, clients: BinaryIO, walls: BinaryIO) -> FollowedRound:
        record = _parse(line, RoundRecord)
        before = self._marks[-1] if self._marks else _Mark(b"", 0, 0, 0)
        client_lines, clients_end = _lines_of(record.round, clients, before.clients_end)
        wall_lines, walls_end = _lines_of(record.round, walls, before.walls_end)
        self._marks.append(_Mark(line, before.end + len(line), clients_end, walls_end))
        return FollowedRound(record, client_lines, wall_lines)


def follow(
    folder: Path, poll_seconds: float = 1.0, stop: threading.Event | None = None
) -> Iterator[FollowedRound]:
    """Rounds of a run as another process records them.

    Args:
        folder: The run's; it may not have begun.
        poll_seconds: Time between two looks.
        stop: Set to end it; what is there by then is still given. Without one it never ends.

    Returns:
        Rounds, some of them again if a run is resumed: see `RunFollower`.

    Raises:
        ValueError: If `poll_seconds` is not above 0.
        CheckpointError: As `RunFollower.new_rounds`.

    Example:
        >>> stop = threading.Event()
        >>> stop.set()
        >>> list(follow(Path("not", "begun"), stop=stop))
        []
    """
    if not poll_seconds > 0:
        raise ValueError(f"`poll_seconds > 0` must hold, but got {poll_seconds}.")
    return _follow(RunFollower(folder), poll_seconds, stop or threading.Event())


def _follow(
    follower: RunFollower, poll_seconds: float, stop: threading.Event
) -> Iterator[FollowedRound]:
    is_last = False
    while not is_last:
        is_last = stop.wait(0)
        yield from follower.new_rounds()
        if not is_last:
            stop.wait(poll_seconds)


@dataclass(frozen=True)
class _Mark:
    """A round that was read: its line, and where the files' parts up to it end, in bytes."""

    line: bytes
    end: int
    clients_end: int
    walls_end: int


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Up to the first that is half: its other half may come while this reads."""
    return takewhile(lambda line: line.endswith(b"\n"), file)


def _lines_of(round_number: int, file: BinaryIO, start: int) -> tuple[tuple[bytes, ...], int]:
    """A round's lines after a place, and where they end."""
    file.seek(start)
    lines: list[bytes] = []
    end = start
    for line in _whole_lines(file):
        number = round_of(line)
        if number is None or number > round_number:
            break
        end += len(line)
        if number == round_number:
            lines.append(line)
    return tuple(lines), end


def _parse(line: bytes, kind: type[RecordT]) -> RecordT:
    try:
        return kind(**json.loads(line))
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(
            f"`every line is a {kind.__name__}` must hold, but one is not ({error}): "
            f"{line[:80]!r}. Restore the file, or resume from a checkpoint."
        ) from error
