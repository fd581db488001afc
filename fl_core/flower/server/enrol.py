"""What clients tell of themselves, as the tables that an allocator plans with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from flwr.app import ArrayRecord

from ....allocator.arrays import FloatArray
from ....allocator.controller import HybridAllocator
from ....allocator.hardware import HardwareTables
from ....allocator.strategy import Strategy
from ...wire.codec import encoded_bytes
from ...wire.rounding import RAW_BITS
from ..messages.npy import array_form
from ..messages.packing import coded_names
from ..messages.profile import ClientProfile


@dataclass(frozen=True)
class Sizes:
    """What a round of a model sends.

    Args:
        uplink_bytes: `(strategies,)` of a client; 0 for skip.
        downlink_bytes: The model as a client receives it.
    """

    uplink_bytes: tuple[int, ...]
    downlink_bytes: int


def sizes_of(arrays: ArrayRecord, menu: Sequence[Strategy], downlink_bits: int) -> Sizes:
    """Bytes of a model and of its update at every strategy's wire bits.

    Example:
        >>> from flwr.app import Array
        >>> model = ArrayRecord({"w": Array(np.zeros((8, 100), np.float32))})
        >>> sizes_of(model, [Strategy.parse(s) for s in ("skip", "qat-w2a2")], 32)
        Sizes(uplink_bytes=(0, 492), downlink_bytes=3200)
    """
    forms = {name: array_form(name, array) for name, array in arrays.items()}
    names = coded_names(arrays)
    shapes = [forms[name][1] for name in names]
    of_all = {name: dtype.itemsize * prod(shape) for name, (dtype, shape) in forms.items()}
    as_it_is = sum(size for name, size in of_all.items() if name not in set(names))
    up = [0 if s.is_skip else encoded_bytes(shapes, s.wire_bits) + as_it_is for s in menu]
    if downlink_bits == RAW_BITS:
        return Sizes(tuple(up), sum(of_all.values()))
    return Sizes(tuple(up), encoded_bytes(shapes, downlink_bits) + as_it_is)


def supported(profile: ClientProfile, menu: Sequence[Strategy]) -> list[bool]:
    """`(strategies,)` what a client can do, at whatever wire bits; everybody can skip.

    Example:
        >>> profile = ClientProfile("a", strategies=(Strategy.parse("ptq-w2a2"),))
        >>> supported(profile, [Strategy.parse(s) for s in ("skip", "ptq-w2a2-u8", "fp32")])
        [True, True, False]
    """
    if profile.strategies is None:
        return [True] * len(menu)
    able = {strategy.compute for strategy in profile.strategies}
    return [strategy.is_skip or strategy.compute in able for strategy in menu]


def hardware_of(
    profiles: Sequence[ClientProfile], menu: Sequence[Strategy], sizes: Sizes
) -> HardwareTables:
    """What each strategy costs each client: training as told, transfers at the rates told.

    Times that are not told are NaN, and learned; memory is the client's own affair.
    """
    trained = np.array([_training_seconds(profile, menu) for profile in profiles])
    down = [sizes.downlink_bytes / p.downlink_bytes_per_second for p in profiles]
    up = [1.0 / p.uplink_bytes_per_second for p in profiles]
    busy = np.array([0.0 if s.is_skip else 1.0 for s in menu])
    watts = np.array([p.active_watts or np.nan for p in profiles])
    transfer = np.outer(down, busy) + np.outer(up, sizes.uplink_bytes)
    return HardwareTables(
        seconds=trained + transfer,
        uplink_bytes=np.tile(np.array(sizes.uplink_bytes, float), (len(profiles), 1)),
        memory_bytes=np.zeros(trained.shape),
        allowed=np.array([supported(p, menu) for p in profiles]),
        strategies=tuple(menu),
        energy_joules=np.where(busy > 0, watts[:, None] * trained, 0.0),
    )


def transfer_seconds(profile: ClientProfile, sizes: Sizes, column: int) -> float:
    """What sending takes a client in a round, at the rates that it told."""
    return (
        sizes.downlink_bytes / profile.downlink_bytes_per_second
        + sizes.uplink_bytes[column] / profile.uplink_bytes_per_second
    )


def join(
    allocator: HybridAllocator, profiles: Sequence[ClientProfile], sizes: Sizes
) -> Sequence[int | str]:
    """Has clients join; those whose classes are not the fleet's count as if they withheld them.

    Returns:
        `(clients,)` their numbers in the allocator's fleet; of one that it refuses, why.
    """
    num_classes = _num_classes(allocator, profiles)
    try:
        return _join(allocator, profiles, sizes, num_classes)
    except ValueError:  # of which of them?
        found: list[int | str] = []
        for profile in profiles:
            try:
                found += _join(allocator, [profile], sizes, num_classes)
            except ValueError as error:
                found.append(str(error))
        return found


def _join(
    allocator: HybridAllocator,
    profiles: Sequence[ClientProfile],
    sizes: Sizes,
    num_classes: int,
) -> Sequence[int]:
    return allocator.join(
        hardware_of(profiles, allocator.menu, sizes),
        num_examples=[profile.num_examples or np.nan for profile in profiles],
        label_counts=_label_counts(profiles, num_classes),
        device_classes=[profile.device_class for profile in profiles],
    )


def _training_seconds(profile: ClientProfile, menu: Sequence[Strategy]) -> list[float]:
    told = {strategy.compute: seconds for strategy, seconds in profile.round_seconds}
    return [0.0 if s.is_skip else told.get(s.compute, np.nan) for s in menu]


def _num_classes(allocator: HybridAllocator, profiles: Sequence[ClientProfile]) -> int:
    """Classes of the fleet, or what most of its first clients tell; 0 where nobody tells any.

    Of equally many the fewer: who claims more classes must not have all others count as silent.
    """
    known = allocator.label_counts.shape[1] if allocator.num_clients else 0
    if known > 1:
        return known
    told = Counter(len(p.label_counts) for p in profiles if p.label_counts is not None)
    return max(told, key=lambda n: (told[n], -n), default=0)


def _label_counts(profiles: Sequence[ClientProfile], num_classes: int) -> FloatArray | None:
    """`(clients, classes)` what they told, NaN where they withhold it; None where all do."""
    if not num_classes or all(p.label_counts is None for p in profiles):
        return None
    withheld = (np.nan,) * num_classes
    rows = [p.label_counts or withheld for p in profiles]
    return np.array([row if len(row) == num_classes else withheld for row in rows], float)
