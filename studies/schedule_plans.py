"""Plans of the schedules study: who does what in every round, written down before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Rows = tuple[tuple[str, ...], ...]

QAT, PTQ, FLOAT, SKIP = "qat-w2a2", "ptq-w2a2", "fp32", "skip"
MENU = (SKIP, FLOAT, PTQ, QAT, "qat-w2a2-u2", "qat-w2a2-u8")
LATE_SHARES = (0.1, 0.2, 0.3, 0.5)
RHYTHMS = (2, 4, 8)
_WIRE = ("qat-w2a2-u2", QAT, "qat-w2a2-u8")


@dataclass(frozen=True)
class Arm:
    """A schedule that is compared.

    Args:
        question: What it helps to answer: `when`, `warm-up`, `share`, `wire` or `rest`.
        name: What is done.
        rows: `(rounds, clients)` texts of strategies; one row where all rounds are alike.
    """

    question: str
    name: str
    rows: Rows


def arms_of(clients: int, rounds: int, slow: Sequence[int]) -> list[Arm]:
    """All schedules of the study.

    Args:
        clients: Of the fleet.
        rounds: Of a run.
        slow: The slowest third, who rests in the last question.

    Example:
        >>> arms = arms_of(3, 10, [2])
        >>> [row[0] for row in next(a for a in arms if a.name == "QAT last 30 %").rows][6:]
        ['ptq-w2a2', 'qat-w2a2', 'qat-w2a2', 'qat-w2a2']
    """

    def every(strategy: str) -> tuple[str, ...]:
        return (strategy,) * clients

    def phases(before: str, share: float, after: str) -> Rows:
        late = max(1, round(share * rounds))
        return (every(before),) * (rounds - late) + (every(after),) * late

    arms = [Arm("when", "all-PTQ", (every(PTQ),)), Arm("when", "all-QAT", (every(QAT),))]
    arms += [
        Arm("when", f"QAT last {s:.0%}".replace("%", " %"), phases(PTQ, s, QAT))
        for s in LATE_SHARES
    ]
    arms += [
        Arm("when", f"QAT first {s:.0%}".replace("%", " %"), phases(QAT, 1 - s, PTQ))
        for s in (0.3, 0.5)
    ]
    edge = round(0.35 * rounds)
    middle = (every(PTQ),) * edge + (every(QAT),) * (rounds - 2 * edge)
    arms.append(Arm("when", "QAT middle 30 %", middle + (every(PTQ),) * edge))
    arms += [
        Arm("warm-up", f"fp32, then QAT last {s:.0%}".replace("%", " %"), phases(FLOAT, s, QAT))
        for s in (0.3, 0.5)
    ]
    first = tuple(QAT if c % 2 else PTQ for c in range(clients))
    arms.append(Arm("share", "half on QAT", (first,)))
    half = (every(PTQ),) * (rounds - rounds // 2) + (first,) * (rounds // 2)
    arms.append(Arm("share", "half on QAT in the last 50 %", half))
    turns = tuple(
        tuple(QAT if c % 5 == r % 5 else PTQ for c in range(clients)) for r in range(rounds)
    )
    arms.append(Arm("share", "fifths on QAT in turn", turns))
    for name, order in (("rising", _WIRE), ("falling", _WIRE[::-1])):
        bits = tuple(every(order[3 * r // rounds]) for r in range(rounds))
        arms.append(Arm("wire", f"wire bits {name}", bits))
    arms += [Arm("wire", f"wire {u} bits", (every(f"qat-w2a2-u{u}"),)) for u in (2, 8)]
    return arms + rest_arms(clients, rounds, slow, QAT)


def rest_arms(clients: int, rounds: int, slow: Sequence[int], strategy: str) -> list[Arm]:
    """The slow clients take part in every n-th round, or never."""

    def row(here: bool) -> tuple[str, ...]:
        return tuple(strategy if here or c not in slow else SKIP for c in range(clients))

    arms = []
    for n in RHYTHMS:
        rows = tuple(row((rounds - r) % n == 1 % n) for r in range(1, rounds + 1))
        arms.append(Arm("rest", f"slow third in 1 of {n}", rows))
    return [*arms, Arm("rest", "slow third never", (row(False),))]
