"""`HybridAllocator`: what it asks of the solver, what it keeps, and what it refuses."""

import json
import re

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    DeviceProfile,
    FittedLoss,
    Goal,
    HybridAllocator,
    InfeasibleError,
    Milp,
    Outcome,
    SolverError,
    Status,
    StepProfile,
    Strategy,
    Sweep,
    Uniform,
    analyse_hardware,
    parse_menu,
)

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
COUNTS = np.array([[8, 0], [4, 4], [0, 12], [2, 2]])
FITTED = FittedLoss(((0.0, 0.4), (0.5, 0.0)), 0.3, 0.0, 0.01, "by hand")


def make(solver, menu=MENU, deployed="qat-w2a2", **changes) -> HybridAllocator:
    profile = StepProfile("toy", 1, MENU, np.array([0, 0.1, 0.2]), np.zeros(3), "by hand")
    devices = [DeviceProfile("d", slowdown, 1e6, 1e6) for slowdown in (1, 2, 4, 8)]
    hardware = analyse_hardware(devices, COUNTS.sum(axis=1), profile, [0, 1e3, 1e3], 1e4)
    settings = {"num_examples": COUNTS.sum(axis=1), "label_counts": COUNTS, "fitted": FITTED}
    return HybridAllocator(menu, hardware, deployed, solver, **{**settings, **changes})


class Recording:
    """A solver that keeps the problems it was given."""

    def __init__(self) -> None:
        self.problems: list[AllocationProblem] = []

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        self.problems.append(problem)
        return Answer(Status.FEASIBLE, np.full(problem.num_clients, 2))


def test_the_problem_of_a_cohort_holds_its_rows_and_the_fleets_population() -> None:
    allocator = make(Recording(), goal=Goal(uplink_bytes=5e3, min_participation=0.5))
    problem = allocator.problem([3, 1])
    assert problem.clients == ("3", "1")
    assert problem.seconds.tolist() == allocator.hardware.seconds[[3, 1]].tolist()
    assert problem.coverage.label_counts.tolist() == COUNTS[[3, 1]].tolist()
    assert problem.coverage.population.tolist() == COUNTS.sum(axis=0).tolist()
    assert problem.coverage.teaches.tolist() == [0, 0, 1]
    assert problem.budgets[0].resource == "uplink_bytes"
    assert problem.min_participation == 0.5
    assert problem.loss[:, 0].tolist() == pytest.approx([0.3 * 4 / 12, 0.3 * 8 / 12])


def test_plan_is_optimal_for_the_goal() -> None:
    allocator = make(Milp(), goal=Goal(tradeoff=20.0))
    planned = allocator.plan(1)
    problem = allocator.problem()
    every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    values = [problem.objective(c) for c in every if problem.participates[c].any()]
    assert planned.objective == pytest.approx(min(values))


def test_an_unchanged_problem_is_solved_once_and_a_changed_one_again() -> None:
    solver = Recording()
    allocator = make(solver, carry=0.5)
    for number in (1, 2):
        allocator.plan(number)
    assert len(solver.problems) == 1
    allocator.plan(3, [0, 1])
    assert len(solver.problems) == 2
    allocator.observe([Outcome(0, MENU[2], 1.0, True)])
    allocator.plan(4, [0, 1])
    assert len(solver.problems) == 3


def test_coverage_of_what_really_arrived_carries_over_and_decays() -> None:
    allocator = make(Recording(), carry=0.5)
    allocator.observe(
        [
            Outcome(0, MENU[2], 1.0, True),
            Outcome(1, MENU[1], 1.0, True),  # ptq teaches nothing
            Outcome(2, MENU[2], 1.0, False),  # lost
        ]
    )
    first = 0.5 * np.array([8 / 14, 0])
    assert allocator.problem().coverage.carried == pytest.approx(first)
    allocator.observe([])
    assert allocator.problem().coverage.carried == pytest.approx(first / 2)


def test_the_state_survives_json_and_a_foreign_state_is_refused() -> None:
    allocator, other = make(Recording(), carry=0.9), make(Recording(), carry=0.9)
    allocator.observe([Outcome(1, MENU[2], 1.0, True)])
    other.load_state_dict(json.loads(json.dumps(allocator.state_dict())))
    mine, theirs = allocator.problem().coverage.carried, other.problem().coverage.carried
    assert mine.tolist() == theirs.tolist()
    with pytest.raises(ValueError, match="carried"):
        other.load_state_dict({"carried": [0.0] * 7})


def test_without_labels_coverage_counts_examples_as_of_one_class() -> None:
    problem = make(Recording(), label_counts=None).problem()
    assert problem.coverage.label_counts.tolist() == [[8], [8], [12], [4]]


def test_limits_that_cannot_be_kept_are_told_with_the_clients() -> None:
    allocator = make(Uniform(Strategy.parse("ptq-w2a2")), goal=Goal(deadline_seconds=1.0))
    with pytest.raises(SolverError, match="deadline"):
        allocator.plan(1)
    strict = make(Milp(), goal=Goal(tradeoff=1.0, max_loss=0.0, uplink_bytes=1.0))
    with pytest.raises(InfeasibleError, match="max_loss"):
        strict.plan(1)


@pytest.mark.parametrize("cohort", [[], [0, 0], [4], [-1]])
def test_impossible_cohorts_are_refused(cohort) -> None:
    with pytest.raises(ValueError, match="`cohort` must name different clients"):
        make(Recording()).plan(1, cohort)


def test_a_solver_that_cannot_take_coverage_is_named() -> None:
    with pytest.raises(ValueError, match=r"Sweep.*coverage"):
        make(Sweep(), goal=Goal(tradeoff=1.0)).plan(1)


@pytest.mark.parametrize("carry", [-0.1, 1.0])
def test_impossible_carry_is_refused(carry) -> None:
    with pytest.raises(ValueError, match="carry"):
        make(Recording(), carry=carry)


def test_a_menu_in_another_order_than_the_tables_is_refused() -> None:
    assert make(Recording()).hardware.strategies == MENU
    with pytest.raises(ValueError, match=r"`menu` must be .*'skip', .* but got \['qat-w2a2', 'ptq"):
        make(Recording(), menu=MENU[::-1])


@pytest.mark.parametrize(
    ("deployed", "words"),
    [
        ("fp32", "`deployed` must be a ptq or qat strategy, but got 'fp32'"),
        ("skip", "`deployed` must be a ptq or qat strategy, but got 'skip'"),
        ("qat-w4a4", "'qat-w2a2'], but got 'qat-w4a4': nothing would teach it"),
        (2, "every strategy must be a Strategy or text, but got 2"),
    ],
)
def test_a_deployment_that_nothing_serves_is_refused(deployed, words) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make(Recording(), deployed=deployed)


def test_a_menu_without_quantized_strategies_may_be_deployed_at_any_bits() -> None:
    menu = parse_menu(["skip", "fp32"])
    profile = StepProfile("toy", 1, menu, np.array([0, 0.1]), np.zeros(2), "by hand")
    hardware = analyse_hardware([DeviceProfile("d", 1, 1e6, 1e6)], [1], profile, [0, 1], 1)
    allocator = HybridAllocator(menu, hardware, "qat-w2a2", Uniform(menu[1]), num_examples=[3])
    assert allocator.plan(1).choice.tolist() == [1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((-1, MENU[2], 1.0), "`client >= 0` must hold"),
        ((0, MENU[2], np.nan), "`seconds` must be finite and >= 0, but got nan"),
        ((4, MENU[2], 1.0), r"`client` must be in 0 \.\.\. 3, but got 4"),
        ((0, Strategy.parse("qat-w4a4"), 1.0), "`strategy` must be in the menu .*'qat-w4a4'"),
    ],
)
def test_impossible_outcomes_are_refused(fields, words) -> None:
    for carry in (0.0, 0.5):
        with pytest.raises(ValueError, match=words):
            make(Recording(), carry=carry).observe([Outcome(*fields, True)])


def test_a_state_without_its_content_is_refused() -> None:
    with pytest.raises(ValueError, match="a state must hold `carried`"):
        make(Recording()).load_state_dict({})


@pytest.mark.parametrize("counts", [[8, 8, 12, 4], COUNTS[:3]])
def test_label_counts_of_another_shape_are_refused(counts) -> None:
    with pytest.raises(ValueError, match="`label_counts` must have"):
        make(Recording(), label_counts=counts)


def test_a_cohort_without_any_example_is_named() -> None:
    allocator = make(Recording(), num_examples=[0, 3, 0, 2])
    assert allocator.problem([0, 1]).num_clients == 2
    with pytest.raises(ValueError, match=r"its clients \[2, 0\] \(2 in all\) hold none"):
        allocator.plan(1, [2, 0])
