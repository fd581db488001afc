"""The cells that a study's folder shows: those of what was asked for last."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from .ledger import SETTINGS_FILE, latest_cells
from .problems import RECORDED
from .record import Cell
from .settings import GridSettings, parse_ablation


def asked_cells(folder: Path) -> tuple[Cell, ...]:
    """Of all that was ever measured in a folder what its configuration asks for, as its report.

    Args:
        folder: Of an ablation; all of it counts where no configuration was written down.

    Raises:
        ValueError: If the configuration is none of an ablation.
        DataError: If a cell is damaged.
    """
    path, cells = folder / SETTINGS_FILE, latest_cells(folder)
    if not path.exists():
        return cells
    try:
        grid = parse_ablation(json.loads(path.read_text("utf-8"))).grid
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Run `fedhq study ablation --out {folder}` again, which writes it."
        ) from None
    problems = _recorded(cells, grid)
    return tuple(cell for cell in cells if _is_asked(cell, grid, problems))


def _is_asked(cell: Cell, grid: GridSettings, recorded: frozenset[str]) -> bool:
    if cell.solver not in grid.solvers or cell.time_limit_seconds not in grid.time_limits_seconds:
        return False
    if cell.family == RECORDED:
        return cell.problem in recorded
    generated = cell.family in grid.families
    return generated and cell.clients in grid.sizes and cell.seed in grid.seeds


def _recorded(cells: tuple[Cell, ...], grid: GridSettings) -> frozenset[str]:
    """Names of the recorded tables: of a table that was changed the one measured last.

    A name is that of its file, with a digest of what the file held.
    """
    left = Counter(Path(place).stem for place in grid.recorded)
    names: list[str] = []
    for name in dict.fromkeys(c.problem for c in reversed(cells) if c.family == RECORDED):
        stem = name.rpartition("@")[0]
        if left[stem] > 0:
            left[stem] -= 1
            names.append(name)
    return frozenset(names)
