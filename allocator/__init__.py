"""Decides which client trains at which precision: the program, its solvers and certificates.

A training loop of your own needs one object of it, `HybridAllocator`; NumPy, SciPy and HiGHS are
all that it loads. Here two devices join of which nobody knows a time, and three rounds go by:

    >>> from fedhq.allocator import HardwareTables, HybridAllocator, Outcome
    >>> allocator = HybridAllocator.open(["ptq-w4a4", "qat-w4a4"], deployed="qat-w4a4")
    >>> clients = allocator.join(HardwareTables.unknown(allocator.menu, 2), num_examples=[600, 80])
    >>> takes = {"ptq-w4a4": [2.0, 20.0], "qat-w4a4": [3.0, 30.0]}  # seconds, as it turns out
    >>> for number in range(1, 4):
    ...     plan = allocator.plan(number)
    ...     did = [str(plan.strategy(i)) for i in clients]
    ...     allocator.observe([Outcome(i, plan.strategy(i), takes[did[i]][i], True)
    ...                        for i in clients])
    ...     print(*did)
    qat-w4a4 qat-w4a4
    qat-w4a4 ptq-w4a4
    qat-w4a4 ptq-w4a4

Beneath it: `AllocationProblem` is the program as data, `solve(problem, solver)` answers it, and
`pareto_frontier(problem)` shows what a round's seconds buy.
"""

from .adjust import LossModel, PredictedTimes, TimeModel, quantile_seconds
from .check import violations
from .controller import Goal, HybridAllocator, Outcome, ServerAccuracy
from .coverage import Coverage
from .data import FittedLoss, fitted_loss
from .default_rule import default_rule
from .errors import CheckpointError, FedHQError, InfeasibleError, SolverError, WireError
from .features import feature_counts, find_centres
from .frontier import Frontier, PickRule, pareto_frontier
from .hardware import DeviceProfile, HardwareTables, StepProfile, analyse_hardware
from .infeasible import explain_infeasibility
from .picks import FastestWithin, Knee, MostAccurateWithin, Tradeoff
from .privacy import grouped_counts, noisy_counts
from .problem import AllocationProblem
from .recency import Recency
from .schedule import Schedule, fastest_schedule, plan_schedule
from .solution import Allocation, Answer, Prices, Solution, Solver, Status
from .solve import solve
from .solvers.blackbox import BlackBox
from .solvers.coarse import CoarseRule
from .solvers.cvx import Cvx
from .solvers.cvx_model import CvxVariables
from .solvers.dual import Dual
from .solvers.exact import Exact
from .solvers.exhaustive import Exhaustive
from .solvers.milp import Milp
from .solvers.pick import FrontierPick
from .solvers.rules import DataOnly, HardwareOnly, Random, Uniform
from .solvers.sweep import Sweep
from .strategy import Method, Strategy, parse_menu, teaches
from .terms import Budget, Count

__all__ = [
    "Allocation",
    "AllocationProblem",
    "Answer",
    "BlackBox",
    "Budget",
    "CheckpointError",
    "CoarseRule",
    "Count",
    "Coverage",
    "Cvx",
    "CvxVariables",
    "DataOnly",
    "DeviceProfile",
    "Dual",
    "Exact",
    "Exhaustive",
    "FastestWithin",
    "FedHQError",
    "FittedLoss",
    "Frontier",
    "FrontierPick",
    "Goal",
    "HardwareOnly",
    "HardwareTables",
    "HybridAllocator",
    "InfeasibleError",
    "Knee",
    "LossModel",
    "Method",
    "Milp",
    "MostAccurateWithin",
    "Outcome",
    "PickRule",
    "PredictedTimes",
    "Prices",
    "Random",
    "Recency",
    "Schedule",
    "ServerAccuracy",
    "Solution",
    "Solver",
    "SolverError",
    "Status",
    "StepProfile",
    "Strategy",
    "Sweep",
    "TimeModel",
    "Tradeoff",
    "Uniform",
    "WireError",
    "analyse_hardware",
    "default_rule",
    "explain_infeasibility",
    "fastest_schedule",
    "feature_counts",
    "find_centres",
    "fitted_loss",
    "grouped_counts",
    "noisy_counts",
    "pareto_frontier",
    "parse_menu",
    "plan_schedule",
    "quantile_seconds",
    "solve",
    "teaches",
    "violations",
]
