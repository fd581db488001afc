"""What is compared: arms, each with how it decides, and where it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .grid import EXACT, Cell
from .plans import (
    FINISH,
    MOST_TAKE_PART,
    PTQ,
    QAT,
    Plan,
    bits_by_speed,
    careful,
    coarse,
    constant,
    data_only,
    finished,
    hardware_only,
    in_ptq_time,
    late_qat,
    learned,
    random_hybrid,
    resting,
    scheduled,
    with_menu,
)
from .situation import Situation

COARSE, SCHEDULED = "coarse", "scheduled"
"""The program round by round, and over all rounds."""

FINISHED = "fast, then finish"
"""The arm that is judged against all-QAT."""

SAME_FINISH = "late QAT, fedhq's finish"
"""What is left of it where nobody does QAT before the end."""

IN_PTQ_TIME = "scheduled, all-PTQ's time"
"""The arm that is judged against all-PTQ."""

FOLLOWED = "coarse + learned accuracy"
"""The arm whose decisions need training; see `following`."""

_FEWER_ROUNDS = 0.7


@dataclass(frozen=True)
class Arm:
    """One way to decide.

    Args:
        name: For tables.
        says: What it does, in a sentence.
        decide: Its plan in a cell; None where what training shows decides, too (`following`).
        kind: `main` in all cells of the exact clock, `effect` and `followed` in some of them,
            `unsure` where the server is told wrong times.
        low_bit: Whether its devices compute faster at fewer bits.
        rounds: For which share of the rounds it trains.
        beside: Of an effect, the arm from which it differs in one thing.
    """

    name: str
    says: str
    decide: Callable[[Situation], Plan] | None
    kind: str = "main"
    low_bit: bool = False
    rounds: float = 1.0
    beside: str = COARSE


ARMS = (
    Arm("fp32", "float training, float uploads", constant("fp32")),
    Arm("all-PTQ", "float training, updates at 4 bits", constant(PTQ)),
    Arm("all-QAT", "what fedhq is measured against", constant(QAT)),
    Arm(
        "all-QAT, fewer rounds",
        f"for {_FEWER_ROUNDS:g} of the rounds, in which its learning rate falls",
        constant(QAT),
        rounds=_FEWER_ROUNDS,
    ),
    Arm("late QAT, half", "all-PTQ, from half of the rounds on all-QAT", late_qat(0.5)),
    Arm(
        SAME_FINISH,
        "all-PTQ, and all-QAT in as many last rounds as fedhq finishes, which then takes as long",
        late_qat(FINISH),
    ),
    Arm("random hybrid", "as many QAT clients as coarse, at random", random_hybrid),
    Arm("hardware-only", "QAT where it delays nobody", hardware_only),
    Arm(
        "data-only, common",
        "as many QAT clients as coarse, those of common labels",
        data_only(prefer_skewed=False),
    ),
    Arm(
        "data-only, rare",
        "as many QAT clients as coarse, those of rare labels",
        data_only(prefer_skewed=True),
    ),
    Arm(COARSE, "fedhq: the program on predicted times and losses", coarse),
    Arm(
        FINISHED,
        f"fedhq: the fastest rounds of the least loss, the last {FINISH:.0%} those of the least "
        "loss whatever they take. Where nothing but time is limited, as here, that is "
        "hardware-only and then all-QAT",
        finished,
    ),
    Arm(SCHEDULED, "fedhq: the program over all rounds, QAT where it lasts", scheduled),
    Arm(
        IN_PTQ_TIME,
        "fedhq: the same, in no more time than all-PTQ; here that is hardware-only, too",
        in_ptq_time,
    ),
    Arm(
        "bits by speed",
        "QAT at 8, 4, 2 bits from fast to slow; fake quantization costs what it costs",
        bits_by_speed,
    ),
    Arm(
        "bits by speed, low-bit units",
        "the same on devices whose steps take time in proportion to the bits",
        bits_by_speed,
        low_bit=True,
    ),
    Arm(
        "coarse, nothing given up",
        "the fastest of those whose predicted loss is least",
        careful,
        "effect",
    ),
    Arm("coarse + skip", "may leave clients out", with_menu("skip", PTQ, QAT), "effect"),
    Arm(
        "coarse + wire bits",
        "may send updates at 2 bits",
        with_menu("ptq-w2a2-u2", PTQ, "qat-w2a2-u2", QAT),
        "effect",
    ),
    Arm(
        f"{FINISHED}, fewer rounds",
        f"for {_FEWER_ROUNDS:g} of the rounds, in which its learning rate falls",
        finished,
        "effect",
        rounds=_FEWER_ROUNDS,
        beside=FINISHED,
    ),
    Arm(
        "scheduled + rests",
        f"may leave clients out while {MOST_TAKE_PART:g} of the examples take part",
        resting,
        "effect",
        beside=SCHEDULED,
    ),
    Arm("coarse + learned", "re-solved with observed times", learned, "unsure"),
    Arm(
        FOLLOWED,
        "told after every round how much accuracy quantization takes on the server's examples",
        None,
        "followed",
    ),
)
"""All arms; one more is one more line."""

UNSURE_ARMS = ("all-PTQ", "all-QAT", "coarse", "coarse + learned")
"""What is compared where the clock is not exact."""


def arms_of(cell: Cell, *, is_apart: bool) -> list[Arm]:
    """The arms that are compared in a cell.

    Args:
        cell: The cell.
        is_apart: Whether effects are kept apart there.
    """
    if cell.clock != EXACT:
        return [arm for arm in ARMS if arm.name in UNSURE_ARMS]
    kinds = ("main", "effect") if is_apart else ("main",)
    return [arm for arm in ARMS if arm.kind in kinds]
