"""Seeds from fedhq's solvers: the optimum of an allocation problem and its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedhq.allocator import Allocation, AllocationProblem, Solver

_FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0, 0.125, 8.0, 0.0625, 16.0)


def allocation_seeds(
    problem: AllocationProblem,
    params_of: Callable[[Allocation], Mapping[str, Any]] | None = None,
    *,
    tradeoffs: Sequence[float] | None = None,
    solver: Solver | None = None,
) -> list[dict[str, Any]]:
    """The problem's optimum as a parameter set, and the optima at other trade-offs beside it.

    The neighbours are Lagrangian: best for another price of the loss, so all of them lie on the
    frontier of round time and loss, and keep every limit of the problem.

    Args:
        problem: What `fedhq.allocator.solve` takes.
        params_of: The parameters that lead to an allocation; where None one a client,
            `client_<name>`, whose value is its strategy as text.
        tradeoffs: Seconds per unit of loss; where None the problem's own times 1/2, 2, 1/4, 4 ...
        solver: Who solves; `Exact()` where None, which proves. `Dual()` takes milliseconds for
            thousands of clients.

    Returns:
        Parameter sets, each once, the problem's own optimum first if it says what to minimise.

    Raises:
        ValueError: If neither the problem nor `tradeoffs` has a trade-off.
        InfeasibleError: If no allocation keeps every limit.
        SolverError: If the solver finds none.

    Example:
        >>> from fedhq.allocator import AllocationProblem
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...     [[.1, 0], [.1, 0]], tradeoff=10.0, clients=["phone", "watch"])
        >>> for seed in allocation_seeds(problem):
        ...     print(seed)
        {'client_phone': 'qat-w2a2', 'client_watch': 'ptq-w2a2'}
        {'client_phone': 'qat-w2a2', 'client_watch': 'qat-w2a2'}
    """
    from fedhq.allocator import Exact, solve  # fedhq is needed for this alone

    if tradeoffs is None:
        if problem.tradeoff is None:
            raise ValueError(
                "`tradeoffs` must be given for a problem without `tradeoff`, but is None. "
                "Write for example tradeoffs=[3, 10, 30, 100]."
            )
        tradeoffs = [problem.tradeoff * factor for factor in _FACTORS]
    asked = [replace(problem, tradeoff=float(value)) for value in tradeoffs]
    if problem.has_goal:
        asked.insert(0, problem)
    seeds: list[dict[str, Any]] = []
    for one in asked:
        allocation = solve(one, solver or Exact()).allocation
        seed = dict(params_of(allocation) if params_of else _per_client(problem, allocation))
        if seed not in seeds:
            seeds.append(seed)
    return seeds


def _per_client(problem: AllocationProblem, allocation: Allocation) -> dict[str, str]:
    return {
        f"client_{name}": str(allocation.strategy(client))
        for client, name in enumerate(problem.clients)
    }
