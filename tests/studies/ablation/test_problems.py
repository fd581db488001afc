"""Problems of families, of tables that ship, and of one's own files."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Count, Exact, solve
from fedhq.allocator.instances.references import arrays_of
from fedhq.fl_core.text_file import Source
from fedhq.studies.ablation.problems import (
    RECORDED,
    SHIPPED,
    SHIPPED_FOLDER,
    ProblemSource,
    all_families,
    check_family,
    check_place,
    problem_of_run,
    read_recorded,
)
from fedhq.studies.ablation.record_tables import rounded
from fedhq.studies.plan_json import problem_from_json, problem_to_json


def assert_same(one: AllocationProblem, other: AllocationProblem) -> None:
    """Every number, bit by bit."""
    assert problem_to_json(one) == problem_to_json(other)
    for mine, theirs in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("family", all_families())
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_problem_written_as_json_is_read_as_the_same(family, seed) -> None:
    problem = all_families()[family](seed, 7)
    assert_same(problem_from_json(Source("file", problem_to_json(problem))), problem)


def test_groups_counts_and_switching_are_written_too() -> None:
    problem = AllocationProblem(
        ("skip", "ptq-w2a2", "qat-w2a2"),
        [[0, 1, 2], [0, 3, 5], [0, 1, 1]],
        np.full((3, 3), 0.1),
        7.5,
        max_loss=0.9,
        switching_seconds=[[0, 0.25, 0], [0, 0, 0], [0, 1e-9, 3]],
        counts=[Count(["qat-w2a2"], at_most=2), Count(["ptq-w2a2", "skip"], at_least=1)],
        groups=["a", None, "a"],
        clients=["ä", "b", "c"],
        num_examples=[5, 0, 2],
    )
    read = problem_from_json(Source("file", problem_to_json(problem)))
    assert_same(read, problem)
    assert (read.counts, read.groups, read.clients) == (
        problem.counts,
        problem.groups,
        problem.clients,
    )


def test_what_has_no_place_in_the_file_is_refused() -> None:
    problem = AllocationProblem(["ptq-w2a2"], [[1], [2]], [[0], [0]], 1.0, members=[1, 3])
    with pytest.raises(ValueError, match="`members` must be 1"):
        problem_to_json(problem)
    numbered = AllocationProblem(["ptq-w2a2"], [[1], [2]], [[0], [0]], 1.0, groups=[7, None])
    with pytest.raises(ValueError, match="`groups` must be texts"):
        problem_to_json(numbered)


def test_a_source_builds_the_familys_problem() -> None:
    source = ProblemSource.of_family("ties, separable", 9, 4)
    assert_same(source.build(), all_families()["ties, separable"](4, 9))
    assert source.build() is source.build()


def test_tables_that_ship_are_real_and_can_be_decided() -> None:
    tables = read_recorded(SHIPPED)
    assert [t.name.partition("@")[0] for t in tables] == list(SHIPPED)
    assert len({t.problem.num_clients for t in tables}) == len(SHIPPED)
    for table in tables:
        term = table.problem.coverage
        per_example = term.label_counts.sum(axis=1) / table.problem.num_examples
        assert per_example == pytest.approx(per_example[0])  # of text, a window's characters
        solution = solve(table.problem, Exact())
        everybody = np.full(table.problem.num_clients, len(table.problem.strategies) - 1)
        # A trade-off: neither does everybody train with QAT, nor does nobody.
        assert 0 < (solution.allocation.choice == everybody).sum() < table.problem.num_clients


@pytest.mark.parametrize(
    "name", ["digits", *(pytest.param(n, marks=pytest.mark.slow) for n in SHIPPED if n != "digits")]
)
def test_a_table_that_ships_is_what_its_federation_says(name) -> None:
    problem = rounded(problem_of_run(SHIPPED_FOLDER / f"{name}.toml"))
    assert problem_to_json(problem) == (SHIPPED_FOLDER / f"{name}.json").read_text("utf-8")


def test_a_recorded_table_is_kept_in_the_folder_and_built_from_there(tmp_path) -> None:
    (table,) = read_recorded(["digits"])
    source = table.keep(tmp_path)
    assert source.path == tmp_path / "problems" / f"{table.name}.json"
    assert (source.family, source.clients, source.name) == (RECORDED, 40, table.name)
    assert_same(source.build(), table.problem)
    assert table.keep(tmp_path) == source


def test_a_table_of_ones_own_has_a_digest_in_its_name(tmp_path) -> None:
    (shipped,) = read_recorded(["digits"])
    path = tmp_path / "mine.json"
    path.write_text(problem_to_json(shipped.problem), "utf-8")
    (mine,) = read_recorded([str(path)])
    assert mine.name == shipped.name.replace("digits", "mine")
    table = json.loads(path.read_text("utf-8"))
    table["tradeoff"] = 3.0
    path.write_text(json.dumps(table), "utf-8")
    (changed,) = read_recorded([str(path)])
    assert changed.name != mine.name


def test_a_runs_configuration_is_a_table(config) -> None:
    text = config.read_text("utf-8") + "[allocation]\ntradeoff = 3.0\n"
    config.write_text(text, "utf-8")
    (table,) = read_recorded([str(config)])
    assert (table.problem.num_clients, table.problem.tradeoff) == (4, 3.0)
    assert_same(table.problem, problem_of_run(config))


def test_what_cannot_be_read_is_named(tmp_path, config) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.json: No such file"):
        read_recorded([str(tmp_path / "none.json")])
    broken = tmp_path / "broken.json"
    broken.write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"broken\.json: must be valid JSON"):
        read_recorded([str(broken)])
    with pytest.raises(ValueError, match=r"tiny\.toml must say what to minimise.*tradeoff"):
        read_recorded([str(config)])
    with pytest.raises(ValueError, match="digits holds a table that is there already"):
        read_recorded(["digits", "digits"])
    folder = tmp_path / "folder.json"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"cannot read .*folder\.json: Is a directory"):
        read_recorded([str(folder)])


def test_unknown_names_are_told_with_a_near_one() -> None:
    with pytest.raises(ValueError, match="Did you mean 'one giant'"):
        check_family("one gaint")
    with pytest.raises(ValueError, match="There are: random; federated"):
        check_family("zzz")
    with pytest.raises(ValueError, match="Did you mean 'mnist5k'"):
        check_place("mnist")
    with pytest.raises(ValueError, match="These ship: digits"):
        check_place("zzz")
    assert check_place("a/b.json") == "a/b.json"
    assert Path(SHIPPED_FOLDER / "digits.json").exists()
