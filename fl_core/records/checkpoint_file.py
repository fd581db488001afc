"""One checked file of arrays and JSON values: safetensors with a digest, whole or not at all.

    tensors    by name                   of float32 and uint8, as safetensors sorts them
               sha256                    32 bytes (uint8), always last in the file: the digest of
                                         every byte before it, header and state included
    metadata   fedhq_checkpoint          JSON text with `format_version` 2 and the rest of the state

Any safetensors reader can look at the tensors; nothing is unpickled. Equal content gives equal
bytes: JSON keys are sorted. A file is replaced in one step (written beside it, flushed to the disk,
renamed), so that a killed process or a full disk leaves the previous one. What a killed process
left beside it is overwritten by the next write. `checkpoint` says what stands in the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ...allocator.errors import CheckpointError
from ..disk import flush_folder

_VERSION = 2
_KEY, _DIGEST = "fedhq_checkpoint", "sha256"
_DIGEST_BYTES = 32
_DAMAGED = "Restore the file from a copy, or start the run anew in another folder."


def write_file(
    path: Path, state: Mapping[str, Any], tensors: Mapping[str, NDArray[np.float32 | np.uint8]]
) -> None:
    """Writes a file; `path` holds either the previous one or the whole new one.

    Args:
        path: The file; its folder must exist.
        state: JSON values, infinities allowed; the version is added.
        tensors: C-contiguous arrays by name, none of which is `sha256`.

    Raises:
        CheckpointError: If state and names are too large for the format, or the system refuses.
    """
    content = memoryview(_serialize(path, state, tensors))[:-_DIGEST_BYTES]
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


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Reads a file; a flipped bit anywhere in it is noticed.

    Returns:
        The state with its version, and the tensors, arrays of the caller's own.

    Raises:
        CheckpointError: If the file is missing, foreign, damaged, or of another version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"`{path} can be read` must hold, but: {error}. Check the path, or start the run anew."
        ) from error
    state = _read_state(path, data)
    if hashlib.sha256(memoryview(data)[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise unreadable(path, "its sha256 fits its content", "it differs")
    try:
        return state, load(data)
    except SafetensorError as error:
        raise unreadable(path, "it is a safetensors file", repr(error)) from error


def unreadable(path: Path, rule: str, got: str) -> CheckpointError:
    """The error of a file that is not what was written."""
    return CheckpointError(f"`{rule}` must hold for {path}, but it has {got}. {_DAMAGED}")


def _serialize(path: Path, state: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The file, with zeros in place of the digest."""
    text = json.dumps({"format_version": _VERSION, **state}, sort_keys=True)
    try:
        data = save({**tensors, _DIGEST: np.zeros(_DIGEST_BYTES, np.uint8)}, {_KEY: text})
    except SafetensorError as error:
        raise CheckpointError(
            f"`state and names of tensors fit a safetensors header` must hold for {path}, but "
            f"{len(tensors)} tensors and {len(text)} characters of state do not ({error}). A "
            "previous checkpoint stays as it is. Train fewer clients, or keep less of each."
        ) from error
    assert data.endswith(bytes(_DIGEST_BYTES)), "safetensors puts the smallest type last"
    return data


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
        raise unreadable(path, "it is a fedhq checkpoint", f"{len(data)} bytes that are not")
    if version != _VERSION:
        update = "Update fedhq, or use" if version > _VERSION else "Use"
        raise CheckpointError(
            f"`format_version = {_VERSION}` must hold for {path}, but it is {version}. "
            f"{update} the version that wrote it."
        )
    return state
