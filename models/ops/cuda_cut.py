"""How the CUDA kernels cut rows: into pieces, and the pieces' work among teams of threads."""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
THREADS = 256
"""Of a block, where its size is free."""

LONGEST_WHOLE = 16384
"""Elements of a row that is not cut."""
_PIECE = 8192
_MOST_PIECES = 1024


def ceil_div(total: int, part: int) -> int:
    """How many parts hold a total.

    Example:
        >>> ceil_div(7, 3)
        3
    """
    return -(-total // part)


@dataclass(frozen=True)
class Cut:
    """The structure `Shape` of the kernels, and the launch that goes with it.

    Args:
        rows: Of the tensor.
        cols: Of the tensor.
        pieces: Of a row.
        length: Elements of a piece; the last of a row may be shorter.
        team: Threads for a piece: a power of two up to a warp, or a whole block of warps.
    """

    rows: int
    cols: int
    pieces: int
    length: int
    team: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return THREADS if self.team <= WARP else self.team

    @property
    def blocks(self) -> int:
        """That hold all teams."""
        return ceil_div(self.rows * self.pieces, self.threads // self.team)

    def fields(self, symmetric: bool) -> tuple[int, ...]:
        """The structure's fields."""
        return (self.rows, self.cols, self.pieces, self.length, self.team, symmetric)


def team_for(elements: int, items: int, most: int = THREADS) -> int:
    """Threads that hold so many elements if each holds `items`; at most `most`.

    Example:
        >>> team_for(9, 8), team_for(100, 8), team_for(1000, 16), team_for(10**6, 16)
        (4, 16, 64, 256)
    """
    lanes = ceil_div(elements, items)
    if lanes > WARP:
        return min(most, WARP * ceil_div(lanes, WARP))
    # Fewer than four lanes would read and write memory in crumbs.
    return max(4, 1 << max(lanes - 1, 0).bit_length())


def cut_rows(rows: int, cols: int, items: int) -> Cut:
    """Long rows in pieces of 8192 elements, or in 1024 longer ones; others whole.

    Example:
        >>> cut_rows(1, 2**26, 16).length, cut_rows(4096, 4096, 16).pieces
        (65536, 1)
    """
    if cols <= LONGEST_WHOLE:
        return Cut(rows, cols, 1, cols, team_for(cols, items))
    length = _PIECE * ceil_div(cols, _PIECE * _MOST_PIECES)
    return Cut(rows, cols, ceil_div(cols, length), length, THREADS)
