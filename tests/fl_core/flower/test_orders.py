"""Decisions, reports and profiles as records of Flower: there and back, and checked when read."""

import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord

from fedhq.allocator.errors import WireError
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.flower.messages.orders import Decision, Report
from fedhq.fl_core.flower.messages.profile import ClientProfile
from fedhq.fl_core.settings import LayerSettings, QuantizationSettings

QAT, PTQ = Strategy.parse("qat-w2a2"), Strategy.parse("ptq-w4a8-u8")
DECISION = Decision(
    strategy=QAT,
    deployed=PTQ,
    round_number=3,
    client=5,
    seed=11,
    arrays_key="arrays",
    downlink_bits=4,
    names=("conv.weight", "bn.weight"),
    quantization=QuantizationSettings(
        group_size=32, exclude=("head",), keep_first=True, layers=(LayerSettings("*.q", 4, 8),)
    ),
    examples_key="weight",
)
PROFILE = ClientProfile(
    name="03",
    num_examples=120,
    label_counts=(30.0, -0.7, 90.0),
    device_class="phone",
    strategies=(QAT, PTQ),
    round_seconds=((QAT, 3.5), (PTQ, 2.25)),
    uplink_bytes_per_second=1e6,
    downlink_bytes_per_second=4e6,
    active_watts=2.5,
)
REPORT = Report(seconds=1.25)
KINDS = {Decision: DECISION, ClientProfile: PROFILE, Report: REPORT}


def through_flower(record):
    """What the other side reads: Flower's own record, to bytes and back."""
    return ConfigRecord.inflate(ConfigRecord(dict(record)).deflate())


@pytest.mark.parametrize(
    "value",
    [
        DECISION,
        replace(DECISION, names=()),
        PROFILE,
        ClientProfile("a"),
        REPORT,
        Report(None, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_written_is_read(value):
    record = through_flower(value.to_record())
    assert type(value).from_record(record) == value
    assert record.count_bytes() > 0  # raises for empty lists and texts


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        (Decision, {"version": 2}, "version = 1"),
        (Decision, {"version": None}, "it has 'version'"),
        (Decision, {"strategy": "skip"}, "`strategy` must train"),
        (Decision, {"strategy": "qat-w9a9"}, "strategy of a decision"),
        (Decision, {"strategy": 4}, "strategy is a text"),
        (Decision, {"deployed": "qat" * 100}, "text of 1 to 32"),
        (Decision, {"round": True}, "a whole number"),
        (Decision, {"round": 2**40}, "round_number"),
        (Decision, {"client": -1}, "client"),
        (Decision, {"seed": 1.0}, "seed"),
        (Decision, {"downlink-bits": 9}, "downlink_bits"),
        (Decision, {"names": ["a", "a"]}, "different names"),
        (Decision, {"names": ["a"] * 100_001}, "at most 100000"),
        (Decision, {"names": [b"a"]}, "names is a text"),
        (Decision, {"names": ["a\n"]}, "can be printed"),
        (Decision, {"quantization": "{"}, "quantization is settings"),
        (Decision, {"quantization": "[" * 60_000}, "quantization is settings"),
        (Decision, {"quantization": '{"weight_fit": "best"}'}, "quantization is settings"),
        (Decision, {"quantization": '{"more": 1}'}, "quantization is settings"),
        (Decision, {"quantization": "x" * 70_000}, "1 to 65536"),
        (ClientProfile, {"name": ""}, "1 to 256 characters"),
        (ClientProfile, {"name": "a" * 257}, "1 to 256 characters"),
        (ClientProfile, {"name": None}, "it has 'name'"),
        (ClientProfile, {"num-examples": -1}, "num-examples"),
        (ClientProfile, {"label-counts": [1.0, math.nan]}, "label-counts is finite"),
        (ClientProfile, {"label-counts": [10**400]}, "label-counts is finite.*1329 bits"),
        (ClientProfile, {"label-counts": [0.0] * 70_000}, "at most 65536"),
        (ClientProfile, {"label-counts": "many"}, "is a list"),
        (ClientProfile, {"strategies": ["best"]}, "strategies of a client's profile"),
        (ClientProfile, {"round-seconds": [1.0]}, "one a timed strategy"),
        (ClientProfile, {"round-seconds": [0.0, 1.0]}, "round_seconds"),
        (ClientProfile, {"round-seconds": [math.inf, 1.0]}, "round-seconds is finite"),
        (ClientProfile, {"uplink-bytes-per-second": 0.0}, "0.001 <= uplink_bytes_per_second"),
        (ClientProfile, {"uplink-bytes-per-second": math.nan}, "is finite"),
        (ClientProfile, {"uplink-bytes-per-second": 1e-310}, "0.001 <= uplink_bytes_per_second"),
        (ClientProfile, {"round-seconds": [1e308, 1.0]}, "round_seconds <= 1e\\+15"),
        (ClientProfile, {"label-counts": [1e308, -1e308]}, "label_counts <= 1e\\+15"),
        (ClientProfile, {"active-watts": 1e308}, "active_watts <= 1e\\+15"),
        (ClientProfile, {"active-watts": -1}, "active_watts"),
        (ClientProfile, {"device-class": b"phone"}, "device-class is a text"),
        (Report, {"seconds": math.inf}, "seconds is finite"),
        (Report, {"seconds": -1.0}, "seconds >= 0"),
        (Report, {"seconds": "1"}, "seconds is finite"),
        (Report, {"packed": 1}, "packed is true or false"),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused(kind, changes, match):
    record = {**KINDS[kind].to_record(), **changes}
    record = {name: value for name, value in record.items() if value is not None}
    with pytest.raises(WireError, match=match):
        kind.from_record(record)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("record", [None, "fedhq", [1], 3.0, {}])
def test_what_is_no_record_is_refused(kind, record):
    with pytest.raises(WireError):
        kind.from_record(record)


ODD = [None, True, -1, 0, 2**70, 10**5000, math.nan, -math.inf, 1e308, "", "\0", "x" * 99_999]
ODD += [b"", b"\xff", [], [None], [[]], ["", 1], [math.inf], [10**5000], {}, {"a": 1}, object()]


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_gives_a_wire_error_or_a_sound_value(kind):
    rng = np.random.default_rng(0)
    good = dict(KINDS[kind].to_record())
    refused = 0
    for _ in range(400):
        record = dict(good)
        for key in rng.choice(list(good), rng.integers(1, 4)):
            if rng.random() < 0.2:
                record.pop(key, None)
            else:
                record[key] = ODD[rng.integers(len(ODD))]
        try:
            read = kind.from_record(record)
        except WireError as error:
            refused += len(str(error)) < 1000
        else:
            assert kind.from_record(read.to_record()) == read
    assert refused > 200


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`strategy` must train"):
        replace(DECISION, strategy=Strategy.parse("skip"))
    with pytest.raises(ValueError, match="0 <= seed"):
        replace(DECISION, seed=2**63)
    with pytest.raises(ValueError, match="printable characters"):
        ClientProfile("a\nb")
    with pytest.raises(ValueError, match="holds a class, or is None"):
        ClientProfile("a", label_counts=())
