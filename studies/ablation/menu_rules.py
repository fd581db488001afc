"""Rules that take their strategies from the problem's menu, so that one rule fits all problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...allocator import (
    AllocationProblem,
    Answer,
    CoarseRule,
    DataOnly,
    HardwareOnly,
    Method,
    Random,
    Solver,
    Strategy,
    Uniform,
)


@dataclass(frozen=True)
class OnMenu:
    """A rule for the QAT strategy of whatever menu a problem has, and a cheaper one.

    QAT is the first of those that teach most. The other one is the first PTQ of the same bits, else
    the first PTQ, else the first fp32.

    Args:
        rule: Makes the rule of the two.
        told: The rule in words, as `repr` says it.

    Example:
        >>> problem = AllocationProblem(("skip", "ptq-w4a4", "qat-w4a4"), [[0, 1, 2], [0, 3, 5]],
        ...                             [[.1, .1, 0], [.1, .1, 0]], tradeoff=10.0)
        >>> HARDWARE_ONLY(problem).choice, HARDWARE_ONLY
        (array([2, 1]), HardwareOnly(QAT, else PTQ))
    """

    rule: Callable[[Strategy, Strategy], Solver]
    told: str

    def __repr__(self) -> str:
        return self.told

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the menu has no QAT, or nothing else that trains.
        """
        menu = problem.strategies
        qats = [k for k, s in enumerate(menu) if s.method is Method.QAT]
        others = [s for s in menu if s.method in (Method.PTQ, Method.FP32)]
        if not qats or not others:
            raise ValueError(
                "`strategies` must hold QAT, and PTQ or fp32 beside it, but are "
                f"{[str(s) for s in menu]}. The rule decides between the two."
            )
        term = problem.coverage
        qat = menu[qats[0] if term is None else max(qats, key=lambda k: float(term.teaches[k]))]
        return self.rule(qat, min(others, key=lambda other: _distance(other, qat)))(problem)


def _distance(other: Strategy, qat: Strategy) -> tuple[bool, bool]:
    """What is least is the nearest."""
    bits = other.weight_bits, other.activation_bits
    return other.method is not Method.PTQ, bits != (qat.weight_bits, qat.activation_bits)


def _uniform_qat(qat: Strategy, other: Strategy) -> Solver:
    return Uniform(qat)


def _uniform_other(qat: Strategy, other: Strategy) -> Solver:
    return Uniform(other)


def _random_half(qat: Strategy, other: Strategy) -> Solver:
    return Random(qat, other, share=0.5, seed=0)


def _data_half(qat: Strategy, other: Strategy) -> Solver:
    return DataOnly(qat, other, share=0.5)


UNIFORM_QAT = OnMenu(_uniform_qat, "Uniform(QAT)")
UNIFORM_PTQ = OnMenu(_uniform_other, "Uniform(PTQ)")
HARDWARE_ONLY = OnMenu(HardwareOnly, "HardwareOnly(QAT, else PTQ)")
DATA_ONLY = OnMenu(_data_half, "DataOnly(QAT, else PTQ, share=0.5)")
RANDOM = OnMenu(_random_half, "Random(QAT, else PTQ, share=0.5, seed=0)")
COARSE = OnMenu(CoarseRule, "CoarseRule(QAT, else PTQ)")
