"""Checks what a user's `constraints` returns, before cvxpy or a backend stumbles over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cvxpy

    from .cvx_model import CvxVariables


def own_constraints(
    function: Callable[[CvxVariables], Sequence[cvxpy.Constraint]], variables: CvxVariables
) -> tuple[cvxpy.Constraint, ...]:
    """The constraints that a function makes of the variables.

    Raises:
        ValueError: If it returns anything but a list of mixed-integer linear constraints.
    """
    name = function_name(function)
    try:
        returned: Any = function(variables)
    except ValueError as error:  # cvxpy's word for shapes that do not fit
        shapes = f"(clients, strategies) = {variables.choice.shape}"
        error.add_note(f"Raised in `constraints={name}`, where `choice` has shape {shapes}.")
        raise
    found = _sequence(returned, name)
    for place, constraint in enumerate(found):
        fault = _fault(constraint)
        if fault:
            raise ValueError(
                f"`constraints` must return mixed-integer linear constraints, but number {place} "
                f"of {name}, {_shortened(constraint)}, {fault}"
            )
    return found


def function_name(function: Callable[..., object]) -> str:
    """The name of a function, of what a `functools.partial` wraps, or of a callable's class."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _sequence(returned: Any, name: str) -> tuple[Any, ...]:
    import cvxpy as cp

    one = isinstance(returned, cp.Constraint | cp.Expression | str | bool)
    if one or not isinstance(returned, Iterable):
        mend = "End it with `return [...]`." if returned is None else "Put it into a list."
        raise ValueError(
            f"`constraints` must return a list of cvxpy constraints, but {name} returned "
            f"{_shortened(returned)}. {mend}"
        )
    return tuple(returned)


def _fault(constraint: Any) -> str:
    """What keeps a thing from being a constraint that every backend takes, and the mend."""
    from cvxpy.constraints.constraint import Constraint
    from cvxpy.constraints.nonpos import Inequality
    from cvxpy.constraints.zero import Equality

    if not isinstance(constraint, Constraint):
        return (
            f"is a {type(constraint).__name__}, not a constraint. Compare an expression of the "
            "variables, for example `v.loss <= 0.1`; `.value` is a number."
        )
    if not isinstance(constraint, Equality | Inequality):
        return f"is a {type(constraint).__name__}. Use `==`, `<=` or `>=`."
    if not constraint.is_dcp():
        sides = " and ".join(side.curvature.lower() for side in constraint.args)
        return (
            f"is not convex: its sides are {sides}. The rule is convex <= concave, affine == "
            "affine. A product of two binaries is a third one z with z <= x, z <= y, z >= x + y "
            "- 1."
        )
    if not constraint.expr.is_pwl():
        return (
            "is convex, but not linear by pieces. Use sums, `cp.abs`, `cp.max`, `cp.norm1` or "
            "tangents instead."
        )
    return ""


def _shortened(thing: Any) -> str:
    text = " ".join(str(thing).split())
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
