"""What an ablation leaves in its folder: a line for every cell, and where the figures come from.

`cells.jsonl` is only ever appended to, a whole line at a time, and each line is on the disk before
the next cell is measured: whatever ends the process, no measured cell is lost or there twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType

from ...allocator.errors import CheckpointError, DataError
from ...fl_core.records.lock import RunLock
from ..provenance import Provenance
from ..writing import write_at_once
from .record import CELLS_FILE, Cell, cell_to_json

SETTINGS_FILE = "ablation.json"
PROVENANCE_FILE = "provenance.json"

_FIELDS = frozenset(f.name for f in fields(Cell))


@dataclass(frozen=True)
class Identity:
    """What a cell must share with what is asked for to stand for it.

    Args:
        problem: Its name.
        solver: Its name.
        settings: All of the solver's settings.
        solver_version: Of what solves.
        fedhq: Version of fedhq, which makes the problems and checks the answers.
        time_limit_seconds: What the solver is given.
    """

    problem: str
    solver: str
    settings: str
    solver_version: str
    fedhq: str
    time_limit_seconds: float


class Ledger:
    """A study's folder while it is written: a context that one process holds at a time.

    Args:
        folder: Of an ablation, or empty, or still to be made.

    Raises:
        ValueError: On entering, if something else stands in the folder.
        CheckpointError: On entering, if it cannot be written, or another process holds it.
        DataError: On entering, if a line is damaged; a last line without its end is what a kill
            left, and is taken off.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provenance: dict[str, Provenance] = {}
        self._cells: dict[Identity, Cell] = {}
        self._lock = RunLock(folder)

    def __enter__(self) -> Ledger:
        _check_folder(self.folder)
        self._lock.__enter__()
        try:
            self.provenance = _read_provenance(self.folder / PROVENANCE_FILE)
            _take_off_torn_line(self.folder / CELLS_FILE)
            self._cells = {self._identity(cell): cell for cell in read_cells(self.folder)}
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._cells

    def __getitem__(self, identity: Identity) -> Cell:
        return self._cells[identity]

    def describe(self, settings: str) -> None:
        """Writes down what is asked for, as JSON."""
        write_at_once(self.folder / SETTINGS_FILE, settings)

    def sign(self, here: Provenance) -> str:
        """Notes where cells come from that are measured from now on.

        Returns:
            The key that they name.
        """
        lasting = json.dumps(asdict(replace(here, started="")), sort_keys=True)
        key = hashlib.sha256(lasting.encode()).hexdigest()[:8]
        if key not in self.provenance:
            self.provenance[key] = here
            tables = {name: asdict(one) for name, one in self.provenance.items()}
            write_at_once(self.folder / PROVENANCE_FILE, json.dumps(tables, indent=2) + "\n")
        return key

    def add(self, cell: Cell) -> None:
        """Writes a cell down; it is on the disk when this returns."""
        line = json.dumps(cell_to_json(cell), allow_nan=False) + "\n"
        with open(self.folder / CELLS_FILE, "ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._cells[self._identity(cell)] = cell

    def _identity(self, cell: Cell) -> Identity:
        source = self.provenance.get(cell.provenance)
        return Identity(
            cell.problem,
            cell.solver,
            cell.settings,
            cell.solver_version,
            "" if source is None else source.fedhq,
            cell.time_limit_seconds,
        )


def read_cells(folder: Path) -> Iterator[Cell]:
    """All cells of a study's folder, in the order in which they were measured, of all settings.

    Raises:
        DataError: If a line is damaged; a last one without its end is left out.
    """
    path = folder / CELLS_FILE
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            yield _cell(path, number, line)


def latest_cells(folder: Path) -> tuple[Cell, ...]:
    """Of every problem, solver and limit in a study's folder the cell that was measured last.

    Raises:
        DataError: As `read_cells`.
    """
    return tuple({cell.key: cell for cell in read_cells(folder)}.values())


def _cell(path: Path, number: int, line: bytes) -> Cell:
    try:
        table = json.loads(line)
        if not isinstance(table, dict) or set(table) != _FIELDS:
            raise ValueError("its fields are not those of a cell")
        return Cell(**table)
    except ValueError as error:
        raise DataError(
            f"{path}, line {number}: must be a cell of an ablation, but {error}. Delete that line "
            "(the cell is measured again), or take another folder."
        ) from None


def _check_folder(folder: Path) -> None:
    """Makes it, if nothing stands there; nothing is written where something else stands."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise CheckpointError(
            f"`{folder} is a folder or can be made` must hold, but: {error.strerror}. Take another "
            "one with --out."
        ) from error
    if names and not {SETTINGS_FILE, CELLS_FILE, PROVENANCE_FILE} & set(names):
        raise ValueError(
            f"{folder}: must be a folder of an ablation or empty, but holds {', '.join(names[:3])}"
            f"{' and more' if len(names) > 3 else ''}. Take another one with --out."
        )


def _take_off_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _read_provenance(path: Path) -> dict[str, Provenance]:
    if not path.exists():
        return {}
    try:
        tables = json.loads(path.read_text("utf-8"))
        return {key: Provenance(**table) for key, table in tables.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: must say where an ablation's figures come from, but {error}. Take another "
            "folder."
        ) from None
