"""`fedhq plan`: allocates strategies to the clients of a table, and explains the allocation.

Needs only what the allocator needs, so it starts without the trainer's packages.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from functools import reduce
from importlib import resources
from pathlib import Path

from ..allocator import (
    AllocationProblem,
    Frontier,
    InfeasibleError,
    Knee,
    PickRule,
    Solution,
    Solver,
    SolverError,
    pareto_frontier,
    solve,
    violations,
)
from ..allocator.explain import explain
from ..allocator.explain.quantities import POINTS
from ..fl_core.text_file import Source
from . import plan_text
from .plan_csv import CsvTerms, problem_from_csv, unlimited_resources
from .plan_files import (
    allocation_header,
    allocation_json,
    allocation_rows,
    check_target,
    csv_text,
    read_source,
)
from .plan_json import problem_from_json
from .plan_options import add_options, make_solver, read_limit, read_rule, with_count
from .writing import write_at_once

HELP = "allocate strategies to the clients of a table, and explain why"
_PROVEN = 1e-9  # of loss: a gap below is rounding
_DEMO = resources.files(__package__).joinpath("examples", "plan", "fleet.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    add_options(parser)
    parser.set_defaults(command=run, resumes=False)


@dataclass(frozen=True, eq=False)
class Plan:
    """An allocation and what it was picked from.

    Args:
        problem: As it was solved; a rule's pick is its deadline.
        solution: What `solve` returned.
        frontier: What a rule picked from; None where a goal decided.
        picked: The rule's point.
    """

    problem: AllocationProblem
    solution: Solution
    frontier: Frontier | None
    picked: int


def make_plan(
    problem: AllocationProblem,
    solver: Solver,
    rule: PickRule | None = None,
    points: Solver | None = None,
) -> Plan:
    """Solves a problem by its goal; without one a rule picks a point of the frontier.

    Args:
        problem: With or without a goal.
        solver: Finds the allocation.
        rule: Picks although there is a goal; the knee where neither is given.
        points: Finds the frontier's points; that of `pareto_frontier` where None.

    Raises:
        InfeasibleError: If no allocation keeps every limit and a frontier was needed.
        SolverError: If the solver stops before it keeps a maximum loss that the point keeps.
        ValueError: If a trade-off and a rule are given, or no point satisfies the rule.

    Example:
        >>> from fedhq.allocator import Exact, MostAccurateWithin
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> make_plan(problem, Exact(), MostAccurateWithin(4.0)).solution.allocation.choice
        array([1, 0])
    """
    if rule is None and problem.has_goal:
        return Plan(problem, solve(problem, solver), None, 0)
    if problem.tradeoff is not None:
        raise ValueError("`--pick` and a trade-off both decide, but one must. Leave one out.")
    if problem.switching_seconds is not None:
        raise ValueError(
            "`switching_seconds` needs a trade-off: a frontier of round time and loss has no place "
            "for it. Give --tradeoff, or leave it out."
        )
    frontier = pareto_frontier(problem, solver=points)
    k = frontier.pick(rule or Knee())
    seconds = float(frontier.round_seconds[k])
    # Solved once more, the least loss within the point's time comes with a certificate and prices.
    pinned = replace(problem, deadline_seconds=seconds, max_loss=None)
    solution = solve(pinned, solver)
    if solution.status.has_allocation and (
        broken := violations(problem, solution.allocation.choice)
    ):
        raise SolverError(
            f"{solution.solver} stopped at an allocation that breaks a limit: {'; '.join(broken)}. "
            "Take Exact, without a gap or time limit."
        )
    return Plan(pinned, solution, frontier, k)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 where no allocation was found.

    Raises:
        ValueError: If an option or file is at fault.
        OSError: If a file cannot be read or written.
    """
    rule = None if options.pick is None else read_rule(options.pick)
    _check_files(options)
    problem, notes = _problem(options)
    solver = make_solver(options, problem)
    points = None if options.solver is None else solver
    try:
        plan = make_plan(problem, solver, rule, points)
    except InfeasibleError as error:
        print(error, file=sys.stderr)
        return 1
    explanation = explain(plan.problem, plan.solution)
    if not plan.solution.status.has_allocation:
        print(explanation, file=sys.stderr)
        return 1
    clients = [str(explanation.client(name)) for name in options.explain]
    written = _write(options, problem, plan, points)
    if plan.frontier is not None:
        why = options.pick or "the knee, where more time stops paying (--pick)"
        goal = "" if options.pick else "No goal was given. "
        offer = f"{goal}{plan_text.offer(plan.frontier, plan.picked, why)}"
        notes = [f"{offer}{_gap(plan.frontier)}", *notes]
    table = plan_text.clients_table(plan.problem, plan.solution)
    print("\n\n".join([*notes, str(explanation), table, *clients]))
    if written:
        print("\n" + "\n".join(written))
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """Before anything is solved: results have somewhere to go, and no input is lost."""
    inputs = [f for f in (options.table, options.labels) if f is not None]
    if inputs == ["-", "-"]:
        raise ValueError("standard input can be one table only: name a file for --labels.")
    for option, path, suffixes in (
        ("--out", options.out, (".csv", ".json")),
        ("--frontier", options.frontier, (".html", ".csv")),
    ):
        if path is not None:
            check_target(option, path, suffixes, inputs)
    if options.out is not None and options.out == options.frontier:
        raise ValueError(f"--frontier {options.frontier}: must not be --out too, but is.")
    if options.frontier is not None and options.frontier.suffix.lower() == ".html":
        from .document import check_plotly  # says now, not after solving, that plotly lacks

        check_plotly("a drawn frontier", "--frontier FILE.csv needs nothing.")


def _problem(options: argparse.Namespace) -> tuple[AllocationProblem, list[str]]:
    """The problem of the input and the options, and what to say about how it was read."""
    is_demo, notes = options.table == "demo", []
    if is_demo:
        source = Source("demo", _DEMO.read_text("utf-8"))
        notes.append(f"The example's tables, as JSON and CSV, are in {Path(str(_DEMO)).parent}")
    else:
        source = read_source(options.table)
    limits = dict(read_limit(text) for text in options.limit)
    if is_demo or options.table.lower().endswith(".json") or source.text.lstrip()[:1] in "{[":
        if options.labels is not None or options.deployed is not None:
            raise ValueError("--labels and --deployed go with a CSV: a JSON holds `coverage`.")
        problem = _limited(problem_from_json(source), limits)
    else:
        labels = None if options.labels is None else read_source(options.labels)
        terms = CsvTerms(limits, labels, options.deployed)
        problem = problem_from_csv(source, terms)
        if free := unlimited_resources(source, terms):
            notes.append(f"Not limited: {', '.join(free)} (--limit RESOURCE=X).")
    return _with_options(problem, options), notes


def _limited(problem: AllocationProblem, limits: dict[str, float]) -> AllocationProblem:
    resources_ = [b.resource for b in problem.budgets]
    for name in limits:
        if name not in resources_:
            raise ValueError(
                f"--limit {name}: must be a budget of the JSON, but it has "
                f"{', '.join(resources_) or 'none'}."
            )
    return replace(
        problem,
        budgets=tuple(replace(b, limit=limits.get(b.resource, b.limit)) for b in problem.budgets),
    )


def _with_options(problem: AllocationProblem, options: argparse.Namespace) -> AllocationProblem:
    share = problem.min_participation
    return replace(
        problem,
        tradeoff=_first(options.tradeoff, problem.tradeoff),
        deadline_seconds=_first(options.deadline, problem.deadline_seconds),
        max_loss=_first(options.max_loss, problem.max_loss),
        min_participation=share if options.min_participation is None else options.min_participation,
        counts=reduce(with_count, options.count, problem.counts),
    )


def _first(option: float | None, own: float | None) -> float | None:
    return own if option is None else option


def _gap(frontier: Frontier) -> str:
    """What is not proven of a frontier, as a line; empty where all is."""
    if frontier.gap < _PROVEN:
        return ""
    return f"\n  (no time has a loss lower than this by more than {POINTS.text(frontier.gap)})"


def _write(
    options: argparse.Namespace, problem: AllocationProblem, plan: Plan, points: Solver | None
) -> list[str]:
    """Writes what the options ask for, and says what."""
    told = []
    if options.out is not None:
        if options.out.suffix.lower() == ".json":
            text = allocation_json(plan.problem, plan.solution)
        else:
            rows = allocation_rows(plan.problem, plan.solution)
            text = csv_text(allocation_header(plan.problem), rows)
        write_at_once(options.out, text)
        told.append(f"allocation: {options.out}")
    if options.frontier is not None:
        frontier = plan.frontier or pareto_frontier(_offered(problem), solver=points)
        if options.frontier.suffix.lower() == ".html":
            from .plan_figure import frontier_page

            title = "demo" if options.table == "demo" else Path(options.table).stem
            text = frontier_page(title, frontier, plan.solution.allocation, options.given)
        else:
            rows = [list(row) for row in zip(frontier.round_seconds, frontier.loss, strict=True)]
            text = csv_text(["round_seconds", "loss"], rows)
        write_at_once(options.frontier, text)
        told.append(f"frontier: {options.frontier}{_gap(frontier)}")
    return told


def _offered(problem: AllocationProblem) -> AllocationProblem:
    """Without the one limit that is the goal: what another value of it would buy."""
    if problem.tradeoff is not None:
        return problem
    return replace(problem, deadline_seconds=None, max_loss=None)
