"""The inbox: what is let in, what is refused for which reason, and that nothing counts twice."""

import struct
import zlib

import numpy as np
import pytest

from fedhq.fl_core.server.inbox import Arrival, ArrivalStatus, Inbox
from fedhq.fl_core.wire.codec import WIRE_BITS, encode_update

TEMPLATE = {"w": np.zeros((3, 5), np.float32), "b": np.zeros(3, np.float32)}
EXAMPLES = [10, 20, 30]


def payload(client=0, number=5, num_examples=None, wire_bits=4, scale=1.0, seed=0) -> bytes:
    rng = np.random.default_rng(seed)
    update = {k: (scale * rng.normal(size=v.shape)).astype(np.float32) for k, v in TEMPLATE.items()}
    return encode_update(
        update,
        wire_bits=wire_bits,
        round_number=number,
        client=client,
        num_examples=EXAMPLES[client % 3] if num_examples is None else num_examples,
        rng=rng,
    )


def statuses(inbox, arrivals, now=5) -> list[str]:
    opened = inbox.open(now, arrivals, TEMPLATE)
    assert all((one.update is None) == (one.status != "ok") == bool(one.detail) for one in opened)
    return [str(one.status) for one in opened]


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_what_is_as_expected_is_let_in(wire_bits) -> None:
    inbox = Inbox(EXAMPLES, 0)
    arrivals = [Arrival(k, 5, payload(k, wire_bits=wire_bits)) for k in range(3)]
    assert statuses(inbox, arrivals) == ["ok"] * 3


@pytest.mark.parametrize(
    ("arrival", "status", "detail"),
    [
        (Arrival(0, 5, b""), "malformed", "starts with"),
        (Arrival(0, 5, payload()[:-1]), "malformed", "length"),
        (Arrival(1, 5, payload(0)), "foreign", r"`client = 1`.*got 0: look for"),
        (Arrival(3, 5, payload(3)), "foreign", r"`0 <= client < 3`.*got 3: enrol"),
        (Arrival(-1, 5, payload(0)), "foreign", r"`0 <= client < 3`.*got -1"),
        (Arrival(0, 6, payload(number=6)), "future", r"`round <= 5`.*got 6"),
        (Arrival(0, 2, payload(number=2)), "stale", r"`round >= 3`.*got 2.*max_staleness"),
        (Arrival(0, 5, payload(number=4)), "wrong_round", r"`round = 5`.*got 4"),
        (Arrival(0, 5, payload(num_examples=11)), "wrong_examples", r"`examples = 10`.*got 11"),
        (Arrival(0, 5, payload(scale=1e4)), "too_large", r"`values <= 1000`.*learning_rate"),
        (Arrival(0, 5, payload(), wire_bits=2), "wrong_bits", r"`wire_bits = 2`.*got 4"),
        (Arrival(0, 5, payload(wire_bits=32), wire_bits=4), "wrong_bits", r"`wire_bits = 4`"),
        (
            Arrival(0, 5, payload(scale=1e19, wire_bits=32)),
            "too_large",
            r"`values <= 1000`.*got \d.\d*e\+19",
        ),
    ],
)
def test_each_reason_has_its_rule_and_mend(arrival, status, detail) -> None:
    import re

    (opened,) = Inbox(EXAMPLES, 2).open(5, [arrival], TEMPLATE)
    assert (str(opened.status), opened.update) == (status, None)
    assert re.search(detail, opened.detail), opened.detail


def test_nothing_counts_twice_within_a_round_nor_later() -> None:
    inbox = Inbox(EXAMPLES, 2)
    first, other = Arrival(0, 5, payload(0)), Arrival(0, 5, payload(0, seed=1))
    opened = inbox.open(5, [first, other, first], TEMPLATE)
    assert [str(one.status) for one in opened] == ["ok", "duplicate", "duplicate"]
    assert statuses(inbox, [first]) == ["ok"]  # opening alone remembers nothing
    inbox.remember(5, [opened[0].update])
    assert statuses(inbox, [first, other]) == ["replayed"] * 2
    # Sent again as if the client had been given a later model.
    assert statuses(inbox, [Arrival(0, 7, payload(0))], now=7) == ["replayed"]
    assert statuses(inbox, [Arrival(0, 8, payload(0))], now=8) == ["stale"]


def test_a_damaged_copy_does_not_keep_the_good_one_out() -> None:
    good = payload()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    arrivals = [Arrival(0, 5, bad), Arrival(1, 5, good), Arrival(0, 5, good)]
    assert statuses(Inbox(EXAMPLES, 0), arrivals) == ["malformed", "foreign", "ok"]


def test_memory_reaches_as_far_back_as_updates_may_be_stale() -> None:
    inbox = Inbox(EXAMPLES, 2)
    for now in range(1, 20):
        arrivals = [Arrival(k, now, payload(k, now)) for k in range(3)]
        opened = inbox.open(now, arrivals, TEMPLATE)
        inbox.remember(now, [one.update for one in opened])
    assert inbox.taken == [(number, client) for number in (17, 18, 19) for client in range(3)]
    again = [Arrival(k, number, payload(k, number)) for number in range(1, 20) for k in range(3)]
    assert set(statuses(inbox, again, now=19)) == {"replayed", "stale"}


def test_no_bytes_raise_and_what_is_let_in_is_finite_and_small() -> None:
    rng, inbox = np.random.default_rng(0), Inbox(EXAMPLES, 0)
    seen = set()
    for k in range(3000):
        bits = WIRE_BITS[k % len(WIRE_BITS)]
        changed = bytearray(payload(0, wire_bits=bits))
        for at in rng.integers(0, len(changed), rng.integers(1, 5)):
            changed[at] = rng.integers(256)
        if k % 4:  # a right checksum: what lies behind it is reached
            changed[12:16] = bytes(4)
            changed[12:16] = struct.pack("<I", zlib.crc32(changed))
        (opened,) = inbox.open(5, [Arrival(0, 5, bytes(changed))], TEMPLATE)
        seen.add(opened.status)
        if opened.update is not None:
            assert all((np.abs(v) <= 1000).all() for v in opened.update.tensors.values())
    assert {ArrivalStatus.OK, ArrivalStatus.MALFORMED, ArrivalStatus.TOO_LARGE} <= seen
    assert {ArrivalStatus.WRONG_EXAMPLES, ArrivalStatus.FOREIGN} <= seen
