"""Checkpoints: one safetensors file, written whole or not at all, and checked to the last bit.

    tensors    weights/<name>              float32, and what else the server keeps of each weight
               residuals/<client>/<name>   float32
               pending/<place>             uint8, the bytes of an update on its way
               sha256                      32 bytes (uint8), always last in the file: the digest of
                                           every byte before it, header and state included
    metadata   fedhq_checkpoint            JSON text with
                 format_version            2
                 round_number, simulated_seconds, server_state, controller_state, config
                 server                    names of the server's tensors in order
                 residuals                 [client, names in order] pairs, by client
                 pending                   [client, sent_round, strategy, arrives_at, seconds] rows

Any safetensors reader can look at the weights; nothing is unpickled. Equal content gives equal
bytes: JSON keys are sorted, tensors lie as safetensors sorts them. A file is replaced in one step
(written beside it, flushed to the disk, renamed), so that a killed process or a full disk leaves
the previous checkpoint. What a killed process left beside it is overwritten by the next save.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import ne
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ...allocator.errors import CheckpointError
from ..disk import flush_folder
from ..weights import Weights
from ..wire.pending import Pending

_VERSION = 2
_KEY, _DIGEST = "fedhq_checkpoint", "sha256"
_DIGEST_BYTES = 32
_WEIGHTS = "weights/"
_PLAIN_TYPES = frozenset({int, float, str})
_MISSING = "nothing"
_DAMAGED = "Restore the file from a copy, or start the run anew in another folder."


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """All that a run needs to go on after a round.

    Arrays are neither copied nor frozen: those of a loaded checkpoint belong to the caller.

    Args:
        round_number: Rounds done.
        simulated_seconds: Simulated time since the start.
        server: The server's float32 tensors by name, `weights/...` among them; the order is kept.
        server_state: What else the server keeps: JSON values.
        residuals: Per client, what error feedback still owes, float32 by name.
        pending: Updates that are on their way.
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
    residuals: Mapping[int, Weights] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    controller_state: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """The server's weights by name."""
        start = len(_WEIGHTS)
        return {n[start:]: values for n, values in self.server.items() if n.startswith(_WEIGHTS)}

    def __post_init__(self) -> None:
        counts = {"round_number": self.round_number, **{f"client {k}": k for k in self.residuals}}
        for name, value in counts.items():
            if type(value) is not int or value < 0:
                raise ValueError(f"`{name}` must be an int >= 0, but got {value!r}.")
        if not 0 <= self.simulated_seconds < math.inf:
            raise ValueError(f"`0 <= simulated_seconds < inf`, but got {self.simulated_seconds}.")
        for name, values in _flatten(self).items():
            dtype = np.asarray(values).dtype
            if dtype != np.float32:
                raise ValueError(f"`{name}` must be a float32 array, but got {dtype}.")
        for name in ("server_state", "controller_state", "config"):
            if not isinstance(_plain(getattr(self, name), name), dict):
                raise ValueError(f"`{name}` must be a mapping, but got {getattr(self, name)!r}.")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; `path` holds either the previous one or the whole new one.

    One process writes a path at a time.

    Args:
        path: The file; its folder must exist.
        checkpoint: What to keep.

    Raises:
        CheckpointError: If the system cannot write it; the previous checkpoint stays.

    Example:
        >>> import tempfile
        >>> server = {"weights/w": np.ones(2, np.float32)}
        >>> checkpoint = Checkpoint(round_number=3, simulated_seconds=1.5, server=server)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(Path(folder, "checkpoint.safetensors"), checkpoint)
        ...     load_checkpoint(Path(folder, "checkpoint.safetensors")).weights
        {'w': array([1., 1.], dtype=float32)}
    """
    content = memoryview(_serialize(checkpoint))[:-_DIGEST_BYTES]
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise CheckpointError(
            f"`{path} can be written` must hold, but: {error}. A previous checkpoint stays as it "
            "is. Check that the folder exists and is writable, and free space on its disk."
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; a flipped bit anywhere in the file is noticed.

    Args:
        path: What `save_checkpoint` wrote.

    Returns:
        The checkpoint, with arrays of its own.

    Raises:
        CheckpointError: If the file is missing, foreign, damaged, or of a newer version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"`{path} can be read` must hold, but: {error}. Check the path, or start the run anew."
        ) from error
    state = _read_state(path, data)
    if hashlib.sha256(memoryview(data)[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise _unreadable(path, "its sha256 fits its content", "it differs")
    try:
        return _assemble(state, load(data))
    except (SafetensorError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise _unreadable(path, "state and tensors fit together", repr(error)) from error


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


def _flatten(checkpoint: Checkpoint) -> Weights:
    """Every float tensor under its name in the file."""
    tensors = dict(checkpoint.server)
    for client, residual in checkpoint.residuals.items():
        tensors |= {f"residuals/{client}/{name}": values for name, values in residual.items()}
    return tensors


def _serialize(checkpoint: Checkpoint) -> bytes:
    """The file, with zeros in place of the digest."""
    rows = [
        [p.client, p.sent_round, p.strategy, p.arrives_at, p.seconds] for p in checkpoint.pending
    ]
    state = {
        "format_version": _VERSION,
        "round_number": checkpoint.round_number,
        "simulated_seconds": float(checkpoint.simulated_seconds),
        "server_state": _plain(checkpoint.server_state, "server_state"),
        "controller_state": _plain(checkpoint.controller_state, "controller_state"),
        "config": _plain(checkpoint.config, "config"),
        "server": list(checkpoint.server),
        # By client: who was heard first depends on how many workers there were.
        "residuals": [[client, list(names)] for client, names in sorted(_residuals(checkpoint))],
        "pending": rows,
    }
    tensors: dict[str, NDArray[Any]] = {
        name: np.asarray(values, order="C") for name, values in _flatten(checkpoint).items()
    }
    for place, pending in enumerate(checkpoint.pending):
        tensors[f"pending/{place}"] = np.frombuffer(pending.payload, np.uint8)
    tensors[_DIGEST] = np.zeros(_DIGEST_BYTES, np.uint8)
    data = save(tensors, {_KEY: json.dumps(state, sort_keys=True)})
    assert data.endswith(bytes(_DIGEST_BYTES)), "safetensors puts the smallest type last"
    return data


def _residuals(checkpoint: Checkpoint) -> list[tuple[int, tuple[str, ...]]]:
    return [(client, tuple(residual)) for client, residual in checkpoint.residuals.items()]


def _read_state(path: Path, data: bytes) -> dict[str, Any]:
    """The state in the file's header, checked only as far as its version."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size]) if size <= len(data) else None
        state = json.loads(header["__metadata__"][_KEY]) if isinstance(header, dict) else None
        version = state["format_version"] if isinstance(state, dict) else None
    except (ValueError, TypeError, LookupError, RecursionError):
        version = None
    if type(version) is not int or not isinstance(state, dict):
        raise _unreadable(path, "it is a fedhq checkpoint", f"{len(data)} bytes that are not")
    if version != _VERSION:
        update = "Update fedhq, or use" if version > _VERSION else "Use"
        raise CheckpointError(
            f"`format_version = {_VERSION}` must hold for {path}, but it is {version}. "
            f"{update} the version that wrote it."
        )
    return state


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
        residuals={
            client: {name: tensors[f"residuals/{client}/{name}"] for name in names}
            for client, names in state["residuals"]
        },
        pending=tuple(pending),
        controller_state=state["controller_state"],
        config=state["config"],
    )


def _unreadable(path: Path, rule: str, got: str) -> CheckpointError:
    return CheckpointError(f"`{rule}` must hold for {path}, but it has {got}. {_DAMAGED}")


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
