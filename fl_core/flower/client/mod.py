"""The client's mod: models come in quantized and go out so, and the app sees neither."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from ....allocator.errors import WireError
from ....allocator.strategy import Method
from ...wire.rounding import RAW_BITS
from ..messages.letters import (
    Letter,
    examples_of,
    for_the_app,
    open_letter,
    seal_reply,
    trained_model,
    with_report,
)
from ..messages.npy import array_form, read_array
from ..messages.orders import RECORD, Decision, Report, cannot
from ..messages.packing import pack_update, unpack_model
from .training import GIVEN, Given

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable

SECURE_AGGREGATION = "secaggplus_configs"
"""Name of the record with which Flower's `SecAggPlusWorkflow` comes."""

_RESIDUAL = "residual"


def quant_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Unpacks the model of a message to train, and packs the update of the reply.

    Put it first: `ClientApp(mods=[quant_mod, ...])`, or `@app.train(mods=[quant_mod, ...])`. Mods
    behind it see models in floats: `LocalDpMod` and `fixedclipping_mod` clip the float update, and
    what leaves them is rounded. Before it they would see payloads, and refuse the reply. Rounding
    uses nothing but their result, so what `LocalDpMod` promises holds. It may lengthen an update
    beyond the norm to which `fixedclipping_mod` clipped it, for which the server's noise is
    measured: where that promise counts offer strategies that end in -u32, or clip at the server.

    Secure aggregation is the exception: `mods=[secaggplus_mod, quant_mod]`, so that only the stage
    that trains comes here. The trained model is then left to `secaggplus_mod` as it is.

    Messages without a decision pass through: those of a server without fedhq, to evaluate, to
    query. What rounding leaves over is kept in `context.state["fedhq"]`, which Flower keeps while
    the run lasts, also when the client's process ends between rounds.

    Works as well around a legacy client: `ClientApp(client_fn, mods=[quant_mod])`.

    Args:
        message: What came.
        context: Of the client.
        call_next: The rest of the app.

    Returns:
        The app's reply; the trained model in it is replaced by its packed change, and a record
        `fedhq` says how long it took.

    Raises:
        CannotError: If this client cannot do what was decided: the decision cannot be read, QAT was
            decided but the app trains without `allocated`, memory does not suffice, or updates are
            to be rounded under secure aggregation, whose server adds up what it cannot decode. Its
            text begins with `fedhq:`; the server does not decide that again.
        WireError: If the model is damaged, or what the app trained is another or not finite.
    """
    if message.metadata.message_type.partition(".")[0] != "train" or not message.has_content():
        return call_next(message, context)
    start = time.perf_counter()
    try:
        letter = open_letter(message.content)
    except WireError as error:
        raise cannot(str(error)) from error
    if letter is None:
        return call_next(message, context)
    is_secure = SECURE_AGGREGATION in message.content.config_records
    if is_secure and letter.decision.strategy.wire_bits != RAW_BITS:
        raise cannot(
            f"`wire_bits = 32` must hold under secure aggregation, but {letter.decision.strategy} "
            f"was decided: the server adds up what clients send and can decode none of it. Offer "
            "only strategies that end in -u32, or train without secure aggregation."
        )
    model = unpack_model(letter.arrays, letter.decision)
    reply = _train(message, context, call_next, letter, model)
    if reply.has_error():
        return reply
    if is_secure:
        report = Report(time.perf_counter() - start, is_packed=False)
        reply.content = with_report(reply.content, letter, report)
    else:
        _pack(reply, context, letter, model, start)
    return reply


def _train(
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
    letter: Letter,
    model: ArrayRecord,
) -> Message:
    """Calls the app with the message as it would be without fedhq."""
    sent, given = message.content, Given(letter.decision)
    message.content = for_the_app(sent, letter, model)
    token = GIVEN.set(given)
    try:
        reply = call_next(message, context)
    except (MemoryError, torch.OutOfMemoryError) as error:
        strategy = letter.decision.strategy
        raise cannot(f"{strategy} takes more memory than there is: {error}") from error
    finally:
        GIVEN.reset(token)
        message.content = sent
    if letter.decision.strategy.method is Method.QAT and not given.was_asked:
        raise cannot(
            f"{letter.decision.strategy} was decided, but the app trained in float. Train inside "
            "`with allocated(model, message)`, or offer no qat."
        )
    return reply


def _pack(
    reply: Message, context: Context, letter: Letter, model: ArrayRecord, start: float
) -> None:
    """Puts the update in the place of the trained model."""
    name, trained = trained_model(reply.content, letter, model)
    num_examples = examples_of(reply.content, letter)
    kept = _owed(context, model, letter.decision)
    update, owed = pack_update(model, trained, letter.decision, num_examples, kept)
    if owed is not None:
        context.state[RECORD] = ArrayRecord({_RESIDUAL: Array(owed)})
    report = Report(time.perf_counter() - start)
    reply.content = seal_reply(reply.content, letter, name, update, report)


def _owed(context: Context, model: ArrayRecord, decision: Decision) -> NDArray[np.float32] | None:
    """What error feedback owes of earlier rounds; nothing where those had another model."""
    kept = context.state.array_records.get(RECORD)
    if kept is None:
        return None
    owed: NDArray[np.float32] = read_array(_RESIDUAL, kept[_RESIDUAL])
    size = sum(math.prod(array_form(name, model[name])[1]) for name in decision.names)
    return owed if owed.shape == (size,) else None
