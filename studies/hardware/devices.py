"""Other devices, which this machine plays: processors of older instructions, of no compiler.

Each is a process of its own, for these are settings that torch reads when it is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cases import Case
from .measuring import Measured, read


@dataclass(frozen=True)
class PlayedDevice:
    """A device, and the environment that makes a process one.

    Args:
        name: What the page calls it.
        environment: Variables and their values.
    """

    name: str
    environment: tuple[tuple[str, str], ...]


DEVICES = (
    PlayedDevice("AVX2", (("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"))),
    PlayedDevice("SSE 4.1", (("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "SSE41"))),
    PlayedDevice("no compiled kernels", (("FEDHQ_KERNELS", "torch"),)),
)


def measure_on(
    device: PlayedDevice, folder: Path, cases: Sequence[Case], options: Sequence[str]
) -> list[Measured]:
    """Measures cases on a played device, in a process of its own.

    Args:
        device: The device.
        folder: Where its measurements are kept.
        cases: What is read of them.
        options: More options of the command that measures.
    """
    path = folder / f"{device.name.replace(' ', '-')}.jsonl"
    command = [sys.executable, "-m", __package__, "--measure", str(path), *options]
    subprocess.run(command, env=os.environ | dict(device.environment), check=True)
    found = {one.case: one for one in read(path)}
    return [found[case] for case in cases]
