"""`quant_mod` in Flower's own `ClientApp`: what the app sees, and what leaves."""

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
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod

from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import decision_of
from fedhq.fl_core.flower.messages.orders import Report
from fedhq.fl_core.flower.messages.packing import pack_update, unpack_model, unpack_update
from fedhq.fl_core.rounds.uplink import Uplink

MODEL = arrays_of(network())


def sent_change(out, model, decision):
    """The values of the update in a reply, as the server decodes them."""
    _, update, _ = unpack_update(out.content["arrays"], model, decision)
    return np.concatenate([values.ravel() for values in update.tensors.values()])


# --- What passes through ---


@pytest.mark.parametrize("kind", ["train", "evaluate", "query"])
def test_messages_of_a_server_without_fedhq_pass(kind):
    message = order(MODEL, kind=kind)
    out, seen, decision = serve(message, give)
    assert seen is message.content
    assert decision is None
    assert set(out.content) == {"arrays", "metrics"}
    assert flat(out.content["arrays"]).tobytes() == flat(moved(MODEL)).tobytes()


def test_a_message_to_evaluate_passes_whatever_it_holds():
    message = order(MODEL, kind="evaluate")
    message.content["fedhq"] = ConfigRecord({"version": 1})
    app = ClientApp(mods=[quant_mod])
    app.evaluate()(lambda received, _: answer(received, received.content["arrays"]))
    assert app(message, context()).content["arrays"] is MODEL


def test_an_array_record_of_our_name_is_the_apps_own():
    message = order(MODEL)
    message.content["fedhq"] = ArrayRecord([np.ones(2)])
    app = ClientApp(mods=[quant_mod])
    app.train()(lambda received, _: answer(received, received.content["fedhq"]))
    assert app(message, context()).content["arrays"]["0"].numpy().tolist() == [1, 1]


def test_an_error_of_the_app_passes():
    error = Error(2, "full disk")
    message = order(MODEL, decision_for(MODEL))
    out, *_ = serve(message, lambda received: Message(error, reply_to=received))
    assert out.error is error


# --- What the app sees, and what leaves ---


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("kind", ["train", "train.warm_up"])
def test_the_app_sees_a_message_as_if_there_were_no_fedhq(bits, kind):
    decision = decision_for(MODEL, downlink_bits=bits)
    message = order(MODEL, decision, kind=kind)
    before = dict(message.content)
    app, seen = ClientApp(mods=[quant_mod]), []

    def train(received, _):
        seen.append((received.content, decision_of(received)))
        return give(received)

    app.train(kind.partition(".")[2] or "default")(train)
    app(message, context())
    ((content, found),) = seen
    assert found == decision
    assert set(content) == {"arrays", "config"}
    assert dict(content["config"]) == {"lr": 0.1}
    assert list(content["arrays"]) == list(MODEL)
    network().load_state_dict(content["arrays"].to_torch_state_dict())
    expected = unpack_model(before["arrays"], decision)
    assert flat(content["arrays"]).tobytes() == flat(expected).tobytes()
    assert dict(message.content) == before  # ours to look at, not to change


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("strategy", ["ptq-w2a2", "fp32", "qat-w2a2-u2"])
def test_the_reply_holds_the_packed_update_and_a_report(bits, strategy):
    decision = decision_for(MODEL, strategy, downlink_bits=bits)
    out, seen, _ = serve(order(MODEL, decision), give)
    expected, _ = pack_update(
        seen["arrays"], moved(seen["arrays"]), decision, num_examples=80, residual=None
    )
    got = out.content["arrays"]
    assert list(got) == list(expected)
    assert all(got[name].data == expected[name].data for name in got)
    assert dict(out.content["metrics"]) == {"num-examples": 80, "train_loss": 0.5}
    assert 0 <= Report.from_record(out.content["fedhq"]).seconds < 60
    payload, _, plain = unpack_update(got, MODEL, decision)
    assert len(payload) > 0
    assert set(plain) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_names_of_records_and_metrics_are_the_inner_strategys():
    decision = decision_for(MODEL, arrays_key="model", examples_key="seen")
    message = order(MODEL, decision)
    message.content["model"] = message.content.pop("arrays")

    def reply(received):
        content = {
            "trained": moved(received.content["model"]),
            "of-mine": MetricRecord({"seen": 33.0}),
            "more": MetricRecord({"loss": 1.0}),
        }
        return Message(RecordDict(content), reply_to=received)

    out, *_ = serve(message, reply)
    payload, *_ = unpack_update(out.content["trained"], MODEL, decision)
    assert int.from_bytes(payload[28:32], "little") == 33


def test_residuals_live_in_the_context_and_survive_a_restart():
    """The bytes of `Uplink` over rounds, though each round meets a new process."""
    uplink, ctxt = Uplink(seed=11), context()
    for number in (1, 2, 3):
        decision = decision_for(MODEL, round_number=number)
        after = moved(MODEL, seed=number)
        out, *_ = serve(order(MODEL, decision), lambda received, a=after: answer(received, a), ctxt)
        update = {n: after[n].numpy() - MODEL[n].numpy() for n in decision.names}
        oracle = uplink.send(number, 5, 4, update, num_examples=80)
        assert out.content["arrays"]["fedhq"].numpy().tobytes() == oracle
        state = ctxt.state
        ctxt = context()
        ctxt.state = RecordDict(  # as Flower keeps it: bytes
            {"fedhq": ArrayRecord({n: Array(a.numpy()) for n, a in state["fedhq"].items()})}
        )


# --- Other mods ---


def test_clipping_behind_the_mod_clips_the_float_update():
    """Also a mod that takes one `ConfigRecord` only must not meet ours."""
    decision = decision_for(MODEL, "fp32")
    message = order(MODEL, decision, clipping_norm=0.01)
    out, *_ = serve(message, give, mods=[quant_mod, fixedclipping_mod])
    change = sent_change(out, MODEL, decision)
    *_, plain = unpack_update(out.content["arrays"], MODEL, decision)
    statistics = [plain[n] - MODEL[n].numpy() for n in plain if "running" in n]
    norm = np.linalg.norm(np.concatenate([change, *statistics]))
    assert norm == pytest.approx(0.01, rel=1e-3)  # as Flower counts it: of all arrays


def test_noise_behind_the_mod_goes_into_the_update():
    values = {n: a for n, a in MODEL.items() if a.numpy().dtype.kind == "f"}
    floats = ArrayRecord(values)
    decision = decision_for(floats, "fp32")
    private = LocalDpMod(clipping_norm=0.01, sensitivity=1.0, epsilon=1.0, delta=1e-5)
    np.random.seed(0)  # noqa: NPY002, Flower draws from it
    clear, *_ = serve(order(floats, decision), give)
    noisy, *_ = serve(order(floats, decision), give, mods=[quant_mod, private])
    sizes = [np.abs(sent_change(out, floats, decision)) for out in (clear, noisy)]
    assert sizes[1].mean() > 10 * sizes[0].mean()


@pytest.mark.parametrize("bits", [4, 32])
def test_a_mod_before_ours_meets_payloads_and_refuses(bits):
    private = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=1.0, delta=1e-5)
    decision = decision_for(MODEL, downlink_bits=bits)
    out, *_ = serve(order(MODEL, decision), give, mods=[private, quant_mod])
    assert out.has_error()
