"""The allocations of a setting and seed: references, random and biased sets, absences, wires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from ...allocator.arrays import FloatArray, IntArray

_RANDOM_SETS, _BIASED_SETS, _ABSENT_SETS = 7, 7, 4
_WIRE_BITS = (2, 8)
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.85
_BEND = 1.5  # more small sets than large: a half on QAT already has most of the accuracy
_REPEATED = {"random": (1, 4), "biased": (2,)}  # numbers of the sets that are trained twice
_WOBBLE = 0.15  # so that a biased set is not the same for all sizes

Does = Literal["ptq", "qat", "skip"]


class Kind(StrEnum):
    """Why an allocation is trained."""

    ALL_PTQ = "all-PTQ"
    ALL_QAT = "all-QAT"
    RANDOM = "random"
    """A random part of the clients does QAT, the others PTQ."""
    BIASED = "biased"
    """The same, but QAT goes to those that hold least of some classes."""
    ABSENT = "absent"
    """A random part does QAT, the others skip."""
    WIRE = "wire"
    """All QAT, with other wire bits than four."""


@dataclass(frozen=True)
class Drawn:
    """An allocation, whatever the bits of the deployment.

    Args:
        kind: Why it is trained.
        does: `(clients,)` methods.
        wire_bits: Of those that take part.
        is_repeated: Whether it is trained twice, to see what chance does.
    """

    kind: Kind
    does: tuple[Does, ...]
    wire_bits: int = 4
    is_repeated: bool = False

    def strategies(self, ptq: str, qat: str) -> tuple[str, ...]:
        """`(clients,)` what they do, as text.

        Example:
            >>> Drawn(Kind.ABSENT, ("qat", "skip")).strategies("ptq-w2a2", "qat-w2a2")
            ('qat-w2a2', 'skip')
        """
        wire = "" if self.wire_bits == 4 else f"-u{self.wire_bits}"
        texts = {"ptq": ptq + wire, "qat": qat + wire, "skip": "skip"}
        return tuple(texts[d] for d in self.does)


def draw_allocations(label_counts: IntArray, entropy: Sequence[int]) -> tuple[Drawn, ...]:
    """The allocations of a fleet.

    Args:
        label_counts: `(clients, classes)`.
        entropy: What the draws are seeded with.

    Returns:
        References, random and biased sets by rising share, absences, wires.

    Example:
        >>> drawn = draw_allocations(np.eye(20, dtype=int), (1, 2))
        >>> len(drawn), sum(d.kind is Kind.BIASED for d in drawn)
        (22, 7)
    """
    rng = np.random.default_rng(entropy)
    n = len(label_counts)
    drawn = [
        Drawn(Kind.ALL_PTQ, _all("ptq", n), is_repeated=True),
        Drawn(Kind.ALL_QAT, _all("qat", n), is_repeated=True),
    ]
    for kind, count in ((Kind.RANDOM, _RANDOM_SETS), (Kind.BIASED, _BIASED_SETS)):
        for number, share in enumerate(_shares(count, _BEND, rng)):
            scores = rng.random(n) if kind is Kind.RANDOM else _held_of_some(label_counts, rng)
            does = _lowest(scores, share, "qat", "ptq")
            drawn.append(Drawn(kind, does, is_repeated=number in _REPEATED[kind]))
    for share in _shares(_ABSENT_SETS, 1.0, rng):
        drawn.append(Drawn(Kind.ABSENT, _lowest(rng.random(n), share, "skip", "qat")))
    return (*drawn, *(Drawn(Kind.WIRE, _all("qat", n), bits) for bits in _WIRE_BITS))


def _all(does: Does, clients: int) -> tuple[Does, ...]:
    return (does,) * clients


def _shares(count: int, bend: float, rng: np.random.Generator) -> FloatArray:
    """`(count,)` rising shares, one in each of as many strata."""
    even = (np.arange(count) + rng.random(count)) / count
    return np.asarray(_LEAST_SHARE + (_MOST_SHARE - _LEAST_SHARE) * even**bend)


def _held_of_some(label_counts: IntArray, rng: np.random.Generator) -> FloatArray:
    """`(clients,)` what part of a client's examples is of some classes, drawn here; not exactly."""
    classes = label_counts.shape[1]
    left_out = rng.choice(classes, rng.integers(1, classes // 2 + 1), replace=False)
    held = label_counts[:, left_out].sum(axis=1) / label_counts.sum(axis=1).clip(min=1)
    return np.asarray(held + _WOBBLE * rng.random(len(held)))


def _lowest(scores: FloatArray, share: float, low: Does, high: Does) -> tuple[Does, ...]:
    """The share of the clients with the lowest scores does one thing, the others another."""
    n = len(scores)
    chosen = np.argsort(scores, kind="stable")[: min(max(round(share * n), 1), n - 1)]
    return tuple(low if client in chosen else high for client in range(n))
