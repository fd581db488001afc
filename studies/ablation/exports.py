"""An ablation for other programs: all cells as CSV, the summary as a LaTeX table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..provenance import Provenance
from ..writing import write_at_once
from .columns import COLUMNS, seconds_text
from .judged import Judged, judge
from .kinds import Kind
from .record import Cell
from .summary import PHASES, Row, Summary, summarise

_CELL_COLUMNS = (
    "family", "problem", "clients", "strategies", "seed", "solver", "kind", "settings",
    "solver_version",
    "time_limit_seconds", "outcome", "objective", "bound", "gap", "round_seconds", "loss",
)  # fmt: skip
_TIMES = ("start", *PHASES, "total")  # the total is without the start
CSV_COLUMNS = (
    *_CELL_COLUMNS,
    *(f"{phase}_seconds" for phase in _TIMES),
    "peak_bytes",
    "verified",
    "best_objective",
    "best_is_proven",
    "excess",
    "is_wrong",
    "is_late",
    "message",
    "workers",
    "provenance",
)
"""The columns of `write_csv`, in order; `choice` is in the cells' own file."""

_TABLE_COLUMNS = ("near", "proven", "mean time", "× fastest", "excess", "gap", "faults")  # noqa: RUF001
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "×": r"$\times$",  # noqa: RUF001 a sign of multiplication
    "µ": r"$\mu$",
    "∞": r"$\infty$",
    "<": "$<$",
    ">": "$>$",
}


def write_csv(path: Path, cells: Sequence[Cell]) -> None:
    """Writes one row a cell, with what the others say of it; what is unknown is empty.

    Args:
        path: The file; what stood there is replaced at once.
        cells: In the order of the rows.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(map(_csv_row, judge(cells)))
    write_at_once(path, text.getvalue())


def _csv_row(judged: Judged) -> list[object]:
    cell, reference = judged.cell, judged.reference
    return [
        *(getattr(cell, name) for name in _CELL_COLUMNS),
        *(cell.seconds.get(phase) for phase in _TIMES),
        cell.peak_bytes,
        cell.verified,
        reference.objective,
        reference.is_proven,
        judged.excess,
        judged.is_wrong,
        judged.is_late,
        cell.message,
        cell.workers,
        cell.provenance,
    ]


def write_latex(
    path: Path, cells: Sequence[Cell], provenance: Mapping[str, Provenance] | None = None
) -> None:
    r"""Writes the summary as a table that needs no more than `\usepackage{booktabs}`.

    Args:
        path: The file; what stood there is replaced at once.
        cells: What was measured; each time limit has a block of its own.
        provenance: What the cells ran on, for the caption.

    Raises:
        ValueError: If there are no cells.
    """
    write_at_once(path, _latex(summarise(cells), provenance or {}))


def _latex(summary: Summary, provenance: Mapping[str, Provenance]) -> str:
    columns = [column for column in COLUMNS if column.heading in _TABLE_COLUMNS]
    heads = " & ".join(["solver", *(escaped(column.heading) for column in columns)])
    blocks = "\\midrule\n".join(_block(summary, limit) for limit in summary.limits)
    says = "; ".join(f"\\emph{{{escaped(c.heading)}}}: {escaped(c.says)}" for c in columns)
    return (
        "\\begin{table}\n\\centering\n\\small\n"
        f"\\caption{{{_caption(summary, provenance)}}}\n\\label{{tab:ablation}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}l}}\n\\toprule\n"
        f"{heads} \\\\\n\\midrule\n{blocks}\\bottomrule\n\\end{{tabular}}\n\n"
        f"\\smallskip\n\\begin{{minipage}}{{\\linewidth}}\\footnotesize {says}.\\end{{minipage}}\n"
        "\\end{table}\n"
    )


def _block(summary: Summary, limit: float) -> str:
    """The rows of a limit, under a heading where there are several limits."""
    several = len(summary.limits) > 1
    width = len(_TABLE_COLUMNS) + 1
    head = f"\\multicolumn{{{width}}}{{l}}{{within {escaped(seconds_text(limit))}}} \\\\\n"
    return (head if several else "") + "".join(map(_line, summary.of(limit)))


def _line(row: Row) -> str:
    name = escaped(row.solver)
    cells = [escaped(c.text(row)) for c in COLUMNS if c.heading in _TABLE_COLUMNS]
    first = f"\\textbf{{{name}}}" if row.kind is Kind.OURS else name
    return " & ".join([first, *cells]) + " \\\\\n"


def _caption(summary: Summary, provenance: Mapping[str, Provenance]) -> str:
    """What was measured: problems, sizes, seeds, limits, machine."""
    cells = [judged.cell for judged in summary.judged]
    sizes = ", ".join(str(n) for n in sorted({cell.clients for cell in cells}))
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells}))
    machines = sorted(
        {f"{p.machine}, {summary.workers(key)}, fedhq {p.fedhq}" for key, p in provenance.items()}
    )
    where = f" Measured on {'; '.join(map(escaped, machines))}." if machines else ""
    return (
        escaped(
            f"{len(summary.solvers)} solvers on {len({c.problem for c in cells})} problems of "
            f"{len(summary.families)} families with {sizes} clients, seeds {seeds}; time limit "
            f"{' and '.join(map(seconds_text, summary.limits))}."
        )
        + f"{where} fedhq's own solvers are bold."
    )


def escaped(text: str) -> str:
    r"""A text for LaTeX, which reads signs as commands.

    Example:
        >>> print(escaped("a_b: 5 % & more"))
        a\_b: 5 \% \& more
    """
    return "".join(_ESCAPES.get(sign, sign) for sign in text)
