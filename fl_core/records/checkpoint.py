"""Checkpoints: all that a run needs to go on, in one file that is checked to the last bit.

    tensors    weights/<name>              float32, and what else the server keeps of each weight
               residuals                   (clients, values) float32: what error feedback owes, of
                                           all weights in the server's order
               pending/<place>             uint8, the bytes of an update on its way
    state      round_number, simulated_seconds, server_state, trainer_state, controller_state,
               config
               server                      names of the server's tensors in order
               residuals                   clients of the rows of `residuals`, rising
               pending                     [client, sent_round, strategy, arrives_at, seconds] rows

`checkpoint_file` says how that becomes a file. Equal content gives equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import ne
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...allocator.errors import CheckpointError
from ..weights import Weights
from ..wire.pending import Pending
from .checkpoint_file import read_file, unreadable, write_file

_WEIGHTS = "weights/"
_PLAIN_TYPES = frozenset({int, float, str})
_MISSING = "nothing"


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """All that a run needs to go on after a round.

    Arrays are neither copied nor frozen: those of a loaded checkpoint belong to the caller.

    Args:
        round_number: Rounds done.
        simulated_seconds: Simulated time since the start.
        server: The server's float32 tensors by name, `weights/...` among them; the order is kept.
        server_state: What else the server keeps: JSON values.
        residuals: Per client `(values,)` what error feedback still owes, float32: all weights, one
            after the other.
        pending: Updates that are on their way.
        trainer_state: What the trainer keeps besides: JSON values.
        controller_state: The controller's own state: JSON values, infinities allowed.
        config: The resolved configuration: JSON values, infinities allowed.

    Raises:
        ValueError: If a value has another type, or is negative, or NaN.

    Example:
        >>> server = {"weights/w": np.zeros(2, np.float32)}
        >>> Checkpoint(round_number=3, simulated_seconds=1.5, server=server).weights
        {'w': array([0., 0.], dtype=float32)}
    """

    round_number: int
    simulated_seconds: float
    server: Weights
    server_state: Mapping[str, Any] = field(default_factory=dict)
    residuals: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    trainer_state: Mapping[str, Any] = field(default_factory=dict)
    controller_state: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """The server's weights by name."""
        start = len(_WEIGHTS)
        return {n[start:]: values for n, values in self.server.items() if n.startswith(_WEIGHTS)}

    @property
    def num_values(self) -> int:
        """Values of all weights together."""
        return sum(np.size(values) for values in self.weights.values())

    def __post_init__(self) -> None:
        counts = {"round_number": self.round_number, **{f"client {k}": k for k in self.residuals}}
        for name, value in counts.items():
            if type(value) is not int or value < 0:
                raise ValueError(f"`{name}` must be an int >= 0, but got {value!r}.")
        if not 0 <= self.simulated_seconds < math.inf:
            raise ValueError(f"`0 <= simulated_seconds < inf`, but got {self.simulated_seconds}.")
        for name, values in self.server.items():
            dtype = np.asarray(values).dtype
            if dtype != np.float32:
                raise ValueError(f"`{name}` must be a float32 array, but got {dtype}.")
        self._check_residuals()
        for name in ("server_state", "trainer_state", "controller_state", "config"):
            if not isinstance(_plain(getattr(self, name), name), dict):
                raise ValueError(f"`{name}` must be a mapping, but got {getattr(self, name)!r}.")

    def _check_residuals(self) -> None:
        shape = (self.num_values,)
        for client, values in self.residuals.items():
            got = np.asarray(values)
            if got.dtype != np.float32 or got.shape != shape:
                raise ValueError(
                    f"`residuals[{client}]` must be a float32 array of shape {shape}, as many as "
                    f"the weights have values, but got {got.dtype} of {got.shape}."
                )


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; `path` holds either the previous one or the whole new one.

    One process writes a path at a time.

    Args:
        path: The file; its folder must exist.
        checkpoint: What to keep.

    Raises:
        CheckpointError: If the system cannot write it, or the format cannot hold it; the previous
            checkpoint stays.

    Example:
        >>> import tempfile
        >>> server = {"weights/w": np.ones(2, np.float32)}
        >>> checkpoint = Checkpoint(round_number=3, simulated_seconds=1.5, server=server)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(Path(folder, "checkpoint.safetensors"), checkpoint)
        ...     load_checkpoint(Path(folder, "checkpoint.safetensors")).weights
        {'w': array([1., 1.], dtype=float32)}
    """
    # By client: who was heard first depends on how many workers there were.
    clients = sorted(checkpoint.residuals)
    tensors: dict[str, NDArray[Any]] = {
        name: np.asarray(values, order="C") for name, values in checkpoint.server.items()
    }
    rows = np.array([checkpoint.residuals[client] for client in clients], np.float32)
    tensors["residuals"] = rows.reshape(len(clients), checkpoint.num_values)
    for place, pending in enumerate(checkpoint.pending):
        tensors[f"pending/{place}"] = np.frombuffer(pending.payload, np.uint8)
    write_file(path, {**_state(checkpoint), "residuals": clients}, tensors)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; a flipped bit anywhere in the file is noticed.

    Args:
        path: What `save_checkpoint` wrote.

    Returns:
        The checkpoint, with arrays of its own.

    Raises:
        CheckpointError: If the file is missing, foreign, damaged, or of a newer version.
    """
    state, tensors = read_file(path)
    try:
        return _assemble(state, tensors)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise unreadable(path, "state and tensors fit together", repr(error)) from error


def check_same_config(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuses to resume a run under another configuration.

    Lists and tuples are the same, and so are 1 and 1.0; a missing key differs from any value.

    Args:
        saved: `Checkpoint.config` of the file.
        current: The configuration that is asked for.

    Raises:
        CheckpointError: Names the first differing key in sorted order, and both values.
        ValueError: If one of them is not made of JSON values.

    Example:
        >>> check_same_config({"seed": 1, "rates": [0.1]}, {"rates": (0.1,), "seed": 1})
    """
    difference = _first_difference("", _plain(saved, "saved"), _plain(current, "current"))
    if difference is not None:
        key, before, now = difference
        raise CheckpointError(
            f"`configuration = the checkpoint's` must hold, but {key} is {now} and was {before} "
            "when it was saved. Set it back, or start a new run in another folder."
        )


def _state(checkpoint: Checkpoint) -> dict[str, Any]:
    names = ("server_state", "trainer_state", "controller_state", "config")
    return {name: _plain(getattr(checkpoint, name), name) for name in names} | {
        "round_number": checkpoint.round_number,
        "simulated_seconds": float(checkpoint.simulated_seconds),
        "server": list(checkpoint.server),
        "pending": [
            [p.client, p.sent_round, p.strategy, p.arrives_at, p.seconds]
            for p in checkpoint.pending
        ],
    }


def _assemble(state: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Checkpoint:
    pending = [
        Pending(
            client, sent_round, strategy, arrives_at, seconds, tensors[f"pending/{k}"].tobytes()
        )
        for k, (client, sent_round, strategy, arrives_at, seconds) in enumerate(state["pending"])
    ]
    return Checkpoint(
        round_number=state["round_number"],
        simulated_seconds=state["simulated_seconds"],
        server={name: tensors[name] for name in state["server"]},
        server_state=state["server_state"],
        # Rows of their own: each is let go when its client is heard again.
        residuals={
            client: row.copy()
            for client, row in zip(state["residuals"], tensors["residuals"], strict=True)
        },
        pending=tuple(pending),
        trainer_state=state["trainer_state"],
        controller_state=state["controller_state"],
        config=state["config"],
    )


def _plain(value: object, key: str) -> Any:
    """A value as JSON gives it back, or an error that names the dotted key."""
    if isinstance(value, Mapping):
        wrong = [name for name in value if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"`{key}` must have text keys, but has {wrong[0]!r}.")
        return {name: _plain(inner, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        if _PLAIN_TYPES.issuperset(map(type, value)) and not any(map(ne, value, value)):
            return list(value)  # one by one, the observations of a planner would take longest
        return [_plain(inner, f"{key}.{k}") for k, inner in enumerate(value)]
    if value is None or (isinstance(value, str | int | float) and value == value):
        return value
    raise ValueError(f"`{key}` must be a JSON value and not NaN, but got {value!r}.")


def _first_difference(key: str, before: object, now: object) -> tuple[str, str, str] | None:
    if isinstance(before, list) and isinstance(now, list):
        return _first_difference(key, dict(enumerate(before)), dict(enumerate(now)))
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            inner = f"{key}.{name}" if key else str(name)
            if name not in before or name not in now:
                old, new = (repr(d[name]) if name in d else _MISSING for d in (before, now))
                return inner, old, new
            difference = _first_difference(inner, before[name], now[name])
            if difference is not None:
                return difference
        return None
    same = before == now and isinstance(before, bool) == isinstance(now, bool)
    return None if same else (key or "it", repr(before), repr(now))
