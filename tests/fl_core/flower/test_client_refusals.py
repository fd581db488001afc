"""`quant_mod` in Flower's own `ClientApp`: what a client cannot do, and what goes wrong once."""

import numpy as np
import pytest
from flower_clients import (
    answer,
    arrays_of,
    context,
    decision_for,
    flat,
    give,
    moved,
    network,
    order,
    serve,
)
from flwr.app import ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from torch import nn

from fedhq.allocator.errors import WireError
from fedhq.fl_core.flower.client.mod import SECURE_AGGREGATION, quant_mod
from fedhq.fl_core.flower.client.training import decision_of
from fedhq.fl_core.flower.messages.orders import CannotError, Report
from fedhq.fl_core.flower.messages.packing import pack_update, unpack_update

MODEL = arrays_of(network())


# --- What a client cannot do ---


def test_a_decision_of_another_version_cannot_be_done():
    message = order(MODEL, decision_for(MODEL))
    message.content["fedhq"]["version"] = 2
    with pytest.raises(CannotError, match=r"fedhq: `version = 1`"):
        serve(message, give)


def test_a_decision_without_its_model_cannot_be_done():
    message = order(MODEL, decision_for(MODEL, arrays_key="weights"))
    with pytest.raises(CannotError, match=r"fedhq: .*no ArrayRecord 'weights'"):
        serve(message, give)


def test_qat_that_the_app_does_not_ask_for_is_not_passed_off_as_qat():
    app = ClientApp(mods=[quant_mod])
    app.train()(lambda message, _: give(message))
    app(order(MODEL, decision_for(MODEL, "ptq-w2a2")), context())  # needs nothing of the app
    with pytest.raises(CannotError, match="fedhq: qat-w2a2 was decided, but the app trained"):
        app(order(MODEL, decision_for(MODEL, "qat-w2a2")), context())


def test_too_little_memory_is_said():
    def run_out(message):
        raise MemoryError("4 GiB")

    ctxt = context()
    with pytest.raises(CannotError, match=r"fedhq: ptq-w2a2 takes more memory.*4 GiB"):
        serve(order(MODEL, decision_for(MODEL)), run_out, ctxt)
    with pytest.raises(MemoryError):  # no decision, no word of ours
        serve(order(MODEL), run_out)
    assert not ctxt.state
    assert decision_of(order(MODEL)) is None  # what was decided is forgotten


def test_a_residual_of_another_model_is_forgotten():
    ctxt, larger = context(), arrays_of(nn.Linear(3, 2))
    for model in (MODEL, larger):
        decision = decision_for(model, "ptq-w4a4")
        expected, owed = pack_update(model, moved(model), decision, 80, None)
        out, *_ = serve(order(model, decision), give, ctxt)
        assert out.content["arrays"]["fedhq"].data == expected["fedhq"].data
        assert (ctxt.state["fedhq"]["residual"].numpy() == owed).all()


def secure(message):
    message.content[RECORD_KEY_CONFIGS] = ConfigRecord({"stage": "collect_masked_vectors"})
    return message


def test_the_record_of_secure_aggregation_is_flowers():
    assert SECURE_AGGREGATION == RECORD_KEY_CONFIGS


def test_rounded_updates_are_refused_under_secure_aggregation():
    with pytest.raises(CannotError, match=r"fedhq: `wire_bits = 32`.*ptq-w2a2"):
        serve(secure(order(MODEL, decision_for(MODEL))), give)


def test_floats_under_secure_aggregation_are_left_to_it():
    decision = decision_for(MODEL, "qat-w2a2-u32", downlink_bits=4)
    out, seen, found = serve(secure(order(MODEL, decision)), give)
    assert found == decision
    assert set(out.content) == {"arrays", "metrics", "fedhq"}
    report = Report.from_record(out.content["fedhq"])
    assert not report.is_packed
    assert 0 < report.seconds < 60
    assert flat(out.content["arrays"]).tobytes() == flat(moved(seen["arrays"])).tobytes()


# --- What goes wrong for a round ---


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda arrays: ArrayRecord([a.numpy() for a in arrays.values()]), "tensors that were"),
        (lambda arrays: moved(arrays, step=np.nan), "finite"),
        (lambda arrays: ArrayRecord(), "tensors that were"),
    ],
)
def test_a_reply_of_another_model_or_not_finite_is_an_error_and_owes_nothing(spoil, match):
    ctxt = context()
    with pytest.raises(WireError, match=match):
        serve(
            order(MODEL, decision_for(MODEL)),
            lambda message: answer(message, spoil(message.content["arrays"])),
            ctxt,
        )
    assert not ctxt.state


def test_a_reply_with_two_models_is_an_error():
    def reply(message):
        out = give(message)
        out.content["best"] = out.content["arrays"]
        return out

    with pytest.raises(WireError, match=r"one ArrayRecord.*best"):
        serve(order(MODEL, decision_for(MODEL)), reply)


@pytest.mark.parametrize("weight", [0.37, float("nan"), -3, 2**40, [80]])
def test_a_weight_that_counts_no_examples_is_left_to_the_inner_strategy(weight):
    decision = decision_for(MODEL)
    out, *_ = serve(
        order(MODEL, decision),
        lambda message: answer(message, moved(message.content["arrays"]), weight),
    )
    payload, *_ = unpack_update(out.content["arrays"], MODEL, decision)
    assert int.from_bytes(payload[28:32], "little") == 0
    assert repr(out.content["metrics"]["num-examples"]) == repr(weight)
