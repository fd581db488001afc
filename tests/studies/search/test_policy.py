"""Policies against the solvers themselves: what is computed once must answer as they do."""

import json
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from search_tables import PICK_LOSS, device, modelled, of_table, tiny, write_table

import fedhq.studies.search.trials.known as known
from fedhq.allocator import (
    Exact,
    FastestWithin,
    FrontierPick,
    Milp,
    Status,
    Uniform,
    pareto_frontier,
    solve,
)
from fedhq.allocator.instances.families import FAMILIES, SEPARABLE_FAMILIES
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.trials.objective import Objective
from fedhq.studies.search.trials.policy import Policies

KNOBS = {
    "pick_loss": PICK_LOSS,
    "tradeoff": {"low": 0.5, "high": 500.0, "log": True},
    "deadline_seconds": {"low": 0.5, "high": 30.0},
    "max_loss": {"low": 0.01, "high": 0.6},
    "solver": {"choices": ["fedhq", "dual", "exact"]},
}


def policies_of(tmp_path, problem, space=KNOBS, allocation=None, **search) -> Policies:
    path = write_table(tmp_path / "fleet.json", problem)
    return Policies(parse_search(of_table(path, space, allocation, **search)))


def policy(**values) -> dict:
    return {f"allocation.{key}": value for key, value in values.items()}


@pytest.fixture(params=[FAMILIES, SEPARABLE_FAMILIES], ids=["coupled", "separable"])
def problem(request):
    return request.param["federated"](3, 8)


def test_fedhqs_policies_pick_what_frontier_pick_picks(tmp_path, problem) -> None:
    policies = policies_of(tmp_path, problem)
    for deadline, loss in ((None, 0.001), (None, 0.05), (9.0, 0.02), (6.0, 0.3)):
        params = policy(solver="fedhq", pick_loss=loss)
        if deadline is not None:
            params |= policy(deadline_seconds=deadline)
        whole = replace(problem, deadline_seconds=deadline)
        expected = solve(whole, FrontierPick(FastestWithin(loss))).allocation
        plan = policies.plan(params)
        assert plan.measures["round_seconds"] == pytest.approx(expected.round_seconds)
        assert plan.measures["accuracy_loss"] == pytest.approx(expected.loss, abs=1e-5)


@pytest.mark.parametrize("solver", ["dual", "exact"])
def test_goals_are_reached_as_exact_reaches_them_and_bounds_are_true(
    tmp_path, problem, solver
) -> None:
    policies = policies_of(tmp_path, problem)
    for goal in (
        {"tradeoff": 3.0},
        {"tradeoff": 80.0},
        {"tradeoff": 80.0, "deadline_seconds": 7.0},
        {"tradeoff": 3.0, "max_loss": 0.2},
    ):
        whole = replace(problem, **goal)
        best = solve(whole, Milp()).allocation.objective
        plan = policies.plan(policy(solver=solver, **goal))
        found = plan.solution.allocation.objective
        assert plan.problem.objective(plan.solution.allocation.choice) == found
        assert found == pytest.approx(best, rel=1e-4)
        assert plan.solution.bound <= best * (1 + 1e-6)
        assert plan.solution.gap < 1e-3


def test_goals_without_a_tradeoff_are_reached_too(tmp_path, problem) -> None:
    free = replace(problem, tradeoff=None)
    for goal in ({"deadline_seconds": 7.0}, {"deadline_seconds": 12.0}, {"max_loss": 0.2}):
        best = solve(replace(free, **goal), Exact()).allocation.objective
        space = {key: KNOBS[key] for key in goal} | {"solver": {"choices": ["dual"]}}
        plan = policies_of(tmp_path, free, space).plan(policy(solver="dual", **goal))
        assert plan.solution.allocation.objective == pytest.approx(best, rel=1e-4)
        assert plan.solution.bound <= best * (1 + 1e-6)


def test_what_one_sort_finds_is_proven(tmp_path) -> None:
    problem = SEPARABLE_FAMILIES["federated"](0, 30)
    plan = policies_of(tmp_path, problem).plan(policy(solver="exact", tradeoff=20.0))
    assert plan.solution.status is Status.OPTIMAL
    assert plan.solution.gap < 1e-12


def test_a_frontier_is_computed_once_for_all_policies_that_pick_from_it(
    tmp_path, problem, monkeypatch
) -> None:
    calls = []
    find = known.find_frontier
    monkeypatch.setattr(known, "find_frontier", lambda p: calls.append(p) or find(p))
    policies = policies_of(tmp_path, problem)
    policies.frontier()
    for k in range(1, 9):
        policies.plan(policy(solver="fedhq", pick_loss=0.03 * k))
        policies.plan(policy(solver="dual", tradeoff=9.0 * k, deadline_seconds=20.0 - k))
    assert len(calls) == 1


def test_processes_find_each_others_frontiers_in_the_searchs_folder(tmp_path, monkeypatch) -> None:
    calls = []
    find = known.find_frontier
    monkeypatch.setattr(known, "find_frontier", lambda p: calls.append(p) or find(p))
    problem = FAMILIES["federated"](3, 8)
    config = policies_of(tmp_path, problem).config
    folder = tmp_path / "out"

    def asked() -> tuple[list, list]:
        policies = Policies(config, folder)  # as another process makes it
        frontier = policies.frontier(policy(deadline_seconds=12.0))
        points = [frontier.round_seconds.tolist(), frontier.loss.tolist(), frontier.gap]
        return points, [policies.plan(policy(pick_loss=0.03 * k)).choice for k in range(1, 9)]

    first = asked()
    assert asked() == first
    assert len(calls) == 1
    (file,) = (folder / "frontiers").iterdir()
    for damaged in (b"", b"PK\x03\x04", file.read_bytes()[:-40]):
        file.write_bytes(damaged)
        assert asked() == first
    assert len(calls) == 4
    other = replace(problem, seconds=problem.seconds * 1.01)
    config = policies_of(tmp_path, other).config
    assert asked()[0][0] != first[0][0]
    assert len(list((folder / "frontiers").iterdir())) == 2


def test_no_frontier_is_kept_of_budgets_that_every_trial_changes_nor_of_one_sort(tmp_path) -> None:
    problem = FAMILIES["federated"](3, 6)
    limit = problem.budgets[0].limit
    space = KNOBS | {"uplink_bytes": {"low": limit / 2, "high": limit}}
    sorted_ = SEPARABLE_FAMILIES["federated"](3, 6)
    for config in (
        policies_of(tmp_path, problem, space).config,
        policies_of(tmp_path, sorted_).config,
    ):
        assert Policies(config, tmp_path / "out").frontier() is not None
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path) -> None:
    (tmp_path / "out").write_text("a file", "utf-8")
    config = policies_of(tmp_path, FAMILIES["federated"](3, 6)).config
    here, there = Policies(config), Policies(config, tmp_path / "out")
    assert here.plan({}).choice == there.plan({}).choice


@pytest.mark.parametrize("limits", [{"deadline_seconds": 9.0}, {"max_loss": 0.3}])
def test_a_frontier_within_limits_is_that_of_the_limited_problem(tmp_path, problem, limits) -> None:
    found = policies_of(tmp_path, problem).frontier(policy(**limits))
    expected = pareto_frontier(replace(problem, tradeoff=None, **limits))
    assert found.round_seconds == pytest.approx(expected.round_seconds)
    assert found.loss == pytest.approx(expected.loss, abs=1e-9)
    assert found.allocation(0).loss == pytest.approx(found.loss[0])


@pytest.mark.parametrize("solver", ["fedhq", "dual"])
def test_of_a_large_fleet_a_frontier_is_computed_only_where_the_solver_needs_it(
    tmp_path, monkeypatch, solver
) -> None:
    monkeypatch.setattr("fedhq.studies.search.trials.policy._MOST_CLIENTS", 5)
    policies = policies_of(tmp_path, FAMILIES["federated"](3, 6))
    found = policies.frontier(policy(solver=solver))
    assert (found is None) == (solver == "dual")


def test_a_budget_of_the_policy_takes_the_place_of_the_tables_own(tmp_path) -> None:
    problem = FAMILIES["federated"](3, 8)
    uplink = problem.budgets[0]
    tight = uplink.limit / 2
    space = KNOBS | {"uplink_bytes": {"low": tight, "high": uplink.limit}}
    policies = policies_of(tmp_path, problem, space)
    share = {"min_participation": 0.0}
    plan = policies.plan(policy(solver="dual", tradeoff=30.0, uplink_bytes=tight, **share))
    assert plan.measures["uplink_bytes"] <= tight
    budgets = (replace(uplink, limit=tight), problem.budgets[1])
    own = replace(problem, budgets=budgets, min_participation=0.0)
    best = solve(own, Milp()).allocation.objective
    assert plan.solution.allocation.objective == pytest.approx(best, rel=1e-2)
    assert plan.solution.bound <= best * (1 + 1e-6)


def test_a_policy_that_leaves_nothing_says_why_and_by_how_much(tmp_path, problem) -> None:
    policies = policies_of(tmp_path, problem)
    fastest = policies.frontier().round_seconds[0]
    excesses = []
    for share in (0.25, 0.5, 0.75):
        plan = policies.plan(policy(solver="fedhq", deadline_seconds=share * fastest))
        assert not plan.solution.status.has_allocation
        excesses.append(plan.excess)
    assert excesses == pytest.approx([3.0, 1.0, 1 / 3])
    assert f"rounds take {fastest:.6g} s or more" in plan.solution.message
    assert policies.plan(policy(deadline_seconds=1.01 * fastest)).excess == 0.0


def test_a_rule_that_breaks_a_limit_leaves_nothing_either(tmp_path) -> None:
    problem = replace(SEPARABLE_FAMILIES["federated"](0, 6), deadline_seconds=0.1)
    plan = policies_of(tmp_path, problem).plan({"arm": "qat-w2a2"})
    assert plan.solution.status is Status.UNKNOWN
    assert "exceeds the deadline" in plan.solution.message
    assert plan.excess == 1.0


def test_an_arm_is_everybodys_strategy_where_it_is_allowed(tmp_path) -> None:
    problem = SEPARABLE_FAMILIES["federated"](0, 40)
    plan = policies_of(tmp_path, problem).plan({"arm": "qat-w2a2"})
    expected = solve(problem, Uniform("qat-w2a2")).allocation
    assert plan.choice == "".join(map(str, expected.choice))
    assert plan.choice.count("2") < 40  # some lack the memory


def test_categories_of_clients_are_what_they_do(tmp_path) -> None:
    problem = SEPARABLE_FAMILIES["federated"](0, 4)
    path = write_table(tmp_path / "fleet.json", problem)
    table = of_table(path, {})
    table["search"]["space"] = {"clients": {"choices": ["skip", "ptq-w2a2"]}}
    policies = Policies(parse_search(table))
    plan = policies.plan({f"clients.{i}": s for i, s in enumerate(["skip", "ptq-w2a2"] * 2)})
    assert plan.choice == "0101"
    assert plan.measures["round_seconds"] == problem.seconds[[1, 3], 1].max()


def test_a_federation_is_planned_as_a_run_plans_it() -> None:
    from fedhq.fl_core.federation import Federation
    from fedhq.studies.arms import make_allocator

    table = modelled(space={"allocation.pick_loss": PICK_LOSS, "wire_bits": {"choices": [3, 8]}})
    policies = Policies(parse_search(table))
    for params, seed in (({"wire_bits": 3, **policy(pick_loss=0.02)}, 0), ({"wire_bits": 8}, 5)):
        config = policies.config.with_values(params)
        config = replace(config, federation=replace(config.federation, seed=seed))
        federation = Federation.build(config.federation)
        allocation = make_allocator(config, federation).plan(1)
        plan = policies.plan(params, seed)
        assert plan.choice == "".join(map(str, allocation.choice))
        assert plan.menu == tuple(map(str, federation.menu))
        sent = federation.hardware.uplink_bytes[np.arange(20), allocation.choice].sum()
        assert plan.measures["uplink_bytes"] == sent


def test_of_a_cohort_the_first_rounds_is_planned(tmp_path) -> None:
    from fedhq.fl_core.records.recorder import read_clients
    from fedhq.studies.arms import make_trainer

    table = tiny() | {"participation": {"cohort": 2, "over_selection": 1.5}}
    table["training"] = {"rounds": 1}
    policies = Policies(parse_search(table))
    plan = policies.plan({}, 4)
    config = policies.config.with_values({})
    config = replace(config, federation=replace(config.federation, seed=4))
    make_trainer(config, tmp_path).run()
    asked = sorted(read_clients(tmp_path), key=lambda c: c.client)
    assert [str(c.client) for c in asked] == list(plan.problem.clients)
    assert [c.strategy for c in asked] == [plan.menu[int(d)] for d in plan.choice]
    assert policies.num_clients == 4


def test_digests_tell_configurations_apart_and_not_seeds() -> None:
    solvers = {"choices": ["fedhq", "uniform"]}
    table = modelled(space={"allocation.pick_loss": PICK_LOSS, "allocation.solver": solvers})
    policies = Policies(parse_search(table))
    digests = [policies.digest(policy(pick_loss=p)) for p in (0.1, 0.2, 0.1)]
    assert digests[0] == digests[2] != digests[1]
    assert policies.digest({"arm": "qat-w2a2"}) == policies.digest(policy(solver="uniform"))


@pytest.mark.parametrize("place", ["objectives", "limits"])
def test_energy_must_be_known_to_be_searched(place) -> None:
    wanted = {"objectives": ["energy_joules"]} if place == "objectives" else {
        "limits": {"energy_joules": 5.0}
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"search.{place}: energy_joules is not known"):
        Policies(parse_search(modelled(**wanted)))
    known_table = modelled(**wanted)
    watts = [device(n, s, 1e6) | {"active_watts": 5.0} for n, s in (("a", 1), ("b", 3))]
    known_table["fleet"] = {"classes": watts}
    assert Policies(parse_search(known_table)).plan({}).measures["energy_joules"] > 0


def test_an_unknown_resource_cannot_be_limited() -> None:
    table = modelled(space={"allocation.energy_joules": {"low": 1.0, "high": 2.0}})
    with pytest.raises(ValueError, match=r"allocation\.energy_joules: the energy_joules of"):
        Policies(parse_search(table)).plan(policy(energy_joules=1.5))


def test_the_frontier_is_none_where_no_allocation_keeps_the_limits(tmp_path) -> None:
    problem = replace(SEPARABLE_FAMILIES["federated"](0, 6), deadline_seconds=1e-3)
    assert policies_of(tmp_path, problem).frontier() is None


def test_a_table_with_groups_is_planned_by_groups(tmp_path) -> None:
    problem = SEPARABLE_FAMILIES["federated"](2, 6)
    path = write_table(tmp_path / "fleet.json", problem)
    content = json.loads(path.read_text("utf-8"))
    content["groups"] = ["a", "a", "b", "b", None, None]
    path.write_text(json.dumps(content), "utf-8")
    policies = Policies(parse_search(of_table(path, KNOBS)))
    grouped = replace(problem, groups=("a", "a", "b", "b", None, None), tradeoff=25.0)
    best = solve(grouped, Milp()).allocation.objective
    plan = policies.plan(policy(solver="dual", tradeoff=25.0))
    assert plan.solution.allocation.objective == pytest.approx(best)
    assert plan.choice[0] == plan.choice[1]
    assert len(policies.frontier().allocation(0).choice) == 6


@pytest.mark.parametrize(
    ("space", "part"),
    [
        ({"bits": {"choices": [2, 5]}}, "search.space.bits: of 5, the profile of"),
        ({"bits": {"low": 2, "high": 5}}, "search.space.bits: of 5, the profile of"),
        ({"training.batch_size": {"choices": [32, 16]}}, "training.batch_size: of 16, `profile`"),
        ({"menu": {"choices": [["ptq-w2a2"], ["ptq-w2a2", "qat-w7a7"]]}}, "search.space.menu: of"),
    ],
)
def test_a_strategy_that_was_never_measured_is_told_before_the_first_trial(space, part) -> None:
    with pytest.raises(ValueError, match=r"Measure it with|Run `fedhq profile") as told:
        Policies(parse_search(tiny(space=space)))
    assert part in str(told.value)


def test_a_search_can_be_sent_to_another_process(tmp_path) -> None:
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](3, 5))
    for table in (tiny(), of_table(path, {"pick_loss": PICK_LOSS})):
        config = parse_search(table)
        received = ForkingPickler.loads(ForkingPickler.dumps(Objective(config, tmp_path)))
        assert received.policies.plan({}).choice == Policies(config).plan({}).choice
