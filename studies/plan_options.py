"""The options of `fedhq plan`, and what their texts mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ..allocator import (
    AllocationProblem,
    Count,
    Dual,
    Exact,
    FastestWithin,
    Knee,
    Milp,
    MostAccurateWithin,
    PickRule,
    Solver,
    Sweep,
)
from ..allocator.solvers.sweep import is_separable
from .plan_text import DESCRIPTION, EXAMPLES

_SOLVERS = ("exact", "dual", "sweep", "milp")
_SOLVER_HELP = (
    "of the allocation and of a frontier's points (default: exact; beyond 30 clients dual for "
    "the points)"
)
_COUNT = re.compile(r"([^<>=]+)(>=|<=|=)\s*(\d{1,9})\s*")
_LIMIT = re.compile(r"(\w+)=(.+)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds all options, and a description that teaches."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "table", metavar="FILE", help="JSON or CSV; `-` reads standard input; or `demo`"
    )
    _add_goal(parser.add_argument_group("goal and limits", "These come before those of a JSON."))
    csv = parser.add_argument_group("what a CSV does not hold")
    csv.add_argument(
        "--labels", metavar="FILE", help="CSV of client, class, count: fitted coverage"
    )
    csv.add_argument(
        "--deployed", metavar="STRATEGY", help="with --labels: the bits to deploy (default: menu's)"
    )
    solver = parser.add_argument_group("solver")
    solver.add_argument("--solver", choices=_SOLVERS, help=_SOLVER_HELP)
    solver.add_argument("--gap", type=float, help="relative gap at which it stops (exact: 0)")
    solver.add_argument(
        "--time-limit", type=float, metavar="S", help="stop with the best so far (exact, milp)"
    )
    out = parser.add_argument_group("results")
    out.add_argument("--out", type=Path, metavar="FILE", help="write the allocation: .csv or .json")
    out.add_argument(
        "--frontier", type=Path, metavar="FILE", help="write the frontier: .html (drawn) or .csv"
    )
    out.add_argument(
        "--explain", action="append", default=[], metavar="CLIENT",
        help="what if this client did something else; repeatable",
    )  # fmt: skip


def _add_goal(goal: argparse._ArgumentGroup) -> None:
    goal.add_argument("--tradeoff", type=float, metavar="S", help="seconds per unit of loss")
    goal.add_argument("--deadline", type=float, metavar="S", help="longest round in seconds")
    goal.add_argument("--max-loss", type=float, metavar="L", help="largest predicted loss")
    goal.add_argument(
        "--pick",
        metavar="RULE",
        help="of the frontier: knee, fastest-within=LOSS or most-accurate-within=SECONDS "
        "(default without a goal: knee)",
    )
    goal.add_argument(
        "--limit", action="append", default=[], metavar="RESOURCE=X",
        help="budget of a resource, for instance uplink_bytes=12e6; repeatable",
    )  # fmt: skip
    goal.add_argument(
        "--min-participation", type=float, metavar="SHARE", help="of examples that must not skip"
    )
    goal.add_argument(
        "--count", action="append", default=[], metavar="'S>=N'",
        help="clients of strategy S (or of S,S): >=, <= or =; repeatable",
    )  # fmt: skip


def with_count(counts: Sequence[Count], text: str) -> tuple[Count, ...]:
    """Reads `--count`: the side that it sets replaces that of a count of the same strategies.

    Raises:
        ValueError: If it is not `STRATEGY[,STRATEGY]>=N`, or `<=` or `=`, or contradicts the other
            side.

    Example:
        >>> (count,) = with_count([Count(["fp32"], 1, 9)], "fp32<=3")
        >>> count.at_least, count.at_most
        (1, 3)
    """
    found = _COUNT.fullmatch(text)
    if found is None:
        raise ValueError(f"--count {text!r}: must be like 'qat-w2a2>=3' or 'skip,ptq-w2a2<=5'.")
    sign, n = found[2], int(found[3])
    read = Count([s.strip() for s in found[1].split(",")])
    same = [c for c in counts if c.strategies == read.strategies]
    at_least = max((c.at_least for c in same), default=0) if sign == "<=" else n
    at_most = min((c.at_most for c in same if c.at_most is not None), default=None)
    at_most = at_most if sign == ">=" else n
    if at_most is not None and at_least > at_most:
        raise ValueError(
            f"--count {text!r}: at least {at_least} and at most {at_most} clients cannot do "
            "the same. Change one of the two, or set both by '='."
        )
    others = [c for c in counts if c not in same]
    return (*others, Count(read.strategies, at_least, at_most))


def read_limit(text: str) -> tuple[str, float]:
    """Reads `--limit`.

    Raises:
        ValueError: If it is not `RESOURCE=NUMBER`.

    Example:
        >>> read_limit("uplink_bytes=12e6")
        ('uplink_bytes', 12000000.0)
    """
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(f"--limit {text!r}: must be like uplink_bytes=12e6.")
    return found[1], _value("--limit", text, found[2])


def read_rule(text: str) -> PickRule:
    """Reads `--pick`.

    Raises:
        ValueError: If there is no such rule, or its value is out of range.

    Example:
        >>> read_rule("fastest-within=0.01")
        FastestWithin(loss=0.01)
    """
    name, _, value = text.partition("=")
    if text == "knee":
        return Knee()
    if name == "fastest-within" and value:
        return FastestWithin(_value("--pick", text, value))
    if name == "most-accurate-within" and value:
        return MostAccurateWithin(_value("--pick", text, value))
    raise ValueError(
        f"--pick {text!r}: must be knee, fastest-within=LOSS (for instance 0.01) or "
        "most-accurate-within=SECONDS."
    )


def _value(option: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(
            f"{option} {text!r}: must end in a number, but {value!r} is none."
        ) from None


def make_solver(options: argparse.Namespace, problem: AllocationProblem) -> Solver:
    """The solver that the options name.

    Raises:
        ValueError: If it has no such setting, or cannot take the problem.
    """
    name, gap, limit = options.solver or "exact", options.gap, options.time_limit
    if name == "sweep" and gap is not None:
        raise ValueError("--gap: sweep proves the optimum and has no gap. Leave it out.")
    if name in ("sweep", "dual") and limit is not None:
        raise ValueError(f"--time-limit: {name} stops by itself. Leave it out.")
    if name == "sweep" and not is_separable(problem):
        raise ValueError(
            "--solver sweep: takes no budgets, counts, coverage or minimum participation, but the "
            "problem has some. Take --solver exact."
        )
    if name == "sweep":
        return Sweep()
    if name == "dual":
        return Dual() if gap is None else Dual(gap)
    if name == "milp":
        return Milp(gap or 0.0, limit, with_prices=True)
    return Exact(gap or 0.0, limit)
