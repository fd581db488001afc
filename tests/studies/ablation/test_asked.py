"""Which cells of a folder count: those that its configuration asks for, as in its report."""

import json
from dataclasses import replace

import pytest
from ablation_cells import cell

from fedhq.studies.ablation.asked import asked_cells
from fedhq.studies.ablation.ledger import SETTINGS_FILE
from fedhq.studies.ablation.record import CELLS_FILE, cell_to_json
from fedhq.studies.ablation.settings import parse_ablation, resolved_ablation

GRID = {
    "solvers": ["exact", "dual"], "families": ["ties"], "sizes": [2], "seeds": [0],
    "time_limits_seconds": [1.0],
}  # fmt: skip


def recorded(name):
    return replace(cell("exact", "recorded, 9, 0"), problem=name)


def asked(folder, cells, grid=GRID):
    lines = [json.dumps(cell_to_json(one)) + "\n" for one in cells]
    (folder / CELLS_FILE).write_text("".join(lines), "utf-8")
    if grid is not None:
        settings = parse_ablation({"grid": grid})
        (folder / SETTINGS_FILE).write_text(resolved_ablation(settings), "utf-8")
    return [(one.solver, one.problem, one.message) for one in asked_cells(folder)]


CELLS = [
    cell("exact"), cell("dual"), cell("greedy"), cell("exact", "ties, 3, 0"),
    cell("exact", "ties, 2, 1"), cell("exact", "random, 2, 0"),
    cell("exact", time_limit_seconds=9.0), cell("dual", message="again"),
]  # fmt: skip


def test_solvers_families_sizes_seeds_and_limits_count(tmp_path):
    assert asked(tmp_path, CELLS) == [
        ("exact", "ties, 2, 0", ""), ("dual", "ties, 2, 0", "again"),
    ]  # fmt: skip
    wider = GRID | {"sizes": [2, 3], "families": ["random", "ties"]}
    assert [problem for _, problem, _ in asked(tmp_path, CELLS, wider)] == [
        "ties, 2, 0", "ties, 2, 0", "ties, 3, 0", "random, 2, 0",
    ]  # fmt: skip


def test_without_a_configuration_all_count(tmp_path):
    assert len(asked(tmp_path, CELLS, None)) == 7


def test_of_a_table_that_was_changed_the_last_counts(tmp_path):
    cells = [recorded("fleet@1"), recorded("fleet@2"), recorded("other@3")]
    grid = GRID | {"families": [], "recorded": ["a/fleet.json"]}
    assert [name for _, name, _ in asked(tmp_path, cells, grid)] == ["fleet@2"]
    both = grid | {"recorded": ["a/fleet.json", "b/fleet.json"]}
    assert [name for _, name, _ in asked(tmp_path, cells, both)] == ["fleet@1", "fleet@2"]


def test_a_configuration_that_is_none_is_named_with_the_mend(tmp_path):
    asked(tmp_path, CELLS)
    (tmp_path / SETTINGS_FILE).write_text('{"grid": 3}', "utf-8")
    with pytest.raises(ValueError, match=r"(?s)ablation.json: .*Run `fedhq study ablation --out"):
        asked_cells(tmp_path)
