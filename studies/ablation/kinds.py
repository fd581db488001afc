"""What kind of solver a contestant is: what colours and captions go by."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Kinds of solvers, in the order in which they are listed."""

    OURS = "fedhq's own solvers"
    MODELLER = "libraries behind cvxpy"
    LIBRARY = "libraries called directly"
    HEURISTIC = "heuristics"
    BLACK_BOX = "Optuna"
    RULE = "rules"

    @classmethod
    def of(cls, settings: str) -> Kind:
        """That of a solver, by the name of its class.

        Args:
            settings: Its `repr`; of a class that is not known, a library is behind it.

        Example:
            >>> Kind.of("Exact(gap=0.0)"), Kind.of("Uniform('qat-w2a2')")
            (<Kind.OURS: "fedhq's own solvers">, <Kind.RULE: 'rules'>)
        """
        return _KINDS.get(settings.partition("(")[0], cls.LIBRARY)


_KINDS = {
    **dict.fromkeys(("Sweep", "Dual", "Exact", "FrontierPick"), Kind.OURS),
    "Cvx": Kind.MODELLER,
    **dict.fromkeys(("Greedy", "LpRounding"), Kind.HEURISTIC),
    **dict.fromkeys(("BlackBox", "PerClient", "PolicySearch"), Kind.BLACK_BOX),
    **dict.fromkeys(("Uniform", "Random", "HardwareOnly", "DataOnly", "CoarseRule"), Kind.RULE),
}
