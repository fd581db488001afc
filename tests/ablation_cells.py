"""Cells for tests: made by hand, and measured by really running solvers."""

from collections.abc import Mapping, Sequence

from fedhq.allocator import (
    Dual,
    Exact,
    FedHQError,
    HardwareOnly,
    Solver,
    SolverError,
    Status,
    Sweep,
    Uniform,
    solve,
)
from fedhq.allocator.instances import FAMILIES
from fedhq.studies.ablation.kinds import Kind
from fedhq.studies.ablation.record import Cell
from fedhq.studies.search.record import digits


def cell(solver: str, problem: str = "ties, 2, 0", **changes) -> Cell:
    """A cell of a solver that proves an optimum of 4 in a millisecond, and what is changed."""
    family, clients, seed = problem.rsplit(", ", 2)
    seconds = changes.pop("total", 0.001)
    values = {
        "family": family, "problem": problem, "clients": int(clients), "strategies": 2,
        "seed": int(seed), "solver": solver, "kind": Kind.LIBRARY, "settings": "Milp()",
        "solver_version": "highspy 1.16",
        "time_limit_seconds": 1.0, "outcome": "optimal", "objective": 4.0, "bound": 4.0,
        "gap": 0.0, "round_seconds": 3.0, "loss": 0.1, "seconds": {"total": seconds},
        "peak_bytes": None, "verified": True, "choice": "", "message": "", "workers": 2,
        "provenance": "here",
    }  # fmt: skip
    return Cell(**{**values, **changes})


def failed(solver: str, problem: str = "ties, 2, 0", outcome: str = "unknown", **changes) -> Cell:
    """A cell of a solver that has no allocation and proves nothing."""
    nothing = dict.fromkeys(("objective", "bound", "gap", "round_seconds", "loss", "verified"))
    return cell(solver, problem, outcome=outcome, **{**nothing, **changes})


def measured(
    solvers: Mapping[str, Solver],
    families: Sequence[str] = tuple(FAMILIES),
    sizes: Sequence[int] = (5,),
    seeds: Sequence[int] = (0,),
) -> list[Cell]:
    """Runs every solver on every problem."""
    return [
        measure(name, solver, family, size, seed)
        for family in families
        for size in sizes
        for seed in seeds
        for name, solver in solvers.items()
    ]


def kind_of(solver: Solver) -> Kind:
    """Ours, a rule or a library."""
    if isinstance(solver, (Sweep, Dual, Exact)):
        return Kind.OURS
    return Kind.RULE if isinstance(solver, (HardwareOnly, Uniform)) else Kind.LIBRARY


def measure(name: str, solver: Solver, family: str, size: int, seed: int) -> Cell:
    """What a solver does with a problem."""
    problem = FAMILIES[family](seed, size)
    place = f"{family}, {size}, {seed}"
    known = {
        "strategies": len(problem.strategies), "settings": repr(solver), "solver_version": "here",
        "clients": problem.num_clients, "kind": kind_of(solver),
    }  # fmt: skip
    try:
        solution = solve(problem, solver, explain_infeasible=False)
    except ValueError as error:
        return failed(name, place, "refused", **known, message=str(error))
    except SolverError as error:
        return failed(name, place, "wrong", **known, message=str(error))
    except FedHQError as error:
        return failed(name, place, "crashed", **known, message=str(error))
    took = {"total": solution.solve_seconds}
    bound = None if solution.bound == -float("inf") else solution.bound
    if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
        return failed(name, place, str(solution.status), **known, **took)
    found = solution.allocation
    return cell(
        name, place, outcome=str(solution.status), objective=found.objective, bound=bound,
        gap=None if bound is None else solution.gap, round_seconds=found.round_seconds,
        loss=found.loss, choice=digits(found.choice.tolist()), **known, **took,
    )  # fmt: skip
