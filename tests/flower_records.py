"""A model with all kinds of tensors, what it is trained to, and replies that pack it."""

from dataclasses import replace

import numpy as np
from flwr.app import Array, ArrayRecord

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.flower.messages.orders import Decision
from fedhq.fl_core.flower.messages.packing import pack_update
from fedhq.fl_core.settings import QuantizationSettings

RNG = np.random.default_rng(0)
VALUES = {
    "conv.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "bn.weight": np.ones(4, np.float32),
    "bn.running_mean": RNG.normal(size=4).astype(np.float32),
    "bn.num_batches_tracked": np.array(7),
    "half": RNG.normal(size=(2, 5)).astype(np.float16),
    "double": RNG.normal(size=(3,)),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(0.25, np.float32),
    "mask": np.array([True, False]),
    "turned": np.asfortranarray(RNG.normal(size=(3, 4)).astype(np.float32)),
}
CODED = ("conv.weight", "bn.weight", "half", "double", "empty", "scalar", "turned")
PLAIN = ("bn.running_mean", "bn.num_batches_tracked", "mask")


def record(values=VALUES):
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in values.items()})


def decide(strategy="qat-w2a2", **changes):
    decision = Decision(
        strategy=Strategy.parse(strategy),
        deployed=Strategy.parse("qat-w2a2"),
        round_number=3,
        client=5,
        seed=11,
        arrays_key="arrays",
        downlink_bits=32,
        names=CODED,
        quantization=QuantizationSettings(),
    )
    return replace(decision, **changes)


def train(values=VALUES, seed=1, step=0.1):
    """Another model of the same names, shapes and types."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name, value in values.items():
        change = step * rng.normal(size=value.shape)
        moved[name] = value if value.dtype.kind in "ib" else (value + change).astype(value.dtype)
    return moved


def float32(values, names=CODED):
    return {name: np.asarray(values[name], np.float32) for name in names}


def reply_with(**arrays):
    packed, _ = pack_update(record(), record(train()), decide(), 80, None)
    for name, values in arrays.items():
        packed[name.replace("__", ".")] = Array(np.asarray(values))
    return packed


def as_array(payload):
    return np.frombuffer(payload, np.uint8)
