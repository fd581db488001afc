"""The help texts of Python's own documentation as characters to predict."""

from __future__ import annotations

import string
from pydoc_data.topics import topics

import numpy as np

from ...allocator.arrays import IntArray

WINDOW = 64
"""Characters of a window."""

OTHER = "\N{REPLACEMENT CHARACTER}"
"""Stands for every character that the alphabet lacks."""

ALPHABET = "".join(
    ["\n", *(c for c in map(chr, range(32, 127)) if c not in string.ascii_uppercase), OTHER]
)
"""Newline, printable ASCII without capitals, and `OTHER`; a character's code is its place."""


def encode_text(text: str) -> IntArray:
    r"""Codes of a text's characters, capitals as small letters.

    Args:
        text: Any text.

    Returns:
        `(characters,)` int64 in `0 ... len(ALPHABET) - 1`.

    Example:
        >>> encode_text("\n !").tolist(), encode_text("Ab").tolist() == encode_text("aB").tolist()
        ([0, 1, 2], True)
    """
    codes = {character: code for code, character in enumerate(ALPHABET)}
    lowered = "".join(c.lower() if c in string.ascii_uppercase else c for c in text)
    return np.array([codes.get(c, codes[OTHER]) for c in lowered], dtype=np.int64)


def pydoc_windows() -> tuple[IntArray, IntArray]:
    """Windows of the help texts, one after the other in the order of their titles.

    The texts are those of the running Python: another version may have other windows.

    Returns:
        `(windows, 64)` characters, and `(windows, 64)` the character after each.
    """
    codes = encode_text("\n".join(topics[title] for title in sorted(topics)))
    count = (len(codes) - 1) // WINDOW
    end = count * WINDOW
    return codes[:end].reshape(count, WINDOW), codes[1 : end + 1].reshape(count, WINDOW)
