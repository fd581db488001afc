"""Frontiers that took seconds to compute, in a search's folder for all of its processes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....allocator import AllocationProblem, Frontier
from ...plan_json import problem_to_json
from ...writing import write_at_once

_FOLDER = "frontiers"
_FORMAT = "1"
_DIGITS = 16
_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Shelf:
    """Keeps frontiers as files that are named by a digest of all numbers of their problems.

    A file that cannot be read or does not fit is as good as none, and so is one that cannot be
    written.

    Args:
        folder: The search's; nothing is kept where None.
    """

    folder: Path | None = None

    def take(self, problem: AllocationProblem, merged: AllocationProblem) -> Frontier | None:
        """The frontier of a problem; None where none is kept.

        Args:
            problem: Without a goal; its name.
            merged: The same with its groups merged, of which the points are.
        """
        if self.folder is None:
            return None
        try:
            content = io.BytesIO(_path(self.folder, problem).read_bytes())
            with np.load(content, allow_pickle=False) as file:
                seconds, loss, gap = file["round_seconds"], file["loss"], float(file["gap"])
                choices = file["choices"].astype(np.int64)
        except _DAMAGED:
            return None
        if choices.shape != (len(seconds), merged.num_clients) or seconds.shape != loss.shape:
            return None
        return Frontier(seconds, loss, gap, merged, lambda k: choices[k])

    def put(self, problem: AllocationProblem, frontier: Frontier | None) -> None:
        """Keeps the frontier of a problem; where there is none, nothing."""
        if self.folder is None or frontier is None:
            return
        rows = [frontier.allocation(k).choice for k in range(len(frontier))]
        content = io.BytesIO()
        np.savez_compressed(
            content,
            round_seconds=frontier.round_seconds,
            loss=frontier.loss,
            gap=frontier.gap,
            choices=np.array(rows, dtype=np.uint8),
        )
        with suppress(OSError):  # it costs time, not the search
            write_at_once(_path(self.folder, problem), content.getvalue())


def _path(folder: Path, problem: AllocationProblem) -> Path:
    told = _FORMAT + problem_to_json(problem)
    name = hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]
    return folder / _FOLDER / f"{name}.npz"
