"""Seven shoulder exercises as a smartwatch measures them: windows of acceleration and rotation.

References:
    Burns et al., Physiological Measurement 39 (2018): shoulder physiotherapy exercise recognition.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...allocator.arrays import IntArray
from .object_array import read_object

WINDOW = 100
"""Steps of a window: two seconds."""
_STRIDE = 50

# Per channel (acceleration x, y, z in g; rotation x, y, z in rad/s) over all 244 102 steps.
_MEAN = np.array([-0.0076, 0.3794, -0.1470, 0.0253, -0.0015, 0.0118])
_SPREAD = np.array([0.9033, 0.4936, 0.5381, 0.9817, 2.4961, 1.0522])


def read_smartwatch(path: Path) -> tuple[NDArray[np.float32], IntArray, IntArray]:
    """Cuts 140 recordings of 20 wrists into windows that overlap by half.

    Args:
        path: The file `watch_dataset.npy` of the package seglearn.

    Returns:
        `(windows, 6, 100)` measurements, each channel scaled to mean 0 and spread 1 over all
        recordings; `(windows,)` exercises in 0 ... 6; and `(windows,)` wrists in 0 ... 19: ten
        people, two sides.

    Raises:
        ValueError: If the file is damaged or of another layout.
    """
    content = read_object(path)
    keys = ("X", "y", "subject", "side")
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise ValueError(
            f"{path} must hold a dictionary with {', '.join(keys)}. Install seglearn anew."
        )
    people, sides = (np.unique(content[key], return_inverse=True)[1] for key in keys[2:])
    windows, labels, wrists = [], [], []
    for series, label, wrist in zip(content["X"], content["y"], 2 * people + sides, strict=True):
        scaled = (series - _MEAN) / _SPREAD
        cut = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW, axis=0)[::_STRIDE]
        windows.append(cut.astype(np.float32))
        labels.append(np.full(len(cut), label, dtype=np.int64))
        wrists.append(np.full(len(cut), wrist, dtype=np.int64))
    return np.concatenate(windows), np.concatenate(labels), np.concatenate(wrists)
