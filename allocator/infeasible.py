"""Says why a problem has no allocation: the limits at fault, and the nearest feasible values."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import Enum

from .check import violations
from .errors import SolverError
from .groups import Merged
from .limits import Kind, Limit, with_only
from .problem import AllocationProblem
from .solvers.highs import Found, HighsSettings, Outcome
from .solvers.program import Program

# An explanation must not hang; what is not settled by then is said so.
_TOTAL_SECONDS, _SECONDS_EACH = 20.0, 5.0
_NODE_LIMIT = 100_000
# Beyond this HiGHS overruns its time limit in presolve (measured: a minute at 60 000), and one
# client more or less hardly matters: the linear relaxation answers instead.
_MOST_BINARIES = 6_000


class FeasibleError(SolverError):
    """Whoever found the problem infeasible is wrong."""


class _Proof(Enum):
    """What is known of a nearest value; the words follow it in a message."""

    EXACT = ""
    ENOUGH = " (perhaps less is enough)"
    NEEDED = " (at least: from the linear relaxation)"


def explain_infeasibility(problem: AllocationProblem) -> str:
    """Names the limits that no allocation keeps, and values that would do.

    First every limit is tried alone with the masks. If each can be kept alone, a smallest
    conflicting set is found by leaving out one limit after the other, and for each of the set the
    nearest value that is feasible with everything else kept. Stops after some 20 seconds and says
    what is not settled; large problems are judged by their linear relaxation, and say so.

    Args:
        problem: A problem that a solver found infeasible; its goal does not matter.

    Returns:
        Sentences for an error message; values are rounded to the feasible side.

    Raises:
        FeasibleError: If an allocation keeps every limit: who found the problem infeasible is at
            fault.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...     [[.1, 0], [.1, 0]], deadline_seconds=2.0, clients=["phone", "watch"])
        >>> print(explain_infeasibility(problem).split(": ", maxsplit=1)[1])
        deadline_seconds >= 3 is needed (fastest allowed: 'watch' 3). With that it is feasible.
    """
    problem = Merged.of(problem).problem
    if not problem.allowed[:, problem.participates].any():
        return (
            "No allocation keeps every limit: no client may take part. "
            "Allow a strategy other than skip to at least one."
        )
    search = _Search()
    words, relaxed = ["No allocation keeps every limit."], problem
    for limit in Limit.given(problem):
        nearest, who = _alone(problem, limit, search)
        if not limit.is_kept_by(problem, nearest):
            nearest = limit.rounded(nearest)
            setting = f"{limit} = {limit.value(problem):.6g}"
            words.append(
                f"Even alone, {setting} is out of reach: {limit.demand(nearest)} is needed{who}."
            )
            relaxed = limit.set_to(relaxed, nearest)
    if relaxed is problem:
        if not (conflict := _explain_conflict(problem, search)):
            raise FeasibleError("an allocation keeps every limit of the problem.")
        return " ".join([*words, conflict])
    feasible, conflict = search.is_feasible(relaxed), ""
    if feasible is False:  # or so says HiGHS: at a limit it may miss the allocation by rounding
        conflict = _explain_conflict(relaxed, search)
        feasible = not conflict
    if feasible is None:
        words.append("Whether that suffices was not settled in time.")
    elif feasible:
        words.append("With that it is feasible.")
    else:
        words.append(f"That does not suffice. {conflict}")
    return " ".join(words)


def _alone(problem: AllocationProblem, limit: Limit, search: _Search) -> tuple[float, str]:
    """The tightest value (or a bound of it) if no other limit stood, and who is behind it."""
    nearest, who = limit.alone(problem)
    if limit.kind is Kind.MAX_LOSS and problem.coverage is not None:
        exact, proof = search.nearest(with_only(problem, [limit]), limit)
        if exact is not None and proof is not _Proof.ENOUGH:
            nearest = max(nearest, exact)
    return nearest, who


def _explain_conflict(problem: AllocationProblem, search: _Search) -> str:
    """Words on limits that can be kept one by one but not together; none if they can."""
    search = replace(search, met_all_limits=False)
    found = {limit: search.nearest(problem, limit) for limit in Limit.given(problem)}
    if not found or search.met_all_limits:
        return ""
    core, minimal = _conflict(problem, found, search)
    listed = ", ".join(f"{limit} = {limit.value(problem):.6g}" for limit in core)
    words = [f"These limits conflict: {listed}{'' if minimal else ' (perhaps not all of them)'}."]
    mends: list[str] = []
    useless: list[str] = []
    unsettled: list[str] = []
    for limit in core:
        nearest, proof = found[limit]
        if nearest is not None:
            mends.append(limit.demand(limit.rounded(nearest)) + proof.value)
        else:
            (useless if proof is _Proof.EXACT else unsettled).append(str(limit))
    if mends:
        words.append(f"With everything else kept, any one of these would do: {'; '.join(mends)}.")
    if useless:
        words.append(f"There are more conflicts: relaxing only {' or only '.join(useless)} fails.")
    if unsettled:
        words.append(f"What {' and '.join(unsettled)} would have to be was not settled in time.")
    return " ".join(words)


def _conflict(
    problem: AllocationProblem, found: dict[Limit, _Nearest], search: _Search
) -> tuple[list[Limit], bool]:
    """A conflicting set of limits by a deletion filter, and whether it is proven minimal."""
    core, minimal = list(found), True
    for limit, (nearest, proof) in found.items():
        if nearest is not None:  # without it all is well: it belongs to every conflict
            minimal &= proof is not _Proof.NEEDED
            continue
        rest = [other for other in core if other != limit]
        feasible = search.is_feasible(with_only(problem, rest))
        if feasible is None:
            minimal = False
        elif not feasible:
            core = rest
    return core, minimal


_Nearest = tuple[float | None, _Proof]


@dataclass
class _Search:
    """Programs for HiGHS that share one time limit, and whether a choice kept all limits."""

    end: float = field(default_factory=lambda: time.perf_counter() + _TOTAL_SECONDS)
    met_all_limits: bool = False

    def is_feasible(self, problem: AllocationProblem) -> bool | None:
        """Whether some allocation keeps every limit; None if not settled."""
        program = Program.feasible_set(problem)
        if program is None:
            return False
        found = self._minimise(program)
        if found is None:
            return None
        if found.outcome is Outcome.INFEASIBLE:
            return False
        return None if found.values is None or _is_large(program) else True

    def nearest(self, problem: AllocationProblem, limit: Limit) -> _Nearest:
        """The nearest feasible value of a limit with all others kept, and what is known of it.

        None and exact: no value helps. None and not exact: not settled in time.
        """
        others = [other for other in Limit.given(problem) if other != limit]
        program = Program.feasible_set(with_only(problem, others))
        if program is None:
            return None, _Proof.EXACT
        program = program.minimising(limit.cost(program, problem))
        found = self._minimise(program)
        if found is not None and found.outcome is Outcome.INFEASIBLE:
            return None, _Proof.EXACT
        if (
            found is None
            or found.values is None
            or (_is_large(program) and found.outcome is not Outcome.OPTIMAL)
        ):
            return None, _Proof.ENOUGH
        if _is_large(program):
            return abs(found.bound), _Proof.NEEDED
        choice = program.decode(found.values)
        self.met_all_limits |= not violations(problem, choice)
        value = limit.taken(problem, choice)
        return value, _Proof.EXACT if found.outcome is Outcome.OPTIMAL else _Proof.ENOUGH

    def _minimise(self, program: Program) -> Found | None:
        left = self.end - time.perf_counter()
        if left <= 0:
            return None
        if _is_large(program):
            program = program.relaxed()
        return program.minimise(
            HighsSettings(time_limit_seconds=min(left, _SECONDS_EACH), node_limit=_NODE_LIMIT)
        )


def _is_large(program: Program) -> bool:
    return program.shape[0] * program.shape[1] > _MOST_BINARIES
