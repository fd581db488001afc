"""`plot_allocation_heatmap`: clients times best trials, coloured by what a client does."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from optuna import Study
from optuna.trial import FrozenTrial
from plotly.subplots import make_subplots

from ._colours import strategy_colours
from ._columns import Column, best_columns, best_trials

_ROW_PIXELS, _STRIP_PIXELS, _SPACE_PIXELS = 16, 50, 24  # a client; an objective's bars; between
_CELLS_PIXELS = (80, 700)  # of all clients, at least and at most
_MARGINS = {"t": 90, "b": 70}


def plot_allocation_heatmap(
    study: Study,
    *,
    trials: Sequence[FrozenTrial] | None = None,
    clients: Sequence[str] | None = None,
    limit: int = 40,
) -> go.Figure:
    """Plots what every client does in the best trials of a study, and what comes of it.

    A column is an allocation, a row a client, a colour a strategy; bars above show the objectives.
    With several objectives the columns are the feasible Pareto front from end to end, with one the
    best feasible trials; an allocation that several trials found stands once.

    Args:
        study: A study whose trials say what every client does: in one categorical parameter a
            client, or in the record of `fedhq study search`.
        trials: Finished trials to plot instead of the best.
        clients: The parameters, in the order of the rows; where None fedhq's record, or without one
            all categorical parameters whose names begin with `client`.
        limit: Most columns.

    Returns:
        The figure.

    Raises:
        ValueError: If `limit` is not positive, or no trial says what its clients do.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     doing = [trial.suggest_categorical(f"client_{i}", ["ptq", "qat"]) for i in range(9)]
        ...     return doing.count("qat"), doing.count("ptq")
        >>> study = optuna.create_study(directions=["minimize", "minimize"])
        >>> study.optimize(objective, n_trials=20)
        >>> plot_allocation_heatmap(study).layout.title.text
        'Allocation heatmap'
    """
    if limit < 1:
        raise ValueError(f"`limit >= 1` must hold, but got {limit}.")
    chosen = best_trials(study) if trials is None else trials
    columns = best_columns(study, chosen, clients, limit)
    names = study.metric_names or _objective_names(len(study.directions))
    figure = _panels(names, len(_clients(columns)))
    for row, name in enumerate(names, start=1):
        figure.add_trace(_bars(columns, row - 1, name), row, 1)
    for trace in _cells(columns):
        figure.add_trace(trace, len(names) + 1, 1)
    return figure


def _panels(names: Sequence[str], rows: int) -> go.Figure:
    """An empty strip for every objective, and the place of the heatmap below."""
    cells = min(max(_ROW_PIXELS * rows, _CELLS_PIXELS[0]), _CELLS_PIXELS[1])
    heights = [_STRIP_PIXELS] * len(names) + [cells]
    inside = sum(heights) + _SPACE_PIXELS * len(names)
    last = len(heights)
    figure = make_subplots(
        rows=last,
        cols=1,
        shared_xaxes=True,
        subplot_titles=[*names, ""],
        vertical_spacing=_SPACE_PIXELS / inside,
        row_heights=heights,
    )
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title_text="Trial", row=last, col=1)
    figure.update_yaxes(nticks=4)
    figure.update_yaxes(title_text="Client", autorange="reversed", nticks=0, row=last, col=1)
    figure.update_layout(
        title="Allocation heatmap",
        height=inside + _MARGINS["t"] + _MARGINS["b"],
        margin=_MARGINS,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        bargap=0.0,
    )
    return figure


def _objective_names(count: int) -> list[str]:
    return ["Objective value"] if count == 1 else [f"Objective {k}" for k in range(count)]


def _labels(columns: Sequence[Column]) -> list[str]:
    return [f"#{column.number}" for column in columns]


def _clients(columns: Sequence[Column]) -> list[str]:
    """All clients of any column, in order of their first occurrence."""
    return list(dict.fromkeys(name for column in columns for name in column.strategies))


def _bars(columns: Sequence[Column], objective: int, name: str) -> go.Bar:
    return go.Bar(
        x=_labels(columns),
        y=[column.values[objective] for column in columns],
        marker_color="#7a8490",
        hovertemplate=f"trial %{{x}}<br>{name} %{{y:.6g}}<extra></extra>",
        showlegend=False,
    )


def _cells(columns: Sequence[Column]) -> list[go.Heatmap | go.Scatter]:
    """The heatmap, and an entry of the legend for every strategy."""
    colours = strategy_colours({s for column in columns for s in column.strategies.values()})
    place = {strategy: k for k, strategy in enumerate(colours)}
    clients = _clients(columns)
    done = [[column.strategies.get(client) for column in columns] for client in clients]
    edges = [(k + side) / len(colours) for k in range(len(colours)) for side in (0, 1)]
    heatmap = go.Heatmap(
        x=_labels(columns),
        y=clients,
        z=[[None if s is None else place[s] for s in row] for row in done],
        text=done,
        hovertemplate="trial %{x}<br>%{y}: %{text}<extra></extra>",
        colorscale=[(edge, list(colours.values())[i // 2]) for i, edge in enumerate(edges)],
        zmin=-0.5,
        zmax=len(colours) - 0.5,
        showscale=False,
        xgap=1,
        ygap=1 if len(clients) <= 60 else 0,
    )
    keys = [
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"symbol": "square", "size": 12, "color": colour},
            name=strategy,
        )
        for strategy, colour in colours.items()
    ]
    return [heatmap, *keys]
