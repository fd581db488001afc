"""The pieces of the example for NVIDIA FLARE, with FLARE's own classes; `test_examples` runs it."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel

from fedhq.allocator import Strategy, WireError
from fedhq.fl_core.wire.codec import encoded_bytes

EXAMPLE = Path(__file__).parents[1] / "examples" / "nvflare" / "hybrid.py"
SHAPES = {"weights": (8, 2), "bias": (8,)}


@pytest.fixture(scope="module")
def hybrid() -> SimpleNamespace:
    """The example's module."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


def result(seed: int, strategy: str = "qat-w4a8", num_examples: int = 80) -> Shareable:
    """What a client's script hands to the filters."""
    rng = np.random.default_rng(seed)
    update = {k: rng.normal(size=shape).astype(np.float32) for k, shape in SHAPES.items()}
    about = {"strategy": strategy, "round": 1, "num_examples": num_examples}
    return DXO(DataKind.WEIGHT_DIFF, update, about).to_shareable()


def server_context(hybrid: SimpleNamespace) -> FLContext:
    """As the controller leaves it before a round."""
    context = FLContext()
    weights = {k: np.zeros(shape, np.float32) for k, shape in SHAPES.items()}
    context.set_prop(hybrid.WEIGHTS, weights, private=True, sticky=True)
    return context


@pytest.mark.parametrize("strategy", ["qat-w4a8", "ptq-w4a8-u3", "fp32"])
def test_an_update_passes_both_filters_at_the_bits_that_were_ordered(hybrid, strategy) -> None:
    sender, reader, context = hybrid.QuantizeUpdate(), hybrid.ReadUpdate(), server_context(hybrid)
    sent, got = np.zeros((8, 2)), np.zeros((8, 2))
    bits = Strategy.parse(strategy).wire_bits
    for seed in range(3):
        sent = sent + from_shareable(result(seed, strategy)).data["weights"]
        coded = sender.process(result(seed, strategy), FLContext())
        assert from_shareable(coded).meta["bytes"] == encoded_bytes(SHAPES.values(), bits)
        read = from_shareable(reader.process(coded, context))
        assert {k: v.shape for k, v in read.data.items()} == SHAPES
        assert read.meta["num_examples"] == 80
        assert read.meta["filter_history"] == ["QuantizeUpdate", "ReadUpdate"]
        got = got + read.data["weights"]
    owed = 0.0 if sender.residual is None else sender.residual[:16].reshape(8, 2)
    assert got + owed == pytest.approx(sent, abs=1e-5)  # what rounding took comes later


def test_at_2_bits_nothing_is_owed_since_it_would_grow(hybrid) -> None:
    sender = hybrid.QuantizeUpdate()
    sender.process(result(0, "ptq-w4a8-u2"), FLContext())
    assert sender.residual is None


def test_two_clients_round_independently(hybrid) -> None:
    coded = [
        hybrid.QuantizeUpdate().process(result(0, "ptq-w4a8-u2"), FLContext()) for _ in range(2)
    ]
    assert from_shareable(coded[0]).data != from_shareable(coded[1]).data


def test_examples_are_those_of_the_payload_that_was_checked(hybrid) -> None:
    coded = hybrid.QuantizeUpdate().process(result(0), FLContext())
    dxo = from_shareable(coded)
    dxo.meta["num_examples"] = -1e9
    read = hybrid.ReadUpdate().process(dxo.update_shareable(coded), server_context(hybrid))
    assert from_shareable(read).meta["num_examples"] == 80
    none = hybrid.QuantizeUpdate().process(result(0, num_examples=0), FLContext())
    with pytest.raises(WireError, match="num_examples > 0"):
        hybrid.ReadUpdate().process(none, server_context(hybrid))


def test_whatever_is_no_update_of_the_model_is_refused(hybrid) -> None:
    reader, context = hybrid.ReadUpdate(), server_context(hybrid)
    coded = from_shareable(hybrid.QuantizeUpdate().process(result(0), FLContext()))
    whole = coded.data["payload"]
    for payload in (whole[:-1], whole[:70] + b"\xff" + whole[71:], b"", b"\x80\x04."):
        wrong = DXO(DataKind.WEIGHT_DIFF, {"payload": payload}, {}).to_shareable()
        with pytest.raises(WireError):
            reader.process(wrong, context)
    other = result(0)
    from_shareable(other).data["bias"] = np.zeros(9, np.float32)
    with pytest.raises(WireError, match="must hold"):
        reader.process(hybrid.QuantizeUpdate().process(other, FLContext()), context)
    nan = result(0)
    from_shareable(nan).data["bias"][3] = np.nan
    with pytest.raises(WireError, match="finite"):
        hybrid.QuantizeUpdate().process(nan, FLContext())


def test_profiles_and_failures_pass_the_filters_untouched(hybrid) -> None:
    profile = DXO(DataKind.METRICS, {"none": 0}, {"num_examples": 3}).to_shareable()
    failed = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    for name in ("QuantizeUpdate", "ReadUpdate"):
        filters = getattr(hybrid, name)()
        assert from_shareable(filters.process(profile, FLContext())).meta == {"num_examples": 3}
        assert filters.process(failed, FLContext()) is failed


def test_only_who_was_waited_for_is_known_to_be_slow(hybrid) -> None:
    shapes = {k: list(shape) for k, shape in SHAPES.items()}
    controller = hybrid.HybridController(["skip", "qat-w4a8"], "qat-w4a8", shapes, 2, 60, "m.npz")
    qat, skip = Strategy.parse("qat-w4a8"), Strategy.parse("skip")
    orders = {"a": qat, "b": skip, "c": qat}
    replies = {"a": (FLModel(params={}), 2.5)}
    for waited, seconds in ((3.0, None), (60.1, 60.1)):
        answered, missing = controller._outcomes(list(orders), orders, replies, waited)
        assert (answered.client, answered.seconds, answered.succeeded) == (0, 2.5, True)
        assert (missing.client, missing.seconds, missing.succeeded) == (2, seconds, False)


def test_the_average_weighs_by_examples_and_stays_without_an_answer(hybrid) -> None:
    weights = {"w": np.array([1.0, 2.0], np.float32)}
    replies = [
        FLModel(params={"w": np.array(update, np.float32)}, meta={"num_examples": n})
        for update, n in (([1.0, 0.0], 30), ([0.0, 4.0], 10))
    ]
    assert hybrid.averaged(weights, replies)["w"].tolist() == [1.75, 3.0]
    assert hybrid.averaged(weights, [])["w"].tolist() == [1.0, 2.0]
