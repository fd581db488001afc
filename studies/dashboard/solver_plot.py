"""The figure of an ablation, for the dashboard of a search beside it."""

from __future__ import annotations

from pathlib import Path

from .plots import framed


def solver_figure(folder: Path) -> dict[str, str]:
    """The performance profile of an ablation's solvers over all its problems, by its id.

    Args:
        folder: Of `fedhq study ablation`.

    Raises:
        ValueError: If it holds no ablation.
        FedHQError: If its records are damaged.
    """
    from ..ablation.curves import performance_figures
    from ..ablation.ledger import latest_cells
    from ..ablation.summary import summarise

    cells = latest_cells(folder)
    if not cells:
        raise ValueError(
            f"--ablation {folder}: holds no ablation. Name the --out of a `fedhq study ablation`."
        )
    summary = summarise(cells)
    figure = performance_figures(summary, summary.limits[-1])[0].figure
    return {"fedhq-9-solvers": framed(figure, "Solvers against each other")}
