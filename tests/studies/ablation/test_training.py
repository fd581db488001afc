"""Federations that solvers decide in: paired, resumed, honest about failures, without a clock."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import Dual, Exact, Milp, Uniform, solve
from fedhq.allocator.instances import FAMILIES
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.recorder import read_clients, read_rounds, read_walls
from fedhq.studies.ablation import training
from fedhq.studies.ablation.contestants import NAMES, contestant
from fedhq.studies.ablation.deciders import decider, stopped_by_work
from fedhq.studies.ablation.end_to_end import EndToEndSettings, read_end_to_end
from fedhq.studies.ablation.federations import federation_table
from fedhq.studies.ablation.ledger import Ledger
from fedhq.studies.ablation.training import RUNS_FOLDER, Federations
from fedhq.studies.arms import make_allocator
from fedhq.studies.config import parse_run
from fedhq.studies.provenance import Provenance
from fedhq.studies.tables import read_table

SOLVERS = ("exact", "uniform-qat", "sweep")
SHIPPED = Path(training.__file__).with_name("digits.toml")
INSTALLED = [name for name in NAMES if decider(name).solver is not None]
HERE = Provenance.here(["torch"])


@pytest.fixture
def settings(config) -> EndToEndSettings:
    config.write_text(config.read_text("utf-8") + "[allocation]\ntradeoff = 0.5\n", "utf-8")
    return EndToEndSettings(SOLVERS, str(config), seeds=(0, 1), rounds=2)


def stamps(folder):
    """When the records of every run that got anywhere were written last."""
    files = (p for p in (folder / RUNS_FOLDER).rglob("rounds.jsonl") if p.stat().st_size)
    return {p: p.stat().st_mtime_ns for p in files}


@pytest.mark.slow
@pytest.mark.long
def test_solvers_decide_in_federations_that_are_resumed(settings, tmp_path):
    told = []
    federations = Federations.of(settings)
    with Ledger(tmp_path / "study") as ledger:
        records = federations.run(ledger, told.append)
        folder, provenance = ledger.folder, dict(ledger.provenance)
    assert [(r.solver, r.seed) for r in records] == [(s, k) for s in SOLVERS for k in (0, 1)]
    assert (told[-1].runs_done, told[-1].runs_total) == (6, 6)
    assert read_end_to_end(folder) == records

    by_solver = {name: [r for r in records if r.solver == name] for name in SOLVERS}
    for record in records[:4]:
        job = federations.jobs(decider(record.solver), HERE)[record.seed]
        run = folder / RUNS_FOLDER / record.run
        rounds = read_rounds(run)
        assert record.curve == tuple(
            (r.round, r.simulated_seconds, r.deployed_accuracy) for r in rounds
        )
        assert record.round_seconds == rounds[-1].simulated_seconds / 2
        walls = read_walls(run)
        assert record.plan_seconds == pytest.approx(np.mean([w.plan_seconds for w in walls]))
        assert record.settings == decider(record.solver).settings
        assert record.solver_version == contestant(record.solver, 1.0).version
        (trained_by,) = {r.provenance for r in records}
        assert provenance[trained_by].versions["torch"] == HERE.versions["torch"]
        assert provenance[trained_by].commit == HERE.commit
        clients = read_clients(run)
        allocator = make_allocator(job.config, Federation.build(job.config.federation), job.solver)
        planned = [str(s) for s in map(allocator.plan(1).strategy, range(4))]
        assert [c.strategy for c in clients if c.round == 1] == planned
    assert all(r.round_seconds >= e.round_seconds for r, e in zip(
        by_solver["uniform-qat"], by_solver["exact"], strict=True))  # fmt: skip

    for record in by_solver["sweep"]:  # it cannot express coverage: told, and nobody else is lost
        assert record.rounds == 0
        assert "Sweep cannot handle `coverage`" in record.message
        assert record.curve == ()
    assert federation_table(records)[1][2][:2] == ["sweep", "failed"]

    before = stamps(folder)
    assert len(before) == 4
    with Ledger(folder) as ledger:
        again = federations.run(ledger)
        assert again == records  # among them wall times: nothing was trained again
        assert stamps(folder) == before
        longer = replace(settings, solvers=("uniform-qat",), rounds=3)
        more = Federations.of(longer).run(ledger)
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
    federations = Federations.of(replace(settings, seeds=(0,)))
    exact = replace(decider("exact"), name="hi:ghs", version="highspy 1")

    def arm(one=exact, here=HERE, of=federations):
        (job,) = of.jobs(one, here)
        assert job.scenario == "hi-ghs"
        return job.arm

    assert arm() == arm(here=replace(HERE, commit="another", started="later"))
    others = {
        arm(replace(exact, solver=Exact(gap=0.1))),
        arm(replace(exact, version="highspy 2")),
        arm(here=replace(HERE, fedhq="0.0.1")),
        arm(here=replace(HERE, versions=HERE.versions | {"torch": "0"})),
        arm(of=Federations.of(replace(settings, seeds=(0,), rounds=3))),
    }
    assert len(others | {arm()}) == 6


def test_a_solver_that_is_not_installed_trains_nothing_and_says_so(settings, monkeypatch, tmp_path):
    lacking = [name for name in NAMES if contestant(name, 1.0).missing]
    assert lacking, "some of the commercial backends are missing everywhere"
    monkeypatch.setattr("fedhq.studies.compare.run_jobs", None)  # is not called
    with Ledger(tmp_path / "study") as ledger:
        records = Federations.of(replace(settings, solvers=tuple(lacking[:1]))).run(ledger)
    assert [r.message for r in records] == [contestant(lacking[0], 1.0).missing] * 2
    assert not (tmp_path / "study" / RUNS_FOLDER).exists()


def test_a_configuration_without_a_goal_is_an_error(config):
    settings = EndToEndSettings(("exact",), str(config))
    with pytest.raises(ValueError, match=r"neither tradeoff nor deadline_seconds nor max_loss"):
        Federations.of(settings)


def test_faults_of_the_configuration_name_it(config):
    config.write_text("menu = 3\n", "utf-8")
    with pytest.raises(ValueError, match=r"(?s)end_to_end.config = .*tiny.toml.*menu = 3"):
        Federations.of(EndToEndSettings(("exact",), str(config)))
    with pytest.raises(ValueError, match=r"end_to_end.config = 'none.toml': cannot read none.toml"):
        Federations.of(EndToEndSettings(("exact",), "none.toml"))


@pytest.mark.parametrize("name", INSTALLED)
def test_in_a_federation_no_solver_looks_at_the_clock(name):
    solver = decider(name).solver
    settings = {f.name: getattr(solver, f.name) for f in fields(solver)}
    assert settings.get("time_limit_seconds") is None
    for limit in ("node_limit", "effort", "deterministic"):  # whoever has one is given it
        assert settings.get(limit, 1)


def test_only_limits_are_changed():
    assert stopped_by_work(Exact(gap=0.25, time_limit_seconds=3.0)).gap == 0.25
    assert stopped_by_work(Dual()) == Dual()


def test_a_solver_that_is_no_dataclass_is_left_as_it_is():
    def own(problem):
        return Dual()(problem)

    assert stopped_by_work(own) is own


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "highs", "scipy", "pulp", "cp-sat", "policy-search"])
def test_stopped_by_work_a_solver_ends_and_decides_the_same_twice(name):
    problem = FAMILIES["federated"](0, 30)
    one = decider(name)
    if one.solver is None:
        pytest.skip(one.missing)
    choices = [solve(problem, one.solver).allocation.choice.tolist() for _ in range(2)]
    assert choices[0] == choices[1]
