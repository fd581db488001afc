"""The schedules study: its plans, what its fits find again, and an allocator set up by TOML."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedhq import studies
from fedhq.allocator import FrontierPick, Recency, fitted_loss
from fedhq.allocator.data import RESTING
from fedhq.fl_core.federation import Federation
from fedhq.studies.arms import make_allocator, with_share_of
from fedhq.studies.compare import frontier_views
from fedhq.studies.config import parse_compare, parse_run
from fedhq.studies.runs import RunSpec, TrainedRun, task_settings
from fedhq.studies.schedule_plans import arms_of
from fedhq.studies.schedule_tables import (
    Run,
    clock,
    recency_fits,
    report,
    rest_table,
    skip_memory,
    time_to_target,
)
from fedhq.studies.schedules import main, slow_clients

FORGETTING, MEMORY = 0.2, 0.6


def made_up_run(seed: int, arm) -> Run:
    """What would be measured if coverage added up and absences were forgotten as supposed."""
    settings = task_settings("digits-mlp", alpha=0.3, bits=2, seed=seed)
    spec = RunSpec(settings, arm.rows)
    nothing = TrainedRun("", (0.0,), (0.0,), (0.0,), (0.0,), 6.0)
    run = Run("digits-mlp", seed, arm, spec, np.full((20, 10), 0.05), nothing)
    curve = np.array(fitted_loss().loss_curve)
    covered = float((Recency(FORGETTING).weights(20) @ run.covered).mean())
    lost = 0.1 * np.interp(covered, curve[:, 0], curve[:, 1]) / curve[0, 1]
    if arm.question == "rest":
        row = absent = 0.0
        for rests in run.absent.any(axis=1):
            row = row + 1 if rests else 0
            absent += (1 - MEMORY**row) / 20
        lost = 0.2 * absent / (1 - MEMORY * (1 - MEMORY**20) / (1 - MEMORY) / 20)
    deployed = tuple(np.linspace(0.3, 0.9 - lost, 20).tolist())
    return Run(
        run.task, seed, arm, spec, run.shares, TrainedRun("", deployed, *(deployed,) * 3, 6.0)
    )


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [made_up_run(s, arm) for s in (0, 1) for arm in arms_of(20, 20, slow_clients(s))]


def test_arms_differ_and_say_what_they_are() -> None:
    arms = arms_of(20, 20, slow_clients(3))
    assert len({a.name for a in arms}) == len({a.rows for a in arms}) == len(arms)
    late = next(a for a in arms if a.name == "QAT last 20 %")
    assert [row[0][:3] for row in late.rows] == ["ptq"] * 16 + ["qat"] * 4
    turns = np.array(next(a for a in arms if "turn" in a.name).rows) == "qat-w2a2"
    assert (turns.sum(axis=0) == 4).all()
    assert (turns.sum(axis=1) == 4).all()
    for n in (2, 4, 8):
        rows = next(a for a in arms if a.name == f"slow third in 1 of {n}").rows
        here = [t for t, row in enumerate(rows) if "skip" not in row]
        assert set(np.diff(here).tolist()) == {n}


def test_the_fits_find_what_made_the_runs(runs: list[Run]) -> None:
    apart, adds_up, ships = recency_fits(runs)
    assert adds_up.value == pytest.approx(FORGETTING, abs=0.02)
    assert adds_up.error < 0.01 < apart.error
    assert adds_up.held_out < 0.01
    assert adds_up.error < ships.error < apart.error  # another forgetting than made the runs
    memory, error = skip_memory(runs)
    assert memory == pytest.approx(MEMORY, abs=0.06)
    assert error < 0.05


def test_resting_saves_time_and_a_target_that_is_missed_is_not_reached(runs: list[Run]) -> None:
    by_name = {r.arm.name: r for r in runs if r.seed == 0}
    half = by_name["slow third in 1 of 2"]
    assert clock(half)[-1] == 10 * 4 + 10 * 1
    assert clock(half, never=True)[-1] == 20 * 4
    task = half.task
    assert time_to_target(runs, task, "all-QAT") == (1.0, True)
    time, is_there = time_to_target(runs, task, "slow third never")
    assert (time, is_there) == (0.25, False)
    assert "| never | 0.25 | -20.0 ± 0.0 | > 0.25 |" in rest_table(runs)


def test_a_seed_that_misses_the_target_is_not_left_out(runs: list[Run]) -> None:
    name = "slow third in 1 of 2"
    alike = [replace(r, trained=best_of(runs, r)) if r.arm.name == name else r for r in runs]
    time, is_there = time_to_target(alike, "digits-mlp", name)
    assert is_there
    flat = TrainedRun("", (0.5,) * 20, (0.5,) * 20, (0.5,) * 20, (0.5,) * 20, 6.0)
    one_misses = [
        replace(r, trained=flat) if (r.arm.name, r.seed) == (name, 1) else r for r in alike
    ]
    assert time_to_target(one_misses, "digits-mlp", name) == (time, False)


def best_of(runs: list[Run], run: Run) -> TrainedRun:
    """What all-QAT became with the seed of a run."""
    return next(r for r in runs if (r.seed, r.arm.name) == (run.seed, "all-QAT")).trained


def test_the_record_holds_every_arm(runs: list[Run]) -> None:
    text = report(runs, "a machine")
    assert all(f"| {arm.name} |" in text for arm in arms_of(20, 20, [0]))
    assert f"{len(runs)} runs, 2 seeds, {len(runs) / 10:.1f} core-minutes" in text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--tasks", "nope"], "`tasks` must be of digits-mlp"),
        (["--tasks", "smartwatch-cnn1d"], "`tasks` must be of"),  # its clients are not twenty
        (["--workers", "0"], "`workers >= 1` must hold, but got 0"),
    ],
)
def test_options_that_cannot_be_are_refused(asked, says, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit):
        main(["--store", str(tmp_path / "none"), *asked])
    assert says in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_configuration_sets_the_total_time_and_lets_clients_rest() -> None:
    table = {
        "menu": ["skip", "ptq-w2a2", "qat-w2a2"],
        "data": {"name": "digits", "num_test": 300},
        "partition": {"num_clients": 6},
        "training": {"rounds": 5},
    }
    plain = make_allocator(parse_run(table), Federation.build(parse_run(table).federation))
    fastest = plain.hardware.seconds[:, 1].max()
    table["allocation"] = {"total_seconds": 5.5 * fastest, "resting": True}
    config = parse_run(table)
    made = make_allocator(config, Federation.build(config.federation))
    assert (made.goal.total_seconds, made.goal.rounds) == (5.5 * fastest, 5)
    assert (plain.fitted.skip_memory, made.fitted.skip_memory) == (0.0, RESTING)
    assert isinstance(made.solver, FrontierPick)
    assert made.solver.rule.loss == 0.0  # a total time is there to be used
    assert made.plan(1).round_seconds <= 5.5 * fastest


def test_a_configuration_sets_a_finish_and_its_share_counts_all_rounds() -> None:
    table = {
        "menu": ["skip", "ptq-w2a2", "qat-w2a2"],
        "data": {"name": "digits", "num_test": 300},
        "partition": {"num_clients": 6},
        "training": {"rounds": 20},
        "allocation": {"finish": 0.25},
    }
    config = parse_run(table)
    federation = Federation.build(config.federation)
    made = make_allocator(config, federation)
    fast, last = (made.plan(number).choice == 2 for number in (1, 20))
    assert fast.sum() < last.sum() == 6
    random = parse_run(table | {"allocation": {"solver": "random", "share": "fedhq"}})
    share = with_share_of(random, config).allocation.share
    assert share == pytest.approx((15 * fast.mean() + 5 * last.mean()) / 20)


def test_the_demo_shows_on_the_frontier_what_its_rounds_take_before_the_finish() -> None:
    demo = tomllib.loads(Path(studies.__file__).with_name("demo.toml").read_text("utf-8"))
    config = parse_compare(demo)
    views = frontier_views(config.jobs, seed=0)
    assert [view.scenario for view in views] == list(config.scenarios)
    for view in views:
        arm = next(j for j in config.jobs if (j.scenario, j.arm) == (view.scenario, "fedhq"))
        plan = make_allocator(arm.config, Federation.build(arm.config.federation)).plan(1)
        assert view.round_seconds[view.chosen] == pytest.approx(plan.round_seconds)
        assert view.loss[view.chosen] == pytest.approx(plan.loss, abs=1e-9)


@pytest.mark.parametrize(
    ("allocation", "says"),
    [
        ({"total_seconds": 0}, "total_seconds"),
        ({"total_seconds": 9, "tradeoff": 1}, "both say what time is worth"),
        ({"resting": "yes"}, "resting"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(allocation: dict, says: str) -> None:
    table = {"data": {"name": "digits", "num_test": 300}, "allocation": allocation}
    federation = Federation.build(parse_run({**table, "allocation": {}}).federation)
    with pytest.raises(ValueError, match=says):
        make_allocator(parse_run(table), federation)
