"""The figure of an ablation, for the dashboard of a search beside it."""

from __future__ import annotations

from pathlib import Path

from .plots import framed


def solver_figure(folder: Path) -> dict[str, str]:
    """The performance profile of an ablation's solvers within its largest limit, by its id.

    Args:
        folder: Of `fedhq study ablation`; what it was last asked for counts, as in its report.

    Raises:
        ValueError: If it holds no ablation, or no problem that all of its solvers were given.
        FedHQError: If its records are damaged.
    """
    from ..ablation.asked import asked_cells
    from ..ablation.columns import seconds_text
    from ..ablation.curves import performance_figures
    from ..ablation.judged import Criterion
    from ..ablation.profiles import Race
    from ..ablation.summary import summarise

    cells = asked_cells(folder)
    if not cells:
        raise ValueError(
            f"--ablation {folder}: holds no ablation, or nothing of what it was last asked for. "
            "Name the --out of a `fedhq study ablation` that was run."
        )
    summary = summarise(cells)
    limit = summary.limits[-1]
    if not len(Race.of(summary.cells(limit), Criterion.NEAR).seconds):
        raise ValueError(
            f"--ablation {folder}: no problem was given to all of its solvers within "
            f"{seconds_text(limit)} yet. Run `fedhq study ablation --out {folder}` to its end."
        )
    figure = performance_figures(summary, limit)[0].figure
    title = f"Solvers against each other, within {seconds_text(limit)}"
    return {"fedhq-9-solvers": framed(figure, title)}
