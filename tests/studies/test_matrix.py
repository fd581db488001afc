"""The matrix: what did not run did not pass; what pip is told, uv is told."""

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedhq.allocator import FedHQError
from fedhq.studies import matrix, matrix_rows, uv_tool
from fedhq.studies.distributions import Distributions
from fedhq.studies.matrix_rows import Ages, Extent, Outcome, Result, Row, find_python, judge, rows

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
NOWHERE = Distributions(Path("no.whl"), Path("no.tar.gz"))
ROW = Row(HERE, Ages.OLDEST, Extent.CORE)


def test_all_rows_are_asked_for_the_quick_ones_first() -> None:
    asked = rows(matrix.PYTHONS, list(Ages), list(Extent))
    assert len(set(asked)) == len(asked) == 12
    assert [row.extent for row in asked] == [Extent.CORE] * 6 + [Extent.FULL] * 6


def test_an_interpreter_is_found_by_what_it_says_of_itself(tmp_path, monkeypatch) -> None:
    liar = tmp_path / "python9.9"
    liar.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "utf-8")
    liar.chmod(liar.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(matrix_rows, "run_uv", refuse)
    assert find_python("9.9") is None
    liar.rename(tmp_path / f"python{HERE}")
    assert find_python(HERE) == tmp_path / f"python{HERE}"


def refuse(*_: object) -> str:
    raise FedHQError("no such version")


def test_a_missing_interpreter_is_reported_and_is_no_success(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(matrix_rows, "find_python", lambda version: None)
    monkeypatch.setattr(matrix, "build_distributions", lambda root, folder: NOWHERE)
    out = tmp_path / "matrix.md"
    with pytest.raises(SystemExit) as left:
        matrix.main(["--python", HERE, "--ages", "newest", "--extents", "core", "--out", str(out)])
    assert left.value.code == 1
    assert f"**missing** | no Python {HERE} on this machine" in out.read_text("utf-8")
    assert "0 of 1 rows passed" in capsys.readouterr().out


def test_what_cannot_be_installed_is_told_with_the_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(matrix_rows, "find_python", lambda version: Path(sys.executable))
    monkeypatch.setattr(matrix_rows, "unpack_tests", lambda sdist, folder: folder)
    monkeypatch.setattr(matrix_rows, "run_uv", refuse)
    result = matrix_rows.run_row(ROW, NOWHERE, tmp_path / "row", 1.0)
    assert result == Result(ROW, Outcome.REFUSED, "no such version")


@pytest.mark.parametrize(
    ("code", "output", "outcome", "note"),
    [
        (0, "== 3 passed in 0.1s ==", Outcome.PASSED, "3 passed"),
        (0, "3 passed, 1 skipped in 61.10s (0:01:01)", Outcome.PASSED, "3 passed, 1 skipped"),
        (1, "1 failed, 2 passed in 1.0s", Outcome.FAILED, "1 failed, 2 passed; see log"),
        (5, "no tests ran in 0.01s", Outcome.FAILED, "exit status 5; see log"),
        (-9, "", Outcome.FAILED, "exit status -9; see log"),
    ],
)
def test_only_an_exit_status_of_zero_passes(code, output, outcome, note) -> None:
    assert judge(code, output, Path("log")) == (outcome, note)


def test_an_environment_that_imports_something_else_than_the_wheel_fails(tmp_path) -> None:
    home = tmp_path / "environment" / "bin"
    home.mkdir(parents=True)
    python = home / "python"
    python.write_text("#!/bin/sh\necho /elsewhere/fedhq/allocator/__init__.py\n", "utf-8")
    python.chmod(0o755)
    outcome, note = matrix_rows._test(ROW, python, tmp_path, tmp_path / "log", 1.0)
    assert outcome is Outcome.FAILED
    assert "imports /elsewhere" in note


def test_a_table_names_what_ran() -> None:
    result = Result(ROW, Outcome.PASSED, "3 passed", "3.11.7", ("numpy 2.0.0",), 12.3)
    line = matrix.table([replace(result), result]).splitlines()[-1]
    assert line.startswith("| 3.11.7 | oldest | core | passed | 3 passed | numpy 2.0.0 | 12 |")


def test_uv_says_why_it_failed_and_starts_outside_of_this_environment(monkeypatch) -> None:
    with pytest.raises(FedHQError, match=r"`uv python find` failed: .*0\.1"):
        uv_tool.run_uv(["python", "find", "--no-project", "0.1"], 60.0)
    monkeypatch.setattr(uv_tool, "find_uv", lambda: None)
    with pytest.raises(FedHQError, match="pip install uv"):
        uv_tool.run_uv(["--version"], 60.0)
