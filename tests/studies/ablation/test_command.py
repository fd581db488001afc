"""`fedhq study ablation` as a person uses it: what it leaves, and its words when it cannot."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fedhq.allocator import FedHQError
from fedhq.studies.ablation.asked import asked_cells
from fedhq.studies.ablation.contestants import NAMES, contestant
from fedhq.studies.ablation.ledger import latest_cells, read_cells
from fedhq.studies.ablation.settings import parse_ablation, read_ablation
from fedhq.studies.dashboard.solver_plot import solver_figure
from fedhq.studies.entry import main

SMALL = """
[grid]
solvers = ["sweep", "dual", "exact", "hardware-only"]
families = ["federated", "federated, separable"]
recorded = ["digits"]
sizes = [6]
seeds = [0]
workers = 1
"""
FEDERATION = """
[end_to_end]
solvers = ["exact", "uniform-qat"]
seeds = [0]
rounds = 1
workers = 1
"""


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, "utf-8")
    return path


def ablation(*arguments: object) -> int:
    return main(["study", "ablation", *map(str, arguments)])


def test_it_measures_reports_and_resumes_without_measuring_again(small, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert ablation(small, "--out", folder) == 0
    printed = capsys.readouterr()
    assert re.search(r"exact .*3 of 3", printed.out)
    assert printed.err.startswith("fedhq: 12 cells to measure, about ")
    assert "12 of 12 cells" in printed.err
    assert f"report: {folder / 'report.html'}" in printed.out
    cells = list(read_cells(folder))
    assert len(cells) == 12
    with open(folder / "cells.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["problem"], row["solver"]) for row in rows] == [c.key[:2] for c in ordered(cells)]
    page = (folder / "report.html").read_text("utf-8")
    assert f"fedhq study ablation {small} --out {folder}" in page
    assert "\\toprule" in (folder / "table.tex").read_text("utf-8")
    settings = json.loads((folder / "ablation.json").read_text("utf-8"))
    assert parse_ablation(settings).grid.sizes == (6,)
    (key,) = json.loads((folder / "provenance.json").read_text("utf-8"))
    assert {cell.provenance for cell in cells} == {key}

    before = (folder / "cells.jsonl").read_bytes()
    assert ablation(small, "--out", folder, "--quiet") == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (printed.out, "")
    assert (folder / "cells.jsonl").read_bytes() == before


def ordered(cells):
    """As the grid lists them: by size, and by solver as they were named."""
    return sorted(cells, key=lambda cell: cell.clients)


def test_other_settings_are_not_in_the_table(small, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert ablation(small, "--out", folder, "--quiet", "--set", "grid.recorded=[]") == 0
    assert ablation(small, "--out", folder, "--quiet", "--set", "grid.families=['federated']") == 0
    assert re.search(r"exact .*2 of 2", capsys.readouterr().out)
    assert len(list(read_cells(folder))) == 12


@pytest.mark.slow
def test_some_solvers_train_a_federation_unless_one_does_not_want_it(
    small, tmp_path, capsys
) -> None:
    small.write_text(SMALL + FEDERATION, "utf-8")
    assert ablation(small, "--out", tmp_path / "a", "--quiet", "--no-end-to-end") == 0
    assert not (tmp_path / "a" / "end_to_end.jsonl").exists()
    assert ablation(small, "--out", tmp_path / "a", "--quiet") == 0
    lines = (tmp_path / "a" / "end_to_end.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["solver"] for line in lines] == ["exact", "uniform-qat"]
    assert all(json.loads(line)["deployed_accuracy"] > 0 for line in lines)


def test_print_shows_the_whole_configuration_as_toml_that_it_reads(small, tmp_path, capsys) -> None:
    small.write_text(SMALL + FEDERATION, "utf-8")
    folder, printed = tmp_path / "out", tmp_path / "printed.toml"
    assert ablation(small, "--out", folder, "--print", "--workers", 3) == 0
    printed.write_text(capsys.readouterr().out, "utf-8")
    assert read_ablation(str(printed)) == read_ablation(str(small), ["grid.workers=3"])
    assert "grid.time_limits_seconds = [2.0]" in printed.read_text("utf-8")
    assert not folder.exists()
    assert ablation("--print", "--no-end-to-end") == 0
    assert "cvxpy:HIGHS" in (told := capsys.readouterr().out)
    assert "end_to_end" not in told


def test_a_grid_needs_no_torch(small, tmp_path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')", "utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(hidden), *sys.path])}
    command = [sys.executable, "-m", "fedhq.studies", "study", "ablation", str(small), "--quiet"]
    command += ["--out", str(tmp_path / "out"), "--no-end-to-end"]
    small.write_text(SMALL + FEDERATION, "utf-8")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "report.html").exists()
    told = subprocess.run(
        [sys.executable, "-c", "import torch"], env=environment, capture_output=True, check=False
    )
    assert b"no torch" in told.stderr  # it is hidden indeed


def test_a_grid_of_solvers_that_are_not_installed_is_an_error_at_once(
    small, tmp_path, capsys
) -> None:
    lacking = next(name for name in NAMES if contestant(name, 1.0).missing)
    chosen = f"grid.solvers=['{lacking}']"
    assert ablation(small, "--out", tmp_path / "out", "--set", chosen) == 2
    told = f"grid.solvers: none is installed. {contestant(lacking, 1.0).missing}"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_report_of_the_grid_stands_whatever_becomes_of_the_federations(
    small, tmp_path, capsys, monkeypatch
) -> None:
    def fail(*arguments):
        raise FedHQError("the lights went out")

    small.write_text(SMALL + FEDERATION, "utf-8")
    monkeypatch.setattr("fedhq.studies.ablation.training.Federations.run", fail)
    folder = tmp_path / "out"
    assert ablation(small, "--out", folder, "--quiet") == 2
    assert "the lights went out" in capsys.readouterr().err
    assert {"report.html", "cells.csv", "table.tex"} <= {p.name for p in folder.iterdir()}


def test_the_dashboard_shows_what_the_report_shows(small, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    changes = ["--set", "grid.families=['federated']", "--set", "grid.solvers=['dual','exact']"]
    assert ablation(small, "--out", folder, "--quiet", "--set", "grid.recorded=[]") == 0
    assert ablation(small, "--out", folder, "--quiet", *changes) == 0
    with open(folder / "cells.csv", encoding="utf-8", newline="") as file:
        rows = {(row["problem"], row["solver"]) for row in csv.DictReader(file)}
    assert {cell.key[:2] for cell in asked_cells(folder)} == rows
    assert len(rows) == 4 < len(latest_cells(folder))
    assert len(solver_figure(folder)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--workers", "0"], "grid.workers = 0: input should be greater than or equal to 1"),
        (["--set", "grid.solvers=['exat']"], "Did you mean 'exact'?"),
        (["--set", "grid.families=['federatd']"], "Did you mean 'federated'?"),
        (["--set", "grid.sizes=[0]"], "grid.sizes.0 = 0"),
        (["--set", "grid.recorded=['none.json']"], "cannot read none.json: No such file"),
        (["--set", "end_to_end.solvers=['exat']"], "Did you mean 'exact'?"),
        (["--set", "end_to_end.solvers=['exact','exact']"], "has 'exact' twice"),
        (["--set", "end_to_end.config='none.toml'"], "end_to_end.config = 'none.toml': cannot"),
        (["--set", "grid"], "an override must be `key=value`"),
    ],
)
def test_a_fault_is_told_and_nothing_is_written(small, tmp_path, capsys, arguments, told) -> None:
    folder = tmp_path / "out"
    assert ablation(small, "--out", folder, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("fedhq: error: ")
    assert told in printed.err
    assert not folder.exists()


def test_a_folder_of_a_search_is_left_as_it_is(small, tmp_path, capsys) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "study.json").write_text("{}", "utf-8")
    assert ablation(small, "--out", tmp_path / "search") == 2
    assert "must be a folder of an ablation or empty, but holds study.json" in (
        capsys.readouterr().err
    )
    assert [p.name for p in (tmp_path / "search").iterdir()] == ["study.json"]


@pytest.mark.parametrize("place", ["file", "file/out"])
def test_a_place_that_is_no_folder_is_named_with_the_mend(small, tmp_path, capsys, place) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert ablation(small, "--out", tmp_path / place) == 2
    told = capsys.readouterr().err
    assert f"fedhq: error: `{tmp_path / place} is a folder or can be made` must hold" in told
    assert told.endswith("Take another one with --out.\n")
    assert (tmp_path / "file").read_text("utf-8") == ""


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_the_same_command_resumes(small, tmp_path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "fedhq.studies", "study", "ablation", str(small)]
    command += ["--out", str(folder), "--set", "grid.seeds=[0,1,2]"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # whoever ignores it here
    ) as process:  # fmt: skip
        end = time.monotonic() + 60
        while not (folder / "cells.jsonl").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("fedhq: stopped; the same command resumes where it was.\n")
    kept = list(read_cells(folder))
    assert 0 < len(kept) < 28
    subprocess.run([*command, "--quiet"], env=environment, check=True, stdout=subprocess.DEVNULL)
    cells = list(read_cells(folder))
    assert cells[: len(kept)] == kept
    assert len({cell.key for cell in cells}) == len(cells) == 28
