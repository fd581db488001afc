"""The CSV reads back to the cells; the LaTeX table is one, and compiles where LaTeX is there."""

import csv
import re
import shutil
import subprocess

import pytest
from ablation_cells import cell, failed, measured

from fedhq.allocator import Exact, Milp, Sweep
from fedhq.studies.ablation.exports import CSV_COLUMNS, escaped, write_csv, write_latex
from fedhq.studies.ablation.judged import judge
from fedhq.studies.provenance import Provenance

DOCUMENT = (
    "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage[a4paper,margin=1cm]{geometry}"
    "\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}"
)


@pytest.fixture(scope="module")
def cells():
    solvers = {"sweep": Sweep(), "exact": Exact(), "highs": Milp()}
    return [
        *measured(solvers, ("random", "infeasible by a hair"), (4,), (0, 1)),
        failed("a_b & 50% #1", message='says "no", then\nnothing'),
    ]


def test_the_csv_has_a_row_a_cell_that_reads_back(cells, tmp_path):
    write_csv(tmp_path / "cells.csv", cells)
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    for row, judged in zip(rows, judge(cells), strict=True):
        found = judged.cell
        assert (row["problem"], row["solver"]) == (found.problem, found.solver)
        assert row["message"] == found.message
        assert float(row["total_seconds"]) == found.seconds["total"]
        for name, value in (
            ("objective", found.objective),
            ("bound", found.bound),
            ("excess", judged.excess),
            ("best_objective", judged.reference.objective),
        ):
            assert (row[name] == "") == (value is None)
            assert value is None or float(row[name]) == value
        assert row["best_is_proven"] == str(judged.reference.is_proven)


def test_the_columns_of_the_csv_stay():
    """Scripts of others read them by name: add at will, never rename."""
    promised = {
        "family", "problem", "clients", "solver", "outcome", "objective", "bound", "gap",
        "total_seconds", "solve_seconds", "best_objective", "excess",
    }  # fmt: skip
    assert promised <= set(CSV_COLUMNS)
    assert len(set(CSV_COLUMNS)) == len(CSV_COLUMNS)


def rows_of(text):
    body = text.split("\\toprule\n")[1].split("\\bottomrule")[0]
    return [line for line in body.splitlines() if line != "\\midrule"]


def test_the_table_has_a_row_a_solver_and_as_many_cells_as_columns(cells, tmp_path):
    write_latex(tmp_path / "table.tex", cells, {"here": Provenance.here()})
    text = (tmp_path / "table.tex").read_text("utf-8")
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    head, *rows = rows_of(text)
    assert len(rows) == 4
    for line in (head, *rows):
        assert line.endswith(" \\\\")
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    (exact,) = [row for row in rows if row.startswith("\\textbf{exact}")]
    assert exact.startswith("\\textbf{exact} & 4 of 4 & 4 & ")
    assert "a\\_b \\& 50\\% \\#1" in text
    for command in ("\\begin", "\\end"):
        assert text.count(command) == 3
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert text.isascii()


def test_the_caption_says_problems_sizes_seeds_limit_and_machine(cells, tmp_path):
    write_latex(tmp_path / "table.tex", cells, {"here": Provenance.here()})
    caption = (tmp_path / "table.tex").read_text("utf-8").split("\\caption{")[1].split("\\label")[0]
    here = Provenance.here()
    for says in ("4 solvers on 5 problems of 3 families", "2, 4 clients", "seeds 0, 1", "1 s",
                 f"{here.cores} cores", f"fedhq {here.fedhq}"):  # fmt: skip
        assert says in caption


def test_several_limits_are_blocks_of_the_table(tmp_path):
    write_latex(tmp_path / "table.tex", [cell("a"), cell("a", time_limit_seconds=0.05)])
    rows = rows_of((tmp_path / "table.tex").read_text("utf-8"))
    assert [line for line in rows if "multicolumn" in line] == [
        "\\multicolumn{8}{l}{within 50 ms} \\\\",
        "\\multicolumn{8}{l}{within 1 s} \\\\",
    ]


def test_every_sign_that_latex_reads_is_escaped():
    assert escaped("\\~^&%$#_{}") == (
        "\\textbackslash{}\\textasciitilde{}\\textasciicircum{}\\&\\%\\$\\#\\_\\{\\}"
    )


@pytest.mark.slow
def test_the_table_compiles(cells, tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("pdflatex is not installed")
    write_latex(tmp_path / "table.tex", cells, {"here": Provenance.here()})
    (tmp_path / "paper.tex").write_text(DOCUMENT, "utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
