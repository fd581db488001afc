"""What an ablation's TOML may say, and what is said of faults."""

import json
import re
from dataclasses import replace

import pytest

from fedhq.studies.ablation.contestants import NAMES
from fedhq.studies.ablation.problems import SHIPPED, all_families
from fedhq.studies.ablation.settings import (
    GridSettings,
    parse_ablation,
    read_ablation,
    resolved_ablation,
)

SMALL = {"grid": {"solvers": ["dual"], "families": ["ties"]}}


def changed(**keys) -> dict:
    return {"grid": SMALL["grid"] | keys}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (changed(solvers=["exat"]), "grid.solvers.0 = 'exat': .*Did you mean 'exact'"),
        (changed(solvers=[]), "grid.solvers = []: .*at least 1"),
        (changed(solvers=["dual", "dual"]), "grid.solvers = .*names? each once.*'dual' twice"),
        (changed(families=["federatd"]), "grid.families.0 = .*Did you mean 'federated'"),
        (changed(families=["ties", "ties"]), "has 'ties' twice"),
        (changed(sizes=[10, 0]), "grid.sizes.1 = 0: .*greater than or equal to 1"),
        (changed(sizes=[10, 10]), "has 10 twice"),
        (changed(sizes=["10"]), "grid.sizes.0 = '10': .*integer"),
        (changed(seeds=[-1]), "grid.seeds.0 = -1"),
        (changed(time_limits_seconds=[]), "grid.time_limits_seconds = "),
        (changed(time_limits_seconds=[0.0]), "grid.time_limits_seconds.0 = 0.0: .*greater than 0"),
        (changed(workers=0), "grid.workers = 0"),
        (changed(recorded=["digit"]), "grid.recorded.0 = 'digit': .*Did you mean 'digits'"),
        (changed(families=[]), "`grid` must hold a problem"),
        (changed(seeds=[]), "`grid` must hold a problem"),
        (changed(solver=["dual"]), "grid.solver = .*unknown key.*`solvers`"),
        ({}, "grid: is required"),
        (SMALL | {"gird": {}}, "gird = {}: unknown key.*`grid`"),
    ],
)
def test_a_fault_is_told_with_its_key(table, told) -> None:
    with pytest.raises(ValueError, match=re.compile(told.replace("[]", r"\[\]"), re.DOTALL)):
        parse_ablation(table)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)grid\.sizes\.0.*grid\.workers"):
        parse_ablation(changed(sizes=[0], workers=0))


def test_recorded_tables_alone_are_problems_enough() -> None:
    settings = parse_ablation({"grid": {"solvers": ["dual"], "recorded": ["digits"]}})
    assert settings.grid.families == ()


def test_the_configuration_that_ships_is_whole_and_reads_itself() -> None:
    settings = read_ablation("default")
    assert set(settings.grid.recorded) == set(SHIPPED)
    assert set(settings.grid.solvers) <= set(NAMES)
    assert set(settings.grid.families) <= set(all_families())
    assert len(settings.grid.time_limits_seconds) == 1
    text = resolved_ablation(settings)
    assert parse_ablation(json.loads(text)) == settings


def test_overrides_change_keys() -> None:
    settings = read_ablation("default", ["grid.sizes=[7]", "grid.solvers=['cvxpy:HIGHS']"])
    assert (settings.grid.sizes, settings.grid.solvers) == ((7,), ("cvxpy:HIGHS",))


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.toml"):
        read_ablation(str(tmp_path / "none.toml"))


def test_grids_are_settings_of_their_own() -> None:
    grid = GridSettings(("dual",), ("ties",))
    assert replace(grid, workers=3).workers == 3
    with pytest.raises(ValueError, match="federatd"):
        GridSettings(("dual",), ("federatd",))
