"""What trackers share: scalars of a round, parameters, the run that they go on in."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from ...allocator.errors import FedHQError
from ..records.records import STATUSES, ClientRecord, RoundRecord, WallRecord
from .callback import Callback, RunInfo

TRACKERS_FILE = "trackers.json"
_LONGEST_TEXT = 500  # of a parameter: older MLflow servers take no more


class Tracker(Callback, ABC):
    """Logs every round's scalars with its number as step; a subclass says where.

    Args:
        package: What it needs.

    Raises:
        FedHQError: If the package is not installed.
    """

    def __init__(self, package: str) -> None:
        if find_spec(package) is None:
            raise FedHQError(
                f"{type(self).__name__} needs {package}, which is not installed: "
                "pip install 'fedhq[track]'"
            )
        self._strategies: set[str] = set()
        self._is_complete = False

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """Logs the round; a strategy that came before and does not now counts 0."""
        self._strategies |= {c.strategy for c in clients}
        self.log(record.round, round_scalars(record, clients, wall, self._strategies))

    def on_end(self, weights: Mapping[str, Any]) -> None:
        """Notes that the run is complete: it is closed so."""
        self._is_complete = True

    @abstractmethod
    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Hands the scalars of a step over."""


class KeptRun:
    """A tracker's run, kept in a file of the run's folder, so that a resumed run goes on in it.

    A run resumes at its checkpoint; rounds that were logged after it come again with equal values,
    and are not logged twice.

    Args:
        run: What is known of the run; one that begins anew has a new run in the tracker, too.
        tracker: The tracker's name in the file.

    Raises:
        FedHQError: If the file is damaged.
    """

    def __init__(self, run: RunInfo, tracker: str) -> None:
        self._path = run.folder / TRACKERS_FILE
        self._tracker = tracker
        kept: dict[str, Any] = self._read().get(tracker, {}) if run.rounds_done else {}
        self.id: str | None = kept.get("run")
        self.round: int = kept.get("round", 0)

    def note(self, run_id: str, round_number: int) -> None:
        """Keeps the run, and the last round that was logged in it."""
        self.id, self.round = run_id, round_number
        # Read again: another tracker of the same run keeps its own beside.
        runs = self._read() | {self._tracker: {"run": run_id, "round": round_number}}
        temporary = self._path.with_name(f".{TRACKERS_FILE}.tmp")
        temporary.write_text(json.dumps(runs) + "\n", encoding="utf-8")
        os.replace(temporary, self._path)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise FedHQError(
                f"`{self._path} is JSON` must hold, but: {error}. Delete it, and trackers begin "
                "a new run."
            ) from error


def round_scalars(
    record: RoundRecord,
    clients: Sequence[ClientRecord],
    wall: WallRecord,
    strategies: set[str] | None = None,
) -> dict[str, float]:
    """A round's numbers by name: what was not measured is left out.

    Args:
        record: Its fields keep their names; the number of the round is left out.
        clients: Counted as `strategy/<strategy>` and `status/<status>`.
        wall: As `wall/<field>`, the clients' as their sum `wall/client_seconds`.
        strategies: Those to count, also where no client has them; None counts those that are there.
    """
    scalars = _numbers(record)
    used = Counter(c.strategy for c in clients)
    for strategy in sorted(used if strategies is None else strategies):
        scalars[f"strategy/{strategy}"] = used[strategy]
    became = Counter(c.status for c in clients)
    scalars |= {f"status/{status}": became[status] for status in STATUSES}
    scalars |= {f"wall/{name}": value for name, value in _numbers(wall).items()}
    return scalars | {"wall/client_seconds": math.fsum(wall.client_seconds)}


def _numbers(record: RoundRecord | WallRecord) -> dict[str, float]:
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "round"}
    return {name: v for name, v in values.items() if isinstance(v, int | float)}


def flat_parameters(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """A configuration as parameters of trackers, by dotted keys.

    Example:
        >>> flat_parameters({"menu": ["skip", "fp32"], "data": {"name": "digits", "seed": None}})
        {'menu': 'skip, fp32', 'data.name': 'digits', 'data.seed': 'none'}
        >>> flat_parameters({"classes": [{"slowdown": 2.5}, {"memory": float("inf")}]})
        {'classes.0.slowdown': 2.5, 'classes.1.memory': 'inf'}
    """
    flat: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            value = {str(k): inner for k, inner in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in flat_parameters(value).items()}
        else:
            flat[key] = _plain(value)
    return flat


def _plain(value: object) -> bool | int | float | str:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        text = ", ".join(str(_plain(inner)) for inner in value)
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
