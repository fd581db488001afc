"""Decides which client trains at which precision: the program, its solvers and certificates."""

from .adjust import PredictedTimes, TimeModel, quantile_seconds
from .check import violations
from .controller import Goal, HybridAllocator, Outcome
from .coverage import Coverage
from .data import FittedLoss, fitted_loss
from .errors import CheckpointError, FedHQError, InfeasibleError, SolverError, WireError
from .frontier import Frontier, PickRule, pareto_frontier
from .hardware import DeviceProfile, HardwareTables, StepProfile, analyse_hardware
from .infeasible import explain_infeasibility
from .picks import FastestWithin, Knee, MostAccurateWithin, Tradeoff
from .privacy import grouped_counts, noisy_counts
from .problem import AllocationProblem
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
    "Method",
    "Milp",
    "MostAccurateWithin",
    "Outcome",
    "PickRule",
    "PredictedTimes",
    "Prices",
    "Random",
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
    "explain_infeasibility",
    "fitted_loss",
    "grouped_counts",
    "noisy_counts",
    "pareto_frontier",
    "parse_menu",
    "quantile_seconds",
    "solve",
    "teaches",
    "violations",
]
