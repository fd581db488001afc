"""What regret is measured against: true of the optimum, whatever is recorded of the frontier."""

from dataclasses import replace

import numpy as np
import pytest
from search_tables import PICK_LOSS, modelled, of_table, tiny, write_table

from fedhq.allocator import Dual, Exact, pareto_frontier, solve
from fedhq.allocator.instances.families import FAMILIES
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.hypervolume import corner_of, hypervolumes
from fedhq.studies.search.record import Reference, study_record
from fedhq.studies.search.run import open_search
from fedhq.studies.search.storage.places import close_storage
from fedhq.studies.search.trials.policy import Policies
from fedhq.studies.search.trials.reference import find_reference


def policies_of(tmp_path, problem, **search) -> Policies:
    path = write_table(tmp_path / "fleet.json", problem)
    return Policies(parse_search(of_table(path, {"pick_loss": PICK_LOSS}, **search)))


def reference_of(policies: Policies) -> Reference | None:
    return find_reference(policies, policies.frontier())


@pytest.fixture(scope="module", params=[6, 35], ids=["exact", "dual"])
def fleet(request):
    """A problem and its frontier, whose points `Exact` finds or, of many clients, `Dual`."""
    problem = FAMILIES["federated"](1, request.param)
    return problem, pareto_frontier(replace(problem, tradeoff=None))


@pytest.mark.parametrize(
    "limits", [{}, {"round_seconds": 9.0}, {"accuracy_loss": 0.3}, {"round_seconds": 20.0}]
)
def test_the_optimum_of_a_tradeoff_lies_between_value_and_bound(tmp_path, fleet, limits) -> None:
    problem, frontier = fleet
    for tradeoff in (3.0, 30.0):
        policies = policies_of(tmp_path, problem, tradeoff=tradeoff, limits=limits)
        found = find_reference(policies, frontier)
        whole = replace(
            problem,
            tradeoff=tradeoff,
            deadline_seconds=limits.get("round_seconds"),
            max_loss=limits.get("accuracy_loss"),
        )
        best = solve(whole, Exact()).allocation.objective
        assert found.bound <= best * (1 + 1e-9)
        assert found.value >= best * (1 - 1e-9)
        assert found.value - found.bound <= 1e-4 * best


def test_the_least_of_one_measure_is_the_end_of_the_frontier_within_the_limits(tmp_path) -> None:
    problem = FAMILIES["federated"](1, 8)
    exact = pareto_frontier(replace(problem, tradeoff=None), solver=Exact())
    limit = float(np.median(exact.round_seconds))
    kept = exact.round_seconds <= limit
    for objective, most, expected in (
        ("round_seconds", {}, exact.round_seconds[0]),
        ("accuracy_loss", {}, exact.loss[-1]),
        ("accuracy_loss", {"round_seconds": limit}, exact.loss[kept][-1]),
    ):
        policies = policies_of(tmp_path, problem, objectives=[objective], limits=most)
        found = reference_of(policies)
        assert found.corner is None
        assert found.value == pytest.approx(expected, abs=1e-9)
        assert found.bound == pytest.approx(expected, abs=1e-6)


def test_the_hypervolume_is_that_of_all_points_within_the_limits(tmp_path) -> None:
    problem = FAMILIES["federated"](1, 8)
    exact = pareto_frontier(replace(problem, tradeoff=None), solver=Exact())
    points = np.column_stack([exact.round_seconds, exact.loss])
    limit = float(np.median(points[:, 0]))
    for limits, kept in (({}, points), ({"round_seconds": limit}, points[points[:, 0] <= limit])):
        found = reference_of(policies_of(tmp_path, problem, limits=limits))
        assert found.corner == pytest.approx(corner_of(kept))
        area = hypervolumes(kept, corner_of(kept))[-1]
        assert found.value == pytest.approx(area)
        assert area * (1 - 1e-9) <= found.bound <= area * (1 + 1e-5)


def test_the_bound_of_an_unproven_frontier_holds_the_proven_one(tmp_path) -> None:
    """As of large fleets, whose points `Dual` finds."""
    problem = replace(FAMILIES["federated"](3, 12), tradeoff=None)
    exact, rough = (
        pareto_frontier(problem, solver=Exact()),
        pareto_frontier(problem, 0.01, Dual(0.05)),
    )
    assert rough.gap > 1e-3
    policies = policies_of(tmp_path, problem)
    found = find_reference(policies, rough)
    points = np.column_stack([exact.round_seconds, exact.loss])
    assert found.value <= hypervolumes(points, found.corner)[-1] <= found.bound
    one = policies_of(tmp_path, problem, objectives=["accuracy_loss"])
    found = find_reference(one, rough)
    assert found.bound <= exact.loss[-1] <= found.value


@pytest.mark.parametrize(
    "table",
    [
        tiny(),
        modelled(seeds=[0, 1]),
        modelled(limits={"uplink_bytes": 1e9}),
        modelled(objectives=["uplink_bytes", "accuracy_loss"]),
    ],
    ids=["trains", "seeds", "limits", "objectives"],
)
def test_of_other_measures_there_is_none(table) -> None:
    assert reference_of(Policies(parse_search(table))) is None


def test_limits_that_nothing_keeps_leave_none(tmp_path) -> None:
    problem = FAMILIES["federated"](1, 6)
    for more in ({}, {"tradeoff": 30.0}):
        policies = policies_of(tmp_path, problem, limits={"round_seconds": 1e-6}, **more)
        assert reference_of(policies) is None


def test_a_fleet_too_large_for_a_frontier_has_the_optimum_of_its_tradeoff(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("fedhq.studies.search.trials.policy._MOST_CLIENTS", 5)
    problem = FAMILIES["federated"](1, 6)
    path = write_table(tmp_path / "fleet.json", problem)
    space = {"tradeoff": {"low": 1.0, "high": 99.0}}
    table = of_table(path, space, {"solver": "dual"}, tradeoff=30.0)
    policies = Policies(parse_search(table))
    assert policies.frontier() is None
    best = solve(replace(problem, tradeoff=30.0), Exact()).allocation.objective
    found = reference_of(policies)
    assert found.bound <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= found.value <= best * 1.001


def test_a_study_records_it_of_the_whole_frontier_though_it_keeps_some_points(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("fedhq.studies.search.run.MOST_POINTS", 3)
    problem = FAMILIES["federated"](1, 8)
    policies = policies_of(tmp_path, problem)
    study = open_search(policies.config, tmp_path / "out")
    record = study_record(study.user_attrs)
    close_storage(study._storage)
    assert len(policies.frontier()) > len(record.frontier) == 3
    assert record.reference == find_reference(policies, policies.frontier())
