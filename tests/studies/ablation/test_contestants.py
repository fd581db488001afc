"""Who takes part: names, limits, versions, and rules that find their strategies in any menu."""

import pickle
from importlib import metadata

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Coverage, Exhaustive, Random, Status, Uniform
from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.solvers.cvx_backends import BACKENDS
from fedhq.studies.ablation import contestants, menu_rules
from fedhq.studies.ablation.contestants import NAMES, contestant, with_backends
from fedhq.studies.ablation.kinds import Kind

SELF_ENDING = {"sweep", "dual", "coarse", "hardware-only", "data-only", "random"}


@pytest.mark.parametrize("name", NAMES)
def test_everyone_is_told_its_limit_and_can_travel_to_another_process(name) -> None:
    one = contestant(name, 1.25)
    if one.solver is None:
        assert "is not installed" in one.missing
        assert (one.version, one.settings) == ("", "")
        return
    stops_by_itself = name in SELF_ENDING or name.startswith("uniform")
    assert ("time_limit_seconds=1.25" in one.settings) is not stops_by_itself
    assert one.settings == repr(pickle.loads(pickle.dumps(one.solver)))
    for told in one.version.split(", "):
        package, version = told.split(" ")
        assert metadata.version(package) == version


def test_kinds_are_told_whether_installed_or_not(monkeypatch) -> None:
    found = {name: contestant(name, 1.0).kind for name in NAMES}
    assert {n for n, kind in found.items() if kind is Kind.OURS} == {"sweep", "dual", "exact"}
    assert {n for n, kind in found.items() if kind is Kind.MODELLER} == {
        name for name in NAMES if name.startswith("cvxpy:")
    }
    assert found["cp-sat"] is Kind.LIBRARY
    monkeypatch.setattr(contestants, "_version", lambda module: None)
    assert {name: contestant(name, 1.0).kind for name in NAMES} == found


def test_an_optimum_of_cbc_is_no_proof_behind_pulp_as_behind_cvxpy() -> None:
    for seed in range(3):
        problem = FAMILIES["federated"](seed, 6)
        best = Exhaustive()(problem)
        for name in ("pulp", "cvxpy:CBC"):
            one = contestant(name, 20.0)
            if one.solver is None:
                pytest.skip(one.missing)
            answer = one.solver(problem)
            assert problem.objective(answer.choice) == pytest.approx(best.bound)
            assert (answer.status, answer.bound) == (Status.FEASIBLE, -np.inf)
            assert "no bound that proves it" in answer.message


def test_every_backend_of_cvxpy_can_take_part() -> None:
    assert {n.removeprefix("cvxpy:") for n in NAMES if n.startswith("cvxpy:")} == set(BACKENDS)


def test_the_star_stands_for_installed_backends_that_are_not_named() -> None:
    import cvxpy

    installed = set(cvxpy.reductions.solvers.defines.INSTALLED_MI_SOLVERS) & set(BACKENDS)
    found = with_backends(("exact", "cvxpy:*", "cvxpy:SCIPY", "dual"))
    assert found[0] == "exact"
    assert found[-2:] == ("cvxpy:SCIPY", "dual")
    assert set(found[1:-2]) == {f"cvxpy:{name}" for name in installed - {"SCIPY"}}
    assert with_backends(("exact",)) == ("exact",)


def test_a_library_that_is_not_there_is_missing_with_a_mend(monkeypatch) -> None:
    monkeypatch.setattr(contestants, "_packages", dict)
    contestants._version.cache_clear()
    try:
        assert contestant("cp-sat", 1.0).missing == (
            "ortools is not installed; run: pip install 'fedhq[solvers]'."
        )
        assert contestant("cvxpy:SCIP", 1.0).missing.startswith("cvxpy, pyscipopt is not installed")
        assert contestant("dual", 1.0).version == f"fedhq {metadata.version('fedhq')}"
        assert with_backends(("cvxpy:*",)) == ()
    finally:
        contestants._version.cache_clear()


def menu_problem(*menu: str, teaches=None) -> AllocationProblem:
    shape = (4, len(menu))
    seconds = np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape)
    seconds[:, [name == "skip" for name in menu]] = 0
    labels = np.ones((4, 2))
    term = None if teaches is None else Coverage(labels, teaches, ((0, 0.4), (1, 0)))
    return AllocationProblem(menu, seconds, np.zeros(shape), 1.0, coverage=term)


def test_rules_take_qat_that_teaches_most_and_ptq_of_its_bits() -> None:
    menu = ("skip", "fp32", "ptq-w8a8", "ptq-w4a4", "qat-w8a8", "qat-w4a4")
    problem = menu_problem(*menu, teaches=(0, 0, 0, 0, 0.5, 1))
    assert menu_rules.UNIFORM_QAT(problem).choice.tolist() == [5] * 4
    assert menu_rules.UNIFORM_PTQ(problem).choice.tolist() == [3] * 4
    same = Random("qat-w4a4", "ptq-w4a4", 0.5, 0)(problem).choice
    assert menu_rules.RANDOM(problem).choice.tolist() == same.tolist()
    # Without coverage nothing is known of what teaches: the first QAT.
    bare = menu_problem(*menu)
    expected = Uniform("qat-w8a8")(bare).choice
    assert menu_rules.UNIFORM_QAT(bare).choice.tolist() == expected.tolist()


def test_without_ptq_of_the_bits_another_ptq_or_fp32_is_the_cheaper_one() -> None:
    assert menu_rules.UNIFORM_PTQ(menu_problem("fp32", "ptq-w8a8", "qat-w4a4")).choice[0] == 1
    assert menu_rules.UNIFORM_PTQ(menu_problem("qat-w4a4", "fp32")).choice[0] == 1


@pytest.mark.parametrize("menu", [("skip", "ptq-w2a2"), ("skip", "qat-w2a2")])
def test_a_menu_with_nothing_to_decide_between_is_refused(menu) -> None:
    with pytest.raises(ValueError, match="`strategies` must hold QAT, and PTQ or fp32"):
        menu_rules.HARDWARE_ONLY(menu_problem(*menu))


def test_every_rule_answers_every_family() -> None:
    for family, make in FAMILIES.items():
        problem = make(0, 6)
        for rule in (menu_rules.UNIFORM_QAT, menu_rules.HARDWARE_ONLY, menu_rules.RANDOM):
            assert len(rule(problem).choice) == 6, family
