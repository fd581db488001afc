"""The figures of what policies decide: who does what, who is waited for, at what prices.

Needs plotly: `fedhq[search]`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from plotly import graph_objects as go

from ....allocator import Solution
from ....allocator.arrays import FloatArray, IntArray
from ...figures import NAME, add_level, add_pointer, add_strategies, lay_out, plain, steps_of
from ...palette import HYBRIDS, LAST_ARM, strategy_colours
from .plans import TrialPlan
from .view import StudyView, TrialView

MOST_COLUMNS = 16
MOST_CLIENTS = 300
_MOST_PRICES = 8
_DASHES = ("solid", "dash", "dot")
_ABSENT = "not in the cohort"


def colours_of(view: StudyView) -> dict[str, str]:
    """A colour for each strategy that any trial of a study had on offer, from skip to qat."""
    menus = {t.record.menu for t in view.trials if t.record is not None}
    return strategy_colours({*view.record.menu, *(name for menu in menus for name in menu)})


def _used(colours: Mapping[str, str] | None, names: Collection[str]) -> dict[str, str]:
    """The colours of some strategies, from skip to qat."""
    return {n: hue for n, hue in (colours or strategy_colours(names)).items() if n in names}


def speed_order(clients: Collection[int], plans: Sequence[TrialPlan]) -> list[int]:
    """Clients, the fastest device first; by id those that are as fast, and those of no plan last.

    Args:
        clients: Their ids.
        plans: Of which the first that has a client tells its quickest way to take part.
    """
    wanted, quickest = set(clients), dict[int, float]()
    for plan in plans:
        if wanted <= quickest.keys():
            break
        problem = plan.problem
        working = np.where(problem.allowed & problem.participates, problem.seconds, np.inf)
        for client, seconds in zip(plan.clients, working.min(axis=1).tolist(), strict=True):
            quickest.setdefault(client, seconds)
    return sorted(clients, key=lambda client: (quickest.get(client, math.inf), client))


def allocation_figure(
    trials: Sequence[TrialView],
    plans: Sequence[TrialPlan] = (),
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """What each client did in some trials, as they recorded it for their first seed's first round.

    A client that was not in a trial's cohort has a gap there.

    Args:
        trials: Those with a record, in the order of the columns; more than `MOST_COLUMNS` are
            thinned evenly, and so are more than `MOST_CLIENTS` clients.
        plans: Tell which device is the fastest, on top; without any, clients are in the fleet's
            order.
        colours: Of the strategies, as `colours_of` a study; None: of those that are drawn.
    """
    shown = [trials[k] for k in _spread(len(trials), MOST_COLUMNS)]
    did = [trial.record.strategies for trial in shown if trial.record is not None]
    order = speed_order({c for own in did for c in own}, plans)
    clients = [order[k] for k in _spread(len(order), MOST_CLIENTS)]
    shades = _used(colours, {name for own in did for name in own.values()})
    place = {name: k for k, name in enumerate(shades)}
    text = [[own.get(c, _ABSENT) for own in did] for c in clients]
    gap = 1 if len(clients) <= 60 else 0
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(trial.number) for trial in shown], y=[str(c) for c in clients],
        z=[[place.get(name) for name in row] for row in text], text=text, xgap=2, ygap=gap,
        colorscale=steps_of(list(shades.values())), zmin=-0.5, zmax=len(shades) - 0.5,
        showscale=False, hovertemplate="client %{y}, trial %{x}<br>%{text}<extra></extra>",
    )  # fmt: skip
    numbers = ", ".join(str(trial.number) for trial in shown)
    top = ", the fastest on top," if plans else ""
    alt = (
        f"Heat map: strategy of {_of(len(clients), len(order))} clients{top} in "
        f"{_of(len(shown), len(trials))} trials: {numbers}."
    )
    height = 150 + min(max(20 * len(clients), 110), 560)
    lay_out(figure, "trial", "client", height, alt)
    add_strategies(figure, shades)
    figure.update_xaxes(type="category", showgrid=False, range=[-0.5, len(shown) - 0.5])
    figure.update_yaxes(type="category", range=[len(clients) - 0.5, -0.5], showgrid=False)
    figure.update_yaxes(tickfont_size=11, dtick=1 if len(clients) <= 30 else None)
    return figure


def waterfall_figure(plan: TrialPlan, colours: Mapping[str, str] | None = None) -> go.Figure:
    """The seconds of every client in a trial's plan, slowest first, and the round time.

    Args:
        plan: The trial's.
        colours: Of the strategies, as `colours_of` a study; None: of those that are drawn.
    """
    allocation, names = plan.solution.allocation, plan.problem.clients
    choice = allocation.choice
    seconds = plan.problem.seconds[np.arange(len(choice)), choice]
    order = np.argsort(-seconds, kind="stable")
    shown = order[_spread(len(order), MOST_CLIENTS)]
    menu = list(map(str, allocation.strategies))
    done = [menu[choice[c]] for c in shown.tolist()]
    shades = _used(colours, set(done))
    figure = go.Figure()
    figure.add_bar(
        x=[plain(names[c]) for c in shown.tolist()], y=_short(seconds[shown]), text=done,
        marker={"color": [shades[name] for name in done], "line_width": 0}, showlegend=False,
        textposition="none", hovertemplate="client %{x}<br>%{text}, %{y:.3g} s<extra></extra>",
    )  # fmt: skip
    says = f"round time {allocation.round_seconds:.3g} s"
    add_level(figure, allocation.round_seconds, says, "right")
    if allocation.bottleneck is not None:
        waits = f"everybody waits for client {names[allocation.bottleneck]}"
        place = int(np.flatnonzero(shown == allocation.bottleneck)[0])
        add_pointer(figure, place, allocation.round_seconds, plain(waits), place < len(shown) / 2)
        says += f"; {waits}"
    alt = (
        f"Bar chart: seconds of {_of(len(shown), len(order))} clients in trial "
        f"{plan.trial.number}; {says}."
    )
    lay_out(figure, "client, slowest first", "predicted time, s", 400, alt)
    add_strategies(figure, shades)
    figure.update_layout(bargap=0.18 if len(shown) <= 100 else 0)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(range=[0, 1.2 * max(allocation.round_seconds, 1e-9)])
    return figure


def mix_figure(
    solutions: Sequence[Solution], colours: Mapping[str, str] | None = None
) -> go.Figure:
    """The share of the clients that do each strategy, along the trade-off.

    Args:
        solutions: Of one problem at rising trade-offs, as `along_tradeoff` finds them.
        colours: Of the strategies, as `colours_of` a study; None: of those that are drawn.
    """
    menu = list(map(str, solutions[0].problem.strategies))
    counts = np.array([s.allocation.counts() for s in solutions])
    share = counts / counts.sum(axis=1, keepdims=True)
    x = _tradeoffs(solutions)
    data = [[s.allocation.round_seconds, s.allocation.loss] for s in solutions]
    figure = go.Figure()
    for name, colour in _used(colours, set(menu)).items():
        own = share[:, menu.index(name)]
        if own.any():
            figure.add_scatter(
                x=x, y=_short(own), name=plain(name), mode="lines", stackgroup="all",
                line={"width": 0, "color": colour, "shape": "hvh"}, fillcolor=colour,
                customdata=[[*_short(np.array(d)), n] for d, n in
                            zip(data, counts[:, menu.index(name)].tolist(), strict=True)],
                hovertemplate=NAME + "%{y:.0%} of the clients (%{customdata[2]})"
                "<br>%{x:.3g} s per unit of loss<br>round time %{customdata[0]:.3g} s, "
                "loss %{customdata[1]:.3g}",
            )  # fmt: skip
    ends = [
        f"{x[k]:.3g}: "
        + ", ".join(f"{n} {name}" for name, n in zip(menu, counts[k].tolist(), strict=True) if n)
        for k in (0, -1)
    ]
    alt = f"Area chart: clients of each strategy by seconds per unit of loss. {'; '.join(ends)}."
    lay_out(figure, "trade-off, s per unit of loss", "share of the clients", 360, alt)
    _log_axis(figure, x)
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def prices_figure(solutions: Sequence[Solution]) -> go.Figure:
    """What a bit more of every limit is worth, along the trade-off: shadow prices.

    Args:
        solutions: As for `mix_figure`, with prices.

    Raises:
        ValueError: If nothing has a price anywhere; see `has_prices`.
    """
    names, worth = _worth(solutions)
    ranked = np.argsort(-worth.max(axis=0), kind="stable")
    drawn = [k for k in ranked.tolist() if worth[:, k].any()][:_MOST_PRICES]
    if not drawn:
        raise ValueError("prices need a budget or a coverage that binds, but none does.")
    x, hues = _tradeoffs(solutions), (LAST_ARM, *HYBRIDS)
    figure = go.Figure()
    for place, k in enumerate(drawn):
        line = {"color": hues[place % len(hues)], "width": 2, "dash": _DASHES[place // len(hues)]}
        figure.add_scatter(
            x=x, y=_short(worth[:, k]), name=plain(names[k]), mode="lines+markers", line=line,
            marker_size=5, hovertemplate=NAME + "%{x:.3g} s per unit of loss<br>worth %{y:.3g} s",
        )  # fmt: skip
    priced = int(worth.any(axis=0).sum())
    alt = (
        f"Line chart: seconds that a bit more of each limit is worth, {_of(len(drawn), priced)} "
        f"that have a price. The dearest: {names[drawn[0]]}, {worth[:, drawn[0]].max():.3g} s."
    )
    lay_out(figure, "trade-off, s per unit of loss", "worth, s", 380, alt)
    _log_axis(figure, x)
    figure.update_yaxes(rangemode="tozero")
    return figure


def has_prices(solutions: Sequence[Solution]) -> bool:
    """Whether any limit has a price at any trade-off."""
    return bool(solutions) and bool(_worth(solutions)[1].any())


def _worth(solutions: Sequence[Solution]) -> tuple[list[str], FloatArray]:
    """Names of the limits, and `(solutions, limits)` seconds that a bit more of each is worth."""
    problem = solutions[0].problem
    budgets = [b.resource.replace("_", " ") for b in problem.budgets]
    limits = np.array([b.limit for b in problem.budgets])
    classes = 0 if problem.coverage is None else len(problem.coverage.population)
    names = [*budgets, *(f"coverage of class {c}" for c in range(classes))]
    rows = np.zeros((len(solutions), len(names)))
    for row, solution in zip(rows, solutions, strict=True):
        if solution.prices is not None:
            row[:] = 0.01 * np.concatenate(
                [solution.prices.budgets * limits, solution.prices.coverage]
            )
    return names, rows


def _tradeoffs(solutions: Sequence[Solution]) -> list[float]:
    return _short(np.array([s.problem.tradeoff or np.nan for s in solutions]))


def _log_axis(figure: go.Figure, x: Sequence[float]) -> None:
    ends = np.log10([x[0], x[-1]])
    figure.update_xaxes(type="log", range=ends.tolist(), dtick=1 if np.ptp(ends) > 2 else None)


def _spread(count: int, most: int) -> IntArray:
    """At most so many indices, from end to end."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _of(shown: int, every: int) -> str:
    return str(every) if shown == every else f"{shown} of {every}"


def _short(values: FloatArray) -> list[float]:
    """As many digits as a figure shows."""
    return [float(f"{value:.5g}") for value in values]
