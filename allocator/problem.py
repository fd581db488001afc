"""The allocation program of design section 3 as data: arrays with units, checked once, frozen."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import BoolArray, FloatArray, IntArray, freeze
from .coverage import Coverage
from .strategy import Strategy, parse_menu
from .terms import Budget, Count

_MOST = 1e307  # of a sum: beyond, floating point ends


@dataclass(frozen=True, eq=False)
class AllocationProblem:
    """Which client does what in a round: minimise `T + tradeoff * L(x) + switching` (section 3).

    With `tradeoff=None` and only `deadline_seconds` the loss is minimised, with only `max_loss`
    the round time; with neither or both there is no goal, and only rules and `pareto_frontier`
    take the problem.

    Args:
        strategies: The menu, as `Strategy` or text.
        seconds: `(clients, strategies)` time of each choice; 0 for skip.
        loss: `(clients, strategies)` loss as a fraction of accuracy, already weighted by data.
        tradeoff: Seconds that one accepts per unit of loss, > 0, or None.
        deadline_seconds: Upper limit of the round time.
        max_loss: Upper limit of the whole loss L.
        allowed: `(clients, strategies)` what a client can do; everything where None.
        budgets: Fleet-wide limits.
        coverage: The loss that depends on which classes are taught; none where None.
        num_examples: `(clients,)` weights of `min_participation`; where None the label counts'
            sums, or equal weights without these.
        min_participation: Least share of the cohort's examples that must not skip.
        switching_seconds: `(clients, strategies)` price of a choice, in seconds.
        counts: How many clients must or may do some strategies.
        groups: `(clients,)` a name each, or None: those of one name must do the same.
        members: `(clients,)` how many clients a row stands for in `counts`; 1 where None.
        clients: Names for messages; `0 ... n-1` where None.

    Raises:
        ValueError: If a table has a wrong shape or value, or a client has nothing allowed.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> problem.num_clients, problem.objective(np.array([1, 0]))
        (2, 4.0)
    """

    strategies: tuple[Strategy, ...]
    seconds: FloatArray
    loss: FloatArray
    tradeoff: float | None
    deadline_seconds: float | None
    max_loss: float | None
    allowed: BoolArray
    budgets: tuple[Budget, ...]
    coverage: Coverage | None
    num_examples: FloatArray
    min_participation: float
    switching_seconds: FloatArray | None
    counts: tuple[Count, ...]
    groups: tuple[Hashable | None, ...] | None
    members: FloatArray
    clients: tuple[str, ...]

    def __init__(
        self,
        strategies: Sequence[Strategy | str],
        seconds: ArrayLike,
        loss: ArrayLike,
        tradeoff: float | None = None,
        *,
        deadline_seconds: float | None = None,
        max_loss: float | None = None,
        allowed: ArrayLike | None = None,
        budgets: Sequence[Budget] = (),
        coverage: Coverage | None = None,
        num_examples: ArrayLike | None = None,
        min_participation: float | None = None,
        switching_seconds: ArrayLike | None = None,
        counts: Sequence[Count] = (),
        groups: Sequence[Hashable | None] | None = None,
        members: ArrayLike | None = None,
        clients: Sequence[object] | None = None,
    ) -> None:
        menu = parse_menu(strategies)
        shape = (len(np.atleast_1d(np.asarray(seconds, dtype=object))), len(menu))
        names = _names(clients, shape[0])
        if coverage is not None:
            coverage.check_shape(shape)
        values = {
            "strategies": menu,
            "seconds": freeze("seconds", seconds, shape),
            "loss": freeze("loss", loss, shape),
            "tradeoff": _optional("tradeoff", tradeoff),
            "deadline_seconds": _optional("deadline_seconds", deadline_seconds),
            "max_loss": _optional("max_loss", max_loss),
            "allowed": _check_allowed(allowed, shape, names),
            "budgets": tuple(budgets),
            "coverage": coverage,
            "num_examples": _examples(num_examples, coverage, shape[0]),
            "min_participation": _optional("min_participation", min_participation) or 0.0,
            "switching_seconds": None
            if switching_seconds is None
            else freeze("switching_seconds", switching_seconds, shape),
            "counts": tuple(counts),
            "groups": None if groups is None else tuple(groups),
            "members": freeze(
                "members", np.ones(shape[0]) if members is None else members, shape[:1]
            ),
            "clients": names,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        shape = self.seconds.shape
        if shape[0] == 0:
            raise ValueError("`seconds` must have at least one client, but it is empty.")
        if (self.seconds[:, ~self.participates] != 0).any():
            raise ValueError("`seconds` must be 0 for skip: a client that skips takes no time.")
        for budget in self.budgets:
            if budget.usage.shape != shape:
                raise ValueError(
                    f"`usage` of budget {budget.resource!r} must have shape {shape}, "
                    f"but got {budget.usage.shape}."
                )
        resources = [b.resource for b in self.budgets]
        if len(set(resources)) < len(resources):
            raise ValueError(f"`budgets` must name different resources, but got {resources}.")
        self._check_sums()
        self._check_counts()
        self._check_groups()
        if self.min_participation > 1:
            raise ValueError(
                f"`0 <= min_participation <= 1` must hold, but got {self.min_participation}."
            )
        if self.tradeoff == 0:
            raise ValueError("`tradeoff > 0` must hold, but got 0. Give `max_loss` instead.")
        if self.switching_seconds is not None and self.has_goal and self.time_weight == 0:
            raise ValueError("`switching_seconds` needs a `tradeoff`: without it only loss counts.")

    def _check_sums(self) -> None:
        """No sum over the clients may overflow."""
        tables = {"seconds": self.seconds, "loss": self.loss, "num_examples": self.num_examples}
        tables |= {f"usage of {b.resource}": b.usage for b in self.budgets}
        if self.switching_seconds is not None:
            tables["switching_seconds"] = self.switching_seconds
        weights = {"loss": max(1.0, self.tradeoff or 0.0)}
        if self.coverage is not None:
            tables["label_counts"] = self.coverage.label_counts
            weights["label_counts"] = float(self.coverage.label_counts.shape[1])  # summed up too
        for name, table in tables.items():
            weight = weights.get(name, 1.0)
            if not float(table.max()) < _MOST / (weight * self.num_clients):
                raise ValueError(
                    f"`{name}` must stay below {_MOST:g} summed up over the clients (times the "
                    f"tradeoff, if it is a loss), but its largest value is {table.max():g}. Use "
                    "`allowed` for what a client cannot do, or a larger unit."
                )

    def _check_counts(self) -> None:
        for count in self.counts:
            for strategy in count.strategies:
                if strategy not in self.strategies:
                    menu = [str(s) for s in self.strategies]
                    raise ValueError(
                        f"`counts` must name strategies of the menu {menu}, but got {strategy!s}."
                    )

        names = [str(c) for c in self.counts]
        if len(set(names)) < len(names):
            raise ValueError(
                f"`counts` must be of different strategies, but got {names}. "
                "Give at_least and at_most of the same strategies in one Count."
            )

    def _check_groups(self) -> None:
        if self.groups is None:
            return
        if len(self.groups) != self.num_clients:
            raise ValueError(
                f"`groups` must hold {self.num_clients} names (or None), one a client, but has "
                f"{len(self.groups)}."
            )
        for name, rows in self.group_rows().items():
            if not self.allowed[rows].all(axis=0).any():
                raise ValueError(
                    f"the clients of a group must share an allowed strategy, but those of "
                    f"{name!r} ({len(rows)} clients) share none. Split the group."
                )

    def group_rows(self) -> dict[Hashable, list[int]]:
        """The clients of every group, by their place; those without a group are not in it."""
        rows: dict[Hashable, list[int]] = {}
        for client, name in enumerate(self.groups or ()):
            if name is not None:
                rows.setdefault(name, []).append(client)
        return rows

    @property
    def num_clients(self) -> int:
        """Clients of the cohort."""
        return int(self.seconds.shape[0])

    @property
    def participates(self) -> BoolArray:
        """`(strategies,)` true where a strategy is not skip."""
        return np.array([not s.is_skip for s in self.strategies])

    @property
    def has_goal(self) -> bool:
        """Whether it is said what to minimise; a solver needs it, a frontier or a rule does not."""
        return self.tradeoff is not None or (
            (self.deadline_seconds is None) != (self.max_loss is None)
        )

    @property
    def time_weight(self) -> float:
        """Weight of the round time in the objective: 1, or 0 where only the loss counts.

        Raises:
            ValueError: If it is not said what to minimise.
        """
        if not self.has_goal:
            given = "neither is given" if self.max_loss is None else "both are given"
            raise ValueError(
                "`tradeoff=None` needs either `deadline_seconds` (the loss is minimised) or "
                f"`max_loss` (the time is minimised), but {given}. Give a tradeoff in seconds per "
                "unit of loss, or pick a point of `pareto_frontier(problem)`."
            )
        return 0.0 if self.tradeoff is None and self.deadline_seconds is not None else 1.0

    @property
    def loss_weight(self) -> float:
        """Weight of the loss in the objective: the trade-off, or 1 or 0 without one."""
        if self.tradeoff is not None:
            return self.tradeoff
        return 1.0 - self.time_weight

    @property
    def example_shares(self) -> FloatArray:
        """`(clients,)` each client's share of the cohort's examples."""
        return self.num_examples / float(self.num_examples.sum())

    def round_seconds(self, choice: IntArray) -> float:
        """The makespan T of a choice, in seconds."""
        return float(self._pick(self.seconds, choice).max())

    def total_loss(self, choice: IntArray) -> float:
        """The whole predicted loss L of a choice: the separable part and coverage."""
        separable = float(self._pick(self.loss, choice).sum())
        if self.coverage is None:
            return separable
        return separable + self.coverage.loss(self.coverage.covered(choice))

    def switching(self, choice: IntArray) -> float:
        """What a choice pays for switching, in seconds."""
        if self.switching_seconds is None:
            return 0.0
        return float(self._pick(self.switching_seconds, choice).sum())

    def objective(self, choice: IntArray) -> float:
        """What is minimised, `time_weight * T + loss_weight * L + switching`; NaN without goal."""
        if not self.has_goal:
            return float("nan")
        value = self.time_weight * self.round_seconds(choice) + self.switching(choice)
        return value + self.loss_weight * self.total_loss(choice)

    def usage(self, choice: IntArray) -> FloatArray:
        """`(budgets,)` what a choice takes of every budget."""
        return np.array([self._pick(b.usage, choice).sum() for b in self.budgets])

    def count(self, count: Count, choice: IntArray) -> float:
        """How many clients do one of a count's strategies."""
        return float(self.members @ count.columns(self.strategies)[choice])

    def participation(self, choice: IntArray) -> float:
        """Share of the cohort's examples whose clients do not skip."""
        return float(self.example_shares @ self.participates[choice])

    @staticmethod
    def _pick(table: FloatArray, choice: IntArray) -> FloatArray:
        return table[np.arange(len(choice)), choice]


def _optional(name: str, value: float | None) -> float | None:
    return None if value is None else float(freeze(name, value, ()))


def _names(clients: Sequence[object] | None, num_clients: int) -> tuple[str, ...]:
    names = tuple(str(c) for c in (range(num_clients) if clients is None else clients))
    if len(names) != num_clients or len(set(names)) < num_clients:
        raise ValueError(
            f"`clients` must be {num_clients} different names, but got {len(names)} names, "
            f"{len(set(names))} of them different."
        )
    return names


def _check_allowed(
    allowed: ArrayLike | None, shape: tuple[int, int], clients: tuple[str, ...]
) -> BoolArray:
    mask = np.ones(shape, dtype=bool) if allowed is None else np.array(allowed)
    if mask.shape != shape or mask.dtype != np.bool_:
        raise ValueError(
            f"`allowed` must be bool of shape {shape}, but got {mask.dtype} of {mask.shape}."
        )
    stuck = np.flatnonzero(~mask.any(axis=1))
    if stuck.size:
        raise ValueError(
            "every client must be allowed at least one strategy, but nothing is allowed to "
            f"{[clients[i] for i in stuck[:5]]} ({stuck.size} in all). Allow 'skip' to them."
        )
    mask.flags.writeable = False
    return mask


def _examples(
    num_examples: ArrayLike | None, coverage: Coverage | None, num_clients: int
) -> FloatArray:
    if num_examples is None and coverage is not None and coverage.label_counts.sum() > 0:
        return freeze("label_counts", coverage.label_counts.sum(axis=1), (num_clients,))
    values = np.ones(num_clients) if num_examples is None else num_examples
    examples = freeze("num_examples", values, (num_clients,))
    if num_clients and not examples.sum() > 0:
        raise ValueError("`num_examples` must hold at least one example, but it is all zero.")
    return examples
