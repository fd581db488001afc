"""Models and updates as records of Flower: coded by the wire codec, checked when read.

A packed record holds the payload as an array of bytes named `fedhq`, and what is not coded as it
is. A packed model holds a third array, `fedhq.tensors`: the JSON list of its tensors in order, of
each its name where it is not coded, else its type and shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....allocator.errors import DivergedError
from ...rounds.uplink import write_update
from ...weights import Weights
from ...wire.codec import Update, decode_update, encoded_bytes
from ...wire.downlink import SERVER, encode_model
from ...wire.header import require
from ...wire.rounding import RAW_BITS
from .npy import array_form, read_array
from .orders import RECORD, Decision
from .tensor_list import (
    FLOATS,
    TENSORS,
    Form,
    coded_forms,
    list_of_tensors,
    list_tensors,
    template,
)

if TYPE_CHECKING:
    from flwr.app import Array, ArrayRecord

VARIANCE = "running_var"
STATISTICS = ("running_mean", VARIANCE)
"""Last parts of the names of running statistics, as torch has them."""


def coded_names(arrays: ArrayRecord) -> tuple[str, ...]:
    """The tensors that are coded: floating point, and no running statistics of a layer.

    Statistics are known by torch's names, `running_mean` and `running_var`: a record that numbers
    its tensors (of a list of arrays) has them rounded like weights, which harms a network with
    batch normalisation. Make it of the state dict.

    Raises:
        WireError: If an array is none.

    Example:
        >>> from flwr.app import Array, ArrayRecord
        >>> one = Array(np.ones(2, np.float32))
        >>> coded_names(ArrayRecord({"bn.weight": one, "bn.running_var": one}))
        ('bn.weight',)
    """
    names = (n for n in arrays if n.rpartition(".")[2] not in STATISTICS)
    return tuple(n for n in names if array_form(n, arrays[n])[0].name in FLOATS)


def pack_model(
    arrays: ArrayRecord, names: tuple[str, ...], downlink_bits: int, round_number: int, seed: int
) -> ArrayRecord:
    """The model as it is sent: the coded tensors as one payload named `fedhq`, the rest as it is.

    The same call gives the same object's bytes, so that one record serves all clients of a round.
    With 32 bits the record is handed back as it is.

    Args:
        arrays: The model.
        names: What `coded_names` gives of it.
        downlink_bits: 2 to 8, or 32 bits per element.
        round_number: The round.
        seed: Root of the federation's randomness.

    Raises:
        DivergedError: If a weight is not finite.
        ValueError: If the model has a tensor of our name, or names are not of its tensors in order.

    Example:
        >>> from flwr.app import Array, ArrayRecord
        >>> model = ArrayRecord({"w": Array(np.ones(1000, np.float32))})
        >>> packed = pack_model(model, ("w",), 4, round_number=1, seed=0)
        >>> list(packed), array_form("fedhq", packed["fedhq"])[1]
        (['fedhq', 'fedhq.tensors'], (560,))
    """
    from flwr.app import ArrayRecord

    _check_names(arrays, names)
    weights = {name: _float32(read_array(name, arrays[name])) for name in names}
    if downlink_bits == RAW_BITS:
        _check_diverged(weights, round_number)
        return arrays
    packed = ArrayRecord()
    packed[RECORD] = _as_bytes(encode_model(weights, downlink_bits, round_number, seed))
    packed[TENSORS] = _as_bytes(list_tensors(arrays, names))
    coded = set(names)
    for name in arrays:
        if name not in coded:
            packed[name] = arrays[name]
    return packed


def unpack_model(arrays: ArrayRecord, decision: Decision) -> ArrayRecord:
    """The model as a client trains from it, in the names, order and types of the server's.

    Args:
        arrays: What came.
        decision: What came with it.

    Raises:
        WireError: If it is not what `pack_model` gave.
    """
    from flwr.app import Array, ArrayRecord

    if decision.downlink_bits == RAW_BITS:
        for name in decision.names:
            require(name in arrays, f"the model holds {name!r}", list(arrays)[:5])
            _require_float(name, array_form(name, arrays[name])[0])
        return arrays
    require(RECORD in arrays and TENSORS in arrays, "the model is packed", list(arrays)[:5])
    listed = list_of_tensors(arrays[TENSORS])
    forms = coded_forms(listed, decision.names)
    plain = {name for name in listed if isinstance(name, str)}
    require(plain == {*arrays} - {RECORD, TENSORS}, "the model holds what it lists", len(arrays))
    payload = _read_payload(arrays[RECORD], forms, decision.downlink_bits)
    update = decode_update(payload, template(forms))
    sender = (update.client, update.round_number, update.wire_bits)
    expected = (SERVER, decision.round_number, decision.downlink_bits)
    require(sender == expected, f"sender, round and bits are {expected}", sender)
    model = ArrayRecord()
    coded = iter(decision.names)
    for entry in listed:
        if isinstance(entry, str):
            model[entry] = arrays[entry]
            continue
        name = next(coded)
        model[name] = Array(_as_type(update.coded[name].decode(), forms[name][0]))
    return model


def pack_update(
    received: ArrayRecord,
    trained: ArrayRecord,
    decision: Decision,
    num_examples: int,
    residual: NDArray[np.float32] | None,
) -> tuple[ArrayRecord, NDArray[np.float32] | None]:
    """The change of a model as it is sent, and what error feedback owes then (None: nothing).

    Payload and randomness are those of `rounds.uplink.Uplink`: the same bytes as in a run of the
    in-process trainer. At widths without feedback as much is owed as before.

    Args:
        received: The model that the client trained from.
        trained: What it came to; all tensors of the other, in any order.
        decision: What it was told.
        num_examples: Examples behind the update, below 2**32.
        residual: `(values,)` what error feedback owes, in the order of `decision.names`.

    Raises:
        WireError: If names or shapes are not those that were received, or a value is not finite.
        ValueError: If the residual is of another model.
    """
    from flwr.app import ArrayRecord

    missing = sorted({*received} ^ {*trained})
    require(not missing, "the trained model has the tensors that were received", missing[:5])
    update = {name: _change(name, received[name], trained[name]) for name in decision.names}
    total = sum(values.size for values in update.values())
    if residual is not None and residual.shape != (total,):
        raise ValueError(
            f"`residual` must have shape {(total,)}, as the coded tensors have values, but has "
            f"{residual.shape}. Start it anew with None when the model changes."
        )
    payload, owed = write_update(
        update,
        residual,
        wire_bits=decision.strategy.wire_bits,
        round_number=decision.round_number,
        client=decision.client,
        num_examples=num_examples,
        seed=decision.seed,
    )
    packed = ArrayRecord()
    packed[RECORD] = _as_bytes(payload)
    for name in received:
        if name not in update:
            _read_plain(name, trained[name], array_form(name, received[name]))
            packed[name] = trained[name]
    return packed, owed


def unpack_update(
    reply: ArrayRecord, arrays: ArrayRecord, decision: Decision
) -> tuple[bytes, Update, Mapping[str, NDArray[np.generic]]]:
    """The payload of a reply, the update that it is, and what travelled as it is.

    All is checked against the model that was sent.

    Args:
        reply: What came.
        arrays: The server's model, unpacked.
        decision: What the client was told.

    Raises:
        WireError: If names, shapes or types are not those of the model, bits not those decided,
            a value is not finite, or a size is beyond what the model allows.
    """
    forms = {name: array_form(name, arrays[name]) for name in decision.names}
    plain = [name for name in arrays if name not in forms]
    wrong = sorted({*reply} ^ {RECORD, *plain})
    require(not wrong, "a reply has the payload and what is not coded", wrong[:5])
    payload = _read_payload(reply[RECORD], forms, decision.strategy.wire_bits)
    update = decode_update(payload, template(forms))
    sender = (update.client, update.round_number, update.wire_bits)
    expected = (decision.client, decision.round_number, decision.strategy.wire_bits)
    require(sender == expected, f"sender, round and bits are {expected}", sender)
    as_it_is = {
        name: _read_plain(name, reply[name], array_form(name, arrays[name])) for name in plain
    }
    return payload, update, as_it_is


def _check_names(arrays: ArrayRecord, names: tuple[str, ...]) -> None:
    for name in (RECORD, TENSORS):
        if name in arrays:
            raise ValueError(f"a tensor must not be named {name!r}: rename the model's.")
    coded = set(names)
    if tuple(name for name in arrays if name in coded) != names:
        raise ValueError(
            f"`names` must be tensors of the model, in its order, but got {list(names)[:5]}... of "
            f"{list(arrays)[:5]}... Take `coded_names`."
        )


def _check_diverged(weights: Weights, round_number: int) -> None:
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise DivergedError(
                f"`all weights are finite` must hold for the model of round {round_number}, but "
                f"those of {name!r} are not. Lower `learning_rate`: training diverged."
            )


def _as_bytes(payload: bytes) -> Array:
    from flwr.app import Array

    return Array(np.frombuffer(payload, np.uint8))


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _as_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Of narrower floats the greatest stand for what is beyond them by rounding."""
    if dtype.itemsize < values.itemsize:
        most = np.finfo(dtype).max
        values = values.clip(-most, most)
    return values.astype(dtype)


def _change(name: str, received: Array, trained: Array) -> NDArray[np.float32]:
    """Trained less received, in the wider of their types, as float32."""
    before, after = read_array(name, received), read_array(name, trained)
    _require_float(name, after.dtype)
    require(after.shape == before.shape, f"shape of {name!r} = {before.shape}", after.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = np.result_type(before, after, np.float32)
        change = np.subtract(after, before, dtype=wide)
        return np.asarray(change, np.float32)


def _require_float(name: str, dtype: np.dtype[Any]) -> None:
    require(dtype.name in FLOATS, f"{name!r} is one of {FLOATS}", dtype.name)


def _read_payload(array: Array, forms: Mapping[str, Form], wire_bits: int) -> bytes:
    """The payload, if its length is that of the tensors at these bits."""
    size = encoded_bytes([shape for _, shape in forms.values()], wire_bits)
    form = array_form(RECORD, array)
    expected = (np.dtype(np.uint8), (size,))
    require(form == expected, f"{size} bytes, as the tensors take at {wire_bits} bits", form)
    return read_array(RECORD, array).tobytes()


def _read_plain(name: str, array: Array, form: Form) -> NDArray[np.generic]:
    """The values of a tensor that is not coded, if it is like the model's and finite."""
    values: NDArray[np.generic] = read_array(name, array)
    got, expected = (values.dtype.name, values.shape), (form[0].name, form[1])
    require(got == expected, f"type and shape of {name!r} = {expected}", got)
    if values.dtype.kind in "fc":
        require(
            bool(np.isfinite(values).all()), f"values of {name!r} are finite", "NaN or infinity"
        )
    return values
