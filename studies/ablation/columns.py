"""The columns of an ablation's table, as text: on the terminal, on the page and in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...allocator.explain.quantities import number
from .judged import LATE, SAME
from .summary import Row

NONE = "-"
"""Where there is nothing to tell."""


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        heading: What stands above.
        says: What it means, in a sentence.
        text: From a row to what stands in it.
        worth: From a row to what is better the less it is; None where it cannot compete.
    """

    heading: str
    says: str
    text: Callable[[Row], str]
    worth: Callable[[Row], float | None] = lambda row: None


def seconds_text(seconds: float) -> str:
    """A time with the unit that suits it, in three digits.

    Example:
        >>> seconds_text(0.00123), seconds_text(12.345), seconds_text(4e-5), seconds_text(0.0)
        ('1.23 ms', '12.3 s', '40 µs', '0 s')
    """
    if 0 < seconds < 1e-3:
        return f"{_digits(seconds * 1e6)} µs"
    return f"{_digits(seconds * 1e3)} ms" if 0 < seconds < 1.0 else f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def relative_text(value: float) -> str:
    """A relative difference; one within solvers' own tolerances is 0.

    Args:
        value: The difference; infinite where there is nothing to compare with.

    Example:
        >>> relative_text(3e-8), relative_text(0.00123), relative_text(0.25), relative_text(7.5)
        ('0', '1.2e-3', '25 %', '750 %')
    """
    if value <= SAME:
        return "0"
    if math.isinf(value):
        return "∞"
    if value < 0.01:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{number(float(f'{100 * value:.2g}'))} %"


def _seconds(row: Row) -> str:
    return NONE if row.mean_seconds is None else seconds_text(row.mean_seconds)


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return NONE
    spread = row.ratio
    return f"{_factor(spread.median)} ({_factor(spread.low)} to {_factor(spread.high)})"


def _factor(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _excess(row: Row) -> str:
    if row.excess is None:
        return NONE
    return f"{relative_text(row.excess.median)}; {relative_text(row.excess.most)}"


def _gap(row: Row) -> str:
    if row.gap is None:
        return NONE
    return f"{relative_text(row.gap.median)}; {relative_text(row.gap.most)}"


def _memory(row: Row) -> str:
    return NONE if row.peak_bytes is None else f"{number(round(row.peak_bytes.most / 1e6, 1))}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


COLUMNS = (
    Column(
        "near",
        "problems whose allocation is verified, within 1e-4 of the best known and in time (up to "
        f"{100 * (LATE - 1):.0f} % after the limit), of those given",
        lambda row: f"{row.near} of {row.problems}",
        lambda row: -row.near,
    ),
    Column(
        "proven",
        "problems solved in time to an optimum that a bound of its own proves, or rightly said to "
        "have no allocation; CBC and GLPK hand over no bound, so that their word is no proof",
        lambda row: str(row.proven),
        lambda row: -row.proven if row.proven else None,
    ),
    Column(
        "mean time",
        "shifted geometric mean (shift 10 ms) of the whole call without the start of a process "
        "that some need, over all problems that it does not refuse; one that is not near counts as "
        "the time limit",
        _seconds,
        lambda row: None if row.faults.refused else row.mean_seconds,
    ),
    Column(
        "× fastest",  # noqa: RUF001 a sign of multiplication
        "the call's time as a multiple of the fastest solver's that came near: median and "
        "quartiles, where it came near itself",
        _ratio,
    ),
    Column(
        "excess",
        "how far its objective is above the best known, of its allocations in time: median; worst",
        _excess,
    ),
    Column(
        "gap",
        "what it leaves unproven of its own objective, of its allocations in time: median; worst; "
        "without a bound it counts as infinite",
        _gap,
    ),
    Column(
        "MB",
        "by how much the process's memory rose, at most; unknown where another process solves",
        _memory,
    ),
    Column(
        "agrees",
        "share of its allocations in time whose objective is the best known, within 1e-6",
        lambda row: _share(row.same_objective),
    ),
    Column(
        "alike",
        "share of clients that do the same as in other solvers' allocations that are as good: what "
        "differs are ties",
        lambda row: _share(row.same_clients),
    ),
    Column(
        "faults",
        "what it did not answer, or wrongly. Breaking a limit: its allocation does, and it claims "
        "no optimum; late: it answered after the limit; timeout: it never ended and was ended; "
        "not tried: its time was in vain on all problems of the family with fewer clients",
        lambda row: str(row.faults),
    ),
)
"""All but the solver's name, in order."""
