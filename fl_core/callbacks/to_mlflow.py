"""Scalars of a run for MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...allocator.errors import FedHQError
from .callback import RunInfo
from .tracker import TRACKERS_FILE, KeptRun, Tracker, flat_parameters

_MOST_PARAMETERS = 100  # in one request


class MLflow(Tracker):
    """Logs to an MLflow server or store, with the configuration as parameters.

    MLflow's own active run is left alone. A run that stops before its end is marked KILLED; resumed
    it is RUNNING again.

    Args:
        experiment: Its name; made where there is none.
        tracking_uri: Of the server, or for instance `sqlite:///mlflow.db`; MLflow's own choice
            where None.
        run_name: Shown; the name of the run's folder where None.

    Raises:
        FedHQError: If mlflow is not installed.

    Example:
        >>> callbacks = [MLflow(tracking_uri="sqlite:///mlflow.db")]  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment: str = "fedhq",
        tracking_uri: str | None = None,
        run_name: str | None = None,
    ) -> None:
        super().__init__("mlflow")
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._run_name = run_name
        self._client: Any = None
        self._kept: KeptRun
        self._id = ""

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or goes on in the one that a resumed run had.

        Raises:
            FedHQError: If the server does not have that run.
        """
        from mlflow import MlflowClient

        self._kept = KeptRun(run, "mlflow")
        client = MlflowClient(tracking_uri=self._tracking_uri)
        if self._kept.id is None:
            self._id = self._begin(client, run)
            self._kept.note(self._id, run.rounds_done)
        else:
            self._id = self._kept.id
            self._reopen(client)
        self._client = client

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs all in one request."""
        from mlflow.entities import Metric

        if step <= self._kept.round:
            return
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self._id, metrics=metrics)
        self._kept.note(self._id, step)

    def close(self) -> None:
        """Marks how the run ended."""
        if self._client is not None:
            self._client.set_terminated(self._id, "FINISHED" if self._is_complete else "KILLED")
            self._client = None

    def _begin(self, client: Any, run: RunInfo) -> str:
        from mlflow.entities import Param

        experiment = client.get_experiment_by_name(self._experiment)
        experiment_id = (
            client.create_experiment(self._experiment)
            if experiment is None
            else experiment.experiment_id
        )
        name = self._run_name or run.folder.name
        run_id = str(client.create_run(experiment_id, run_name=name).info.run_id)
        parameters = [Param(k, str(v)) for k, v in flat_parameters(run.config).items()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            client.log_batch(run_id, params=parameters[start : start + _MOST_PARAMETERS])
        return run_id

    def _reopen(self, client: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(self._id, status="RUNNING")
        except MlflowException as error:
            raise FedHQError(
                f"`{client.tracking_uri} has run {self._id}` must hold, but: {error} Give the "
                f"tracking_uri of before, or delete {TRACKERS_FILE} in the run's folder to begin "
                "a new run."
            ) from error
