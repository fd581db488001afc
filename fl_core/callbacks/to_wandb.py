"""Scalars of a run for Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .callback import RunInfo
from .tracker import KeptRun, Tracker, flat_parameters


class WeightsAndBiases(Tracker):
    """Logs to Weights & Biases, with the configuration as its own.

    Offline, every time that a run is resumed has files of its own under the same id;
    `wandb sync --append` puts them together.

    Args:
        project: Its name.
        mode: `online`, `offline` or `disabled`; as the environment says where None.
        entity: Team or person; the person's default where None.
        run_name: Shown; the name of the run's folder where None.
        folder: For its files; the run's folder where None.

    Raises:
        FedHQError: If wandb is not installed.

    Example:
        >>> callbacks = [WeightsAndBiases(mode="offline")]  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str = "fedhq",
        mode: Literal["online", "offline", "disabled"] | None = None,
        entity: str | None = None,
        run_name: str | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__("wandb")
        self._project = project
        self._mode = mode
        self._entity = entity
        self._run_name = run_name
        self._folder = folder
        self._run: Any = None
        self._kept: KeptRun

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or goes on in the one that a resumed run had."""
        import wandb

        self._kept = KeptRun(run, "wandb")
        self._run = wandb.init(
            project=self._project,
            mode=self._mode,
            entity=self._entity,
            name=self._run_name or run.folder.name,
            dir=str(self._folder or run.folder),
            id=self._kept.id,
            resume="allow",
            reinit="create_new",  # beside others of this process
            config=flat_parameters(run.config),
            settings=wandb.Settings(console="off"),  # leaves the terminal to its owner
        )
        if self._kept.id is None:
            self._kept.note(self._run.id, run.rounds_done)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs them."""
        if step > self._kept.round:
            self._run.log(dict(scalars), step=step)
            self._kept.note(self._run.id, step)

    def close(self) -> None:
        """Ends the run; one that is not complete counts as failed until it is resumed."""
        if self._run is not None:
            self._run.finish(exit_code=0 if self._is_complete else 1)
            self._run = None
