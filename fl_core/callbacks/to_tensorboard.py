"""Scalars of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .callback import RunInfo
from .tracker import Tracker, flat_parameters


class TensorBoard(Tracker):
    """Writes event files, with the configuration as hyperparameters.

    What was written after the checkpoint from which a run is resumed is purged.

    Args:
        folder: Where they go; the folder `tensorboard` of the run's where None.

    Raises:
        FedHQError: If tensorboard is not installed.

    Example:
        >>> callbacks = [TensorBoard()]  # doctest: +SKIP
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("tensorboard")
        self._folder = folder
        self._writer: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Opens a new event file beside those of a resumed run."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = run.folder / "tensorboard" if self._folder is None else self._folder
        self._writer = SummaryWriter(str(folder), purge_step=run.rounds_done + 1)
        # Not `add_hparams`, which would begin a run of its own for them.
        parameters = flat_parameters(run.config)
        summaries = hparams(parameters, {"deployed_accuracy": 0})  # type: ignore[no-untyped-call]
        for summary in summaries:
            self._writer.file_writer.add_summary(summary)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes them at once: what is recorded is never ahead by more than a round."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
