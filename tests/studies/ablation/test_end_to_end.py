"""Federations that solvers decide in: paired, resumed, honest about failures, the same bytes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedhq.allocator import Dual, Exact, Milp, Sweep, Uniform
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.recorder import read_clients, read_rounds
from fedhq.studies.ablation import end_to_end
from fedhq.studies.ablation.end_to_end import (
    END_TO_END_FILE,
    RUNS_FOLDER,
    EndToEnd,
    EndToEndSettings,
    grouped,
    jobs_of,
    read_end_to_end,
    run_end_to_end,
)
from fedhq.studies.ablation.federations import federation_table, federation_verdict
from fedhq.studies.arms import make_allocator
from fedhq.studies.config import parse_run
from fedhq.studies.faults import validate
from fedhq.studies.tables import read_table

SOLVERS = {"exact": Exact(), "cvxpy:dual?": Dual(), "qat": Uniform("qat-w2a2"), "sweep": Sweep()}
SHIPPED = Path(end_to_end.__file__).with_name("digits.toml")


@pytest.fixture
def settings(config) -> EndToEndSettings:
    config.write_text(config.read_text("utf-8") + "[allocation]\ntradeoff = 0.5\n", "utf-8")
    return EndToEndSettings(tuple(SOLVERS), str(config), seeds=(0, 1), rounds=2)


def stamps(folder):
    """When the records of every run that got anywhere were written last."""
    files = (p for p in (folder / RUNS_FOLDER).rglob("rounds.jsonl") if p.stat().st_size)
    return {p: p.stat().st_mtime_ns for p in files}


@pytest.mark.slow
def test_solvers_decide_in_federations_that_are_resumed(settings, tmp_path):
    folder = tmp_path / "study"
    told = []
    records = run_end_to_end(settings, SOLVERS, folder, told.append)
    assert [(r.solver, r.seed) for r in records] == [(s, k) for s in SOLVERS for k in (0, 1)]
    assert (told[-1].runs_done, told[-1].runs_total) == (8, 8)
    assert read_end_to_end(folder) == records

    by_solver = {name: [r for r in records if r.solver == name] for name in SOLVERS}
    for record in records[:6]:
        job = next(
            j for j in jobs_of(settings, {record.solver: SOLVERS[record.solver]})
            if j.seed == record.seed
        )  # fmt: skip
        run = folder / RUNS_FOLDER / record.run
        rounds = read_rounds(run)
        assert record.curve == tuple(
            (r.round, r.simulated_seconds, r.deployed_accuracy) for r in rounds
        )
        assert record.round_seconds == rounds[-1].simulated_seconds / 2
        assert record.plan_seconds > 0
        clients = read_clients(run)
        allocator = make_allocator(job.config, Federation.build(job.config.federation), job.solver)
        planned = [str(s) for s in map(allocator.plan(1).strategy, range(4))]
        assert [c.strategy for c in clients if c.round == 1] == planned
    assert all(r.round_seconds >= e.round_seconds for r, e in zip(
        by_solver["qat"], by_solver["exact"], strict=True))  # fmt: skip

    for record in by_solver["sweep"]:  # it cannot express coverage: told, and nobody else is lost
        assert record.rounds == 0
        assert "Sweep cannot handle `coverage`" in record.message
        assert record.curve == ()
    letters = {row[0]: row[1] for row in federation_table(records)[1]}
    assert letters["sweep"] == "failed"
    same = [r.decisions for r in by_solver["exact"]] == [
        r.decisions for r in by_solver["cvxpy:dual?"]
    ]
    assert (letters["exact"] == letters["cvxpy:dual?"]) == same

    before = stamps(folder)
    assert len(before) == 6
    again = run_end_to_end(settings, SOLVERS, folder)
    assert again == records  # among them wall times: nothing was trained again
    assert stamps(folder) == before
    more = run_end_to_end(replace(settings, rounds=3), {"qat": SOLVERS["qat"]}, folder)
    assert [r.rounds for r in more] == [3, 3]  # other federations, in folders of their own
    assert {p: t for p, t in stamps(folder).items() if p in before} == before


def test_the_federation_that_ships_is_one_where_solvers_differ():
    config = parse_run(read_table(SHIPPED))
    federation = Federation.build(config.federation)
    plans = {
        solver: make_allocator(config, federation, solver).plan(1)
        for solver in (Exact(), Milp(), Uniform("qat-w2a2"), Uniform("ptq-w2a2"))
    }
    exact, milp, qat, ptq = plans.values()
    assert exact.objective == pytest.approx(milp.objective, rel=1e-6)
    assert exact.objective < min(qat.objective, ptq.objective) * 0.95
    assert len(exact.choice) == 20


def test_what_is_trained_names_the_folder(settings):
    solvers = {"exact": Exact(), "hi:ghs": Milp()}
    jobs = jobs_of(replace(settings, seeds=(0,)), solvers)
    assert [job.scenario for job in jobs] == ["exact", "hi-ghs"]
    other = jobs_of(replace(settings, seeds=(0,)), {"exact": Exact(gap=0.1)})[0]
    longer = jobs_of(replace(settings, seeds=(0,), rounds=3), solvers)[0]
    assert len({jobs[0].arm, other.arm, longer.arm}) == 3
    assert jobs_of(replace(settings, seeds=(0,)), solvers)[0].arm == jobs[0].arm


def test_a_solver_that_is_not_there_is_left_out(settings, monkeypatch, tmp_path):
    monkeypatch.setattr("fedhq.studies.compare.run_jobs", lambda *a: [])
    assert run_end_to_end(settings, {}, tmp_path) == ()
    assert read_end_to_end(tmp_path) == ()


def test_a_configuration_without_a_goal_is_an_error(config):
    settings = EndToEndSettings(("exact",), str(config))
    with pytest.raises(ValueError, match=r"neither tradeoff nor deadline_seconds nor max_loss"):
        jobs_of(settings, {"exact": Exact()})


def test_faults_of_the_configuration_name_it(config):
    config.write_text("menu = 3\n", "utf-8")
    with pytest.raises(ValueError, match=r"(?s)end_to_end.config = .*tiny.toml.*menu = 3"):
        jobs_of(EndToEndSettings(("exact",), str(config)), {"exact": Exact()})
    with pytest.raises(ValueError, match=r"cannot read .*none.toml"):
        jobs_of(EndToEndSettings(("exact",), "none.toml"), {"exact": Exact()})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"solver": ["exact"]}, "end_to_end.solver = .* Did you mean `solvers`"),
        ({"solvers": []}, "end_to_end.solvers = "),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"rounds": 0}, "end_to_end.rounds = 0"),
        ({"workers": 0}, "end_to_end.workers = 0"),
    ],
)
def test_faults_of_the_settings_name_the_key(table, says):
    with pytest.raises(ValueError, match=says):
        validate(EndToEndSettings, table, "end_to_end")


def test_records_read_back_and_foreign_lines_are_an_error(tmp_path):
    record = EndToEnd(
        "a", "A()", 0, 2, 1.5, 0.5, 0.1, 0.01, "d", ((1, 1.5, 0.25),), "", "a/x/seed-0"
    )
    path = tmp_path / END_TO_END_FILE
    path.write_text(json.dumps(vars(record)) + "\n", "utf-8")
    assert read_end_to_end(tmp_path) == (record,)
    path.write_text('{"solver": "a"}\n', "utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .*must have the keys"):
        read_end_to_end(tmp_path)
    assert read_end_to_end(tmp_path / "none") == ()


def test_who_decided_alike_in_one_seed_only_is_apart():
    def record(solver, seed, decisions):
        return EndToEnd(
            solver, "", seed, 1, 1.0, 0.5, 0.1, 0.1, decisions, ((1, 1.0, 0.5),), "", ""
        )

    records = [
        record("a", 0, "x"), record("a", 1, "y"), record("b", 1, "y"), record("b", 0, "x"),
        record("c", 0, "x"), record("c", 1, "z"),
    ]  # fmt: skip
    assert [solvers for solvers, _ in grouped(records)] == [("a", "b"), ("c",)]
    assert [row[1] for row in federation_table(records)[1]] == ["A", "A", "B"]


def test_the_verdict_on_federations_names_the_best_and_who_decided_alike():
    def record(solver, seed, accuracy, seconds, decisions):
        curve = ((1, seconds, accuracy),)
        return EndToEnd(solver, "", seed, 1, seconds, accuracy, 0.1, 0.1, decisions, curve, "", "")

    records = [
        record("a", 0, 0.6, 1.0, "x"), record("b", 0, 0.6, 1.0, "x"), record("c", 0, 0.9, 2.0, "y"),
        record("a", 1, 0.7, 1.5, "x"), record("b", 1, 0.7, 1.5, "x"), record("c", 1, 0.6, 3.0, "y"),
    ]  # fmt: skip
    assert federation_verdict(records) == [
        "c had the highest deployed accuracy: 0.750, with 2.5 s a round.",
        "a, b had the shortest rounds: 1.25 s, with an accuracy of 0.650.",
        "Told every client the same in every round and seed: a, b.",
    ]
    assert federation_verdict([EndToEnd.failed("a", "", 0, "no", "")]) == [
        "No federation could be trained."
    ]
