"""Frontiers that took seconds to compute, in a search's folder for all of its processes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....allocator import AllocationProblem, Frontier
from ....allocator.frontier import find_frontier
from ...plan_json import problem_to_json
from ...writing import write_at_once

_FOLDER = "frontiers"
_FORMAT = "1"
_DIGITS = 16
_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Shelf:
    """Keeps frontiers as files that are named by the problem, number by number.

    A file that is missing, cannot be read or does not fit is computed anew; one that cannot be
    written is not missed.

    Args:
        folder: The search's; nothing is kept where None.
    """

    folder: Path | None = None

    def find(self, problem: AllocationProblem, merged: AllocationProblem) -> Frontier | None:
        """The frontier of a problem, read or computed.

        Args:
            problem: Without a goal.
            merged: The same with its groups merged, of which the points are.

        Returns:
            The frontier; None where no allocation keeps the limits.
        """
        if self.folder is None:
            return find_frontier(merged)
        told = _FORMAT + problem_to_json(problem)
        name = hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]
        path = self.folder / _FOLDER / f"{name}.npz"
        known = _read(path, merged)
        if known is None:
            known = find_frontier(merged)
            if known is not None:
                _write(path, known)
        return known


def _read(path: Path, problem: AllocationProblem) -> Frontier | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            seconds, loss, choices = file["round_seconds"], file["loss"], file["choices"]
            gap = float(file["gap"])
    except _DAMAGED:
        return None
    if (
        not len(seconds) == len(loss) == len(choices)
        or choices.shape[1:] != problem.seconds.shape[:1]
    ):
        return None
    return Frontier(seconds, loss, gap, problem, lambda k: choices[k].astype(np.int64))


def _write(path: Path, frontier: Frontier) -> None:
    choices = np.array(
        [frontier.allocation(k).choice for k in range(len(frontier))], dtype=np.uint8
    )
    file = io.BytesIO()
    np.savez_compressed(
        file,
        round_seconds=frontier.round_seconds,
        loss=frontier.loss,
        gap=frontier.gap,
        choices=choices,
    )
    try:
        write_at_once(path, file.getvalue())
    except OSError:
        return  # it costs time, not the search
