"""What a run ran on: one line of `environment.jsonl` each time that it starts or resumes."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from ...allocator.errors import CheckpointError
from ..settings import TrainingSettings

ENVIRONMENT_FILE = "environment.jsonl"


def append_environment(
    folder: Path, rounds_done: int, workers: int, training: TrainingSettings
) -> None:
    """Notes versions, machine, processes and threads, and the round after which they count.

    Nothing of a run depends on these but its speed, and on threads, device and versions the last
    bits of its sums.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    line = {
        "rounds_done": rounds_done,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "fedhq": metadata.version("fedhq"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "workers": workers,
        "threads": training.threads,
        "device": training.device,
    }
    path = folder / ENVIRONMENT_FILE
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"`{path} can be written` must hold, but: {error}. Check the free space of the disk."
        ) from error
