"""Models and updates as records of Flower: coded by the wire codec, checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .orders import Decision

if TYPE_CHECKING:
    from flwr.app import ArrayRecord


def coded_names(arrays: ArrayRecord) -> tuple[str, ...]:
    """The tensors that are coded: floating point, and no running statistics of a layer."""
    raise NotImplementedError


def pack_model(
    arrays: ArrayRecord, names: tuple[str, ...], downlink_bits: int, round_number: int, seed: int
) -> ArrayRecord:
    """The model as it is sent: the coded tensors as one payload named `fedhq`, the rest as it is.

    The same call gives the same object's bytes, so that one record serves all clients of a round.
    With 32 bits the record is handed back as it is.

    Raises:
        DivergedError: If a weight is not finite.
    """
    raise NotImplementedError


def unpack_model(arrays: ArrayRecord, decision: Decision) -> ArrayRecord:
    """The model as a client trains from it, in the names, order and types of the server's.

    Raises:
        WireError: If it is not what `pack_model` gave.
    """
    raise NotImplementedError


def pack_update(
    received: ArrayRecord,
    trained: ArrayRecord,
    decision: Decision,
    num_examples: int,
    residual: NDArray[np.float32] | None,
) -> tuple[ArrayRecord, NDArray[np.float32] | None]:
    """The change of a model as it is sent, and what error feedback owes then (None: nothing).

    Payload and randomness are those of `rounds.uplink.Uplink`: the same bytes as in a run of the
    in-process trainer.

    Raises:
        WireError: If names or shapes are not those that were received, or a value is not finite.
    """
    raise NotImplementedError


def unpack_update(
    reply: ArrayRecord, arrays: ArrayRecord, decision: Decision
) -> tuple[bytes, Mapping[str, NDArray[np.generic]]]:
    """The payload of a reply, and what travelled as it is; both checked against the model sent.

    Raises:
        WireError: If names, shapes or types are not those of the model, bits not those decided,
            a value is not finite, or a size is beyond what the model allows.
    """
    raise NotImplementedError
