"""Curves of an ablation: performance profiles, and time and memory against clients.

Each figure says in `layout.meta` in words what it shows. Needs plotly: `fedhq[report]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from ..figures import INK, NAME, plain
from .columns import seconds_text
from .drawing import ALL, Choice, choices_of_families, lay_out_lines, powers_of_ten, short
from .judged import Criterion, Judged
from .marks import Mark, marks_of
from .profiles import Profile, Race
from .summary import Summary

_MOST_STEPS = 160  # of a profile's line: more cannot be told apart
_LEAST_MB = 0.1  # what is less is not told apart
_ASIDE = 1.015  # by which factor the points of a solver lie beside those of the one before
_FAINT = 0.45


def performance_figures(summary: Summary, limit: float) -> list[Choice]:
    """Performance profiles: all families by each criterion, then each family."""
    return _profile_figures(summary, limit, relative=True)


def budget_figures(summary: Summary, limit: float) -> list[Choice]:
    """The share of problems solved within a time, by the same choices as the profiles."""
    return _profile_figures(summary, limit, relative=False)


def _profile_figures(summary: Summary, limit: float, relative: bool) -> list[Choice]:
    return [
        Choice(group, name, _profile_figure(summary, race, says, relative))
        for group, name, race, says in _races(summary, limit)
    ]


def _races(summary: Summary, limit: float) -> list[tuple[str, str, Race, str]]:
    """Group, name, times, and what it is in words, of every choice of a profile."""
    found = []
    order = (Criterion.NEAR, Criterion.PROVEN, Criterion.ANSWERED)
    for criterion in order:
        race = Race.of(summary.cells(limit), criterion)
        found.append((ALL, str(criterion), race, f"{criterion}, {ALL}"))
    for family in choices_of_families(summary)[1:]:
        race = Race.of(summary.cells(limit, family), Criterion.NEAR)
        found.append((str(Criterion.NEAR), family, race, f"{Criterion.NEAR}, family {family}"))
    return found


def _profile_figure(summary: Summary, race: Race, says: str, relative: bool) -> go.Figure:
    """Step lines of the solvers that solved anything."""
    profiles = race.performance_profiles() if relative else race.time_profiles()
    lines = [pair for pair in zip(race.solvers, profiles, strict=True) if len(pair[1].at)]
    lines.sort(key=lambda line: summary.solvers.index(line[0]))
    last = 1.15 * max((float(profile.at[-1]) for _, profile in lines), default=1.0)
    marks, figure = marks_of(summary), go.Figure()
    for solver, profile in lines:
        at = _thinned(profile, 1.0 if relative else None, last)
        unit = "× the fastest" if relative else "s"  # noqa: RUF001 a sign of multiplication
        figure.add_scatter(
            x=short(at), y=short([profile(x) for x in at]), name=plain(solver), mode="lines",
            line={**marks[solver].line, "shape": "hv"},
            hovertemplate=f"{NAME}%{{y:.0%}} of problems within %{{x:.3g}} {unit}",
        )  # fmt: skip
    ends = "; ".join(f"{solver} {profile.share[-1]:.0%}" for solver, profile in lines)
    title = "time as a multiple of the fastest solver's" if relative else "time"
    given = f"{len(race.seconds)} problems"
    alt = f"Step lines: share of {given} solved ({says}) against {title}. {ends}."
    lay_out_lines(figure, title, "share of problems", alt)
    drawn = [x for line in figure.data for x in line.x]
    figure.update_xaxes(**powers_of_ten(drawn, "{:,g}".format if relative else seconds_text))
    figure.update_yaxes(range=[-0.02, 1.03], tickformat=".0%")
    return figure


def _thinned(profile: Profile, first: float | None, last: float) -> list[float]:
    """Where a line's points go: its steps, at most `_MOST_STEPS` of them, and its ends."""
    chosen = np.linspace(0, len(profile.at) - 1, min(len(profile.at), _MOST_STEPS))
    steps = profile.at[chosen.round().astype(int)].tolist()
    return [*([first] if first is not None and steps[0] > first else []), *steps, last]


def scaling_figures(summary: Summary, limit: float) -> list[Choice]:
    """Time of whole calls against clients."""

    def seconds(judged: Judged) -> float | None:
        return judged.cell.seconds["total"] if judged.meets(Criterion.NEAR) else None

    choices = _against_clients(summary, limit, "time", seconds, seconds_text)
    for choice in choices:
        _add_limit(choice.figure, limit)
    return choices


def _add_limit(figure: go.Figure, limit: float) -> None:
    """A line at the time limit; on a logarithmic axis a text stands at a logarithm."""
    figure.add_hline(y=limit, line={"dash": "dash", "width": 1.5, "color": INK})
    figure.add_annotation(
        x=0, xref="paper", xanchor="left", y=math.log10(limit), yanchor="bottom", showarrow=False,
        text=f"time limit {seconds_text(limit)}", font_size=12,
    )  # fmt: skip


def memory_figures(summary: Summary, limit: float) -> list[Choice]:
    """Memory of whole calls against clients; empty where it was not measured."""

    def megabytes(judged: Judged) -> float | None:
        peak = judged.cell.peak_bytes
        return max(peak / 1e6, _LEAST_MB) if peak is not None and judged.has_allocation else None

    if not any(j.cell.peak_bytes is not None for j in summary.cells(limit)):
        return []
    return _against_clients(summary, limit, "memory", megabytes, "{:,.3g} MB".format)


def _against_clients(
    summary: Summary,
    limit: float,
    title: str,
    measure: Callable[[Judged], float | None],
    text: Callable[[float], str],
) -> list[Choice]:
    """A figure for each family and for all: medians over problems of a size, and quartiles."""
    every, *each = choices_of_families(summary)
    return [
        Choice("", family or ALL, _lines_figure(summary, limit, family, title, measure, text))
        for family in (*each, every)
    ]


def _lines_figure(
    summary: Summary,
    limit: float,
    family: str,
    title: str,
    measure: Callable[[Judged], float | None],
    text: Callable[[float], str],
) -> go.Figure:
    cells, marks, figure = _sized(summary.cells(limit, family)), marks_of(summary), go.Figure()
    sizes = sorted({j.cell.clients for j in cells})
    ends, drawn = [], []
    for k, solver in enumerate(summary.solvers):
        own = [j for j in cells if j.cell.solver == solver]
        points = [_Point.of(n, [measure(j) for j in own if j.cell.clients == n]) for n in sizes]
        known = [point for point in points if point is not None]
        if known:
            aside = _ASIDE ** (k - (len(summary.solvers) - 1) / 2)
            _add_points(figure, solver, known, marks[solver], text, aside)
            drawn += [value for point in known for value in (point.low, point.high)]
            ends.append(f"{solver} {text(known[-1].median)} at {known[-1].clients}")
    alt = f"Lines: {title} against clients, {family or ALL}. {'; '.join(ends)} clients."
    lay_out_lines(figure, "clients", title, alt)
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[f"{n:,}" for n in sizes])
    figure.update_yaxes(**powers_of_ten(drawn, text))
    return figure


def _sized(cells: Sequence[Judged]) -> list[Judged]:
    """Of several families only those of several sizes: others would bend the lines of all."""
    sizes: dict[str, set[int]] = {}
    for j in cells:
        sizes.setdefault(j.cell.family, set()).add(j.cell.clients)
    several = [family for family, own in sizes.items() if len(own) > 1]
    return [j for j in cells if j.cell.family in (several or sizes)]


@dataclass(frozen=True)
class _Point:
    clients: int
    median: float
    low: float
    high: float
    known: int
    given: int

    @classmethod
    def of(cls, clients: int, values: Sequence[float | None]) -> _Point | None:
        known = [value for value in values if value is not None]
        if not known:
            return None
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75]).tolist()
        return cls(clients, median, low, high, len(known), len(values))


def _add_points(
    figure: go.Figure,
    solver: str,
    points: Sequence[_Point],
    mark: Mark,
    text: Callable[[float], str],
    aside: float,
) -> None:
    """A line with quartiles, all a factor aside; hollow where not all problems of a size count."""
    hover = [
        f"{p.clients:,} clients: {text(p.median)}<br>quartiles {text(p.low)} and {text(p.high)}, "
        f"{p.known} of {p.given} problems"
        for p in points
    ]
    faint = f"rgba{(*bytes.fromhex(mark.colour[1:]), _FAINT)}"
    symbols = [mark.symbol + ("" if p.known == p.given else "-open") for p in points]
    figure.add_scatter(
        x=short([p.clients * aside for p in points]), y=short([p.median for p in points]),
        name=plain(solver), mode="lines+markers", line=mark.line, text=hover,
        hovertemplate=NAME + "%{text}",
        marker={"symbol": symbols, "size": 8, "color": mark.colour},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": faint,
            "array": short([p.high - p.median for p in points]),
            "arrayminus": short([p.median - p.low for p in points]),
        },
    )  # fmt: skip
