"""`HybridAllocator`: what it asks of the solver, what it keeps, and what it refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    Count,
    DeviceProfile,
    FastestWithin,
    FittedLoss,
    FrontierPick,
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
    violations,
)
from fedhq.allocator.adjust import quantile_seconds

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
COUNTS = np.array([[8, 0], [4, 4], [0, 12], [2, 2]])
FITTED = FittedLoss(((0.0, 0.4), (0.5, 0.0)), 0.3, 0.0, 0.01, "by hand")


def make(solver, menu=MENU, deployed="qat-w2a2", **changes) -> HybridAllocator:
    profile = StepProfile("toy", 1, MENU, np.array([0, 0.1, 0.2]), np.zeros(3), "by hand")
    devices = [DeviceProfile("d", slowdown, 1e6, 1e6) for slowdown in (1, 2, 4, 8)]
    hardware = analyse_hardware(devices, COUNTS.sum(axis=1), profile, [0, 1e3, 1e3], 1e4)
    settings = {
        "hardware": hardware,
        "num_examples": COUNTS.sum(axis=1),
        "label_counts": COUNTS,
        "fitted": FITTED,
    }
    return HybridAllocator(menu, deployed=deployed, solver=solver, **{**settings, **changes})


def took(allocator: HybridAllocator, allocation, factor=1.0) -> list[Outcome]:
    """What a round brings if everybody takes its table's time, times a factor."""
    seconds = allocator.hardware.seconds[np.arange(4), allocation.choice] * factor
    return [Outcome(i, allocation.strategy(i), float(seconds[i]), True) for i in range(4)]


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


JOULES = np.array([[0, 0.8, 1.6], [0, 1.6, 3.2], [0, 4.8, 9.6], [0, 3.2, 6.4]])  # 1 W each


def with_watts(watts=1.0, **changes) -> HybridAllocator:
    """The fleet of `make`, whose devices take some watts."""
    hardware = make(Recording()).hardware
    table = np.where(JOULES > 0, watts * JOULES, 0.0)
    return make(hardware=replace(hardware, energy_joules=table), **changes)


def test_limited_energy_is_a_budget_of_the_cohorts_joules() -> None:
    limits = Goal(tradeoff=20.0, energy_joules=8.0, uplink_bytes=3e3)
    problem = with_watts(2.0, solver=Recording(), goal=limits).problem([3, 0])
    uplink, energy = problem.budgets
    assert (uplink.resource, energy.resource, energy.limit) == (
        "uplink_bytes",
        "energy_joules",
        8.0,
    )
    assert energy.usage.tolist() == (2.0 * JOULES[[3, 0]]).tolist()


def test_a_plan_within_an_energy_budget_is_the_best_of_all_that_keep_it() -> None:
    allocator = with_watts(solver=Milp(), goal=Goal(tradeoff=20.0, energy_joules=8.0))
    planned, problem = allocator.plan(1), allocator.problem()
    every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    joules = JOULES[np.arange(4), every].sum(axis=1)
    keeps = [c for c, j in zip(every, joules, strict=True) if j <= 8.0 and c.any()]
    assert planned.objective == pytest.approx(min(problem.objective(c) for c in keeps))
    free = with_watts(solver=Milp(), goal=Goal(tradeoff=20.0)).plan(1)
    assert JOULES[np.arange(4), free.choice].sum() > 8.0  # the budget binds
    tight = with_watts(solver=Milp(), goal=Goal(tradeoff=20.0, energy_joules=0.1))
    tight.plan(1)
    assert "energy_joules = 0.1 (now 0.8)" in tight.note


@pytest.mark.parametrize("watts", [np.nan, None])
def test_energy_that_is_not_known_cannot_be_limited(watts) -> None:
    hardware = make(Recording()).hardware
    some = np.where(np.arange(4)[:, None] == 2, np.nan, JOULES)
    hardware = replace(hardware, energy_joules=None if watts is None else some)
    assert make(Recording(), hardware=hardware).problem().budgets == ()
    named = "client 0 \\(4 in all\\)" if watts is None else "client 2 \\(1 in all\\)"
    with pytest.raises(ValueError, match=rf"`energy_joules` of a goal .*{named}.*`active_watts`"):
        make(Recording(), hardware=hardware, goal=Goal(tradeoff=1.0, energy_joules=5.0))


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
    rule, limits = Uniform(Strategy.parse("ptq-w2a2")), Goal(deadline_seconds=1.0)
    with pytest.raises(SolverError, match="deadline"):
        make(rule, goal=limits, strict=True).plan(1)
    strict = make(Milp(), goal=Goal(tradeoff=1.0, max_loss=0.0, uplink_bytes=1.0), strict=True)
    with pytest.raises(InfeasibleError, match="max_loss"):
        strict.plan(1)


@pytest.mark.parametrize("cohort", [[], [0, 0], [4], [-1]])
def test_impossible_cohorts_are_refused(cohort) -> None:
    with pytest.raises(ValueError, match="`cohort` must name different clients"):
        make(Recording()).plan(1, cohort)


@pytest.mark.parametrize("number", [0, -3])
def test_rounds_count_from_one(number) -> None:
    with pytest.raises(
        ValueError, match=rf"`round_number >= 1` must hold, but got {number}.*range"
    ):
        make(Recording()).plan(number)


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
    allocator = make(Recording(), num_examples=[0, 3, 0, 2], strict=True)
    assert allocator.problem([0, 1]).num_clients == 2
    with pytest.raises(ValueError, match=r"its clients \[2, 0\] \(2 in all\) hold none"):
        allocator.plan(1, [2, 0])


# What it learns.


def test_rounds_that_go_as_predicted_leave_the_next_problem_as_it_is() -> None:
    solver = Recording()
    allocator = make(solver)
    for number in range(1, 5):
        allocator.observe(took(allocator, allocator.plan(number)))
    assert len(solver.problems) == 1
    assert allocator.problem().seconds.tobytes() == allocator.hardware.seconds.tobytes()


def test_a_device_that_turns_out_slow_gets_something_faster() -> None:
    allocator = make(Milp(), goal=Goal(tradeoff=20.0))
    first = allocator.plan(1)
    assert str(first.strategy(0)) == "qat-w2a2"
    slow = np.array([20.0, 1.0, 1.0, 1.0])
    for number in range(2, 8):
        allocator.observe(took(allocator, allocator.plan(number), slow))
    assert str(allocator.plan(8).strategy(0)) != "qat-w2a2"
    unlearned = make(Milp(), goal=Goal(tradeoff=20.0), learn=False)
    for number in range(2, 8):
        unlearned.observe(took(unlearned, unlearned.plan(number), slow))
    assert unlearned.plan(8).choice.tolist() == first.choice.tolist()


def test_a_round_that_must_hold_is_planned_with_quantiles() -> None:
    plain, held = make(Recording()), make(Recording(), goal=Goal(holds_with=0.9))
    times = held.time_model.predict()
    wanted = quantile_seconds(times.seconds[[0, 2]], times.log_spread[[0, 2]], 0.9, 2)
    assert held.problem([0, 2]).seconds.tolist() == wanted.tolist()
    assert (held.problem().seconds[:, 1:] > plain.problem().seconds[:, 1:]).all()
    # More clients: each must be surer for the round to hold.
    assert (held.problem().seconds[0, 1:] > held.problem([0]).seconds[0, 1:]).all()
    with pytest.raises(ValueError, match="`0 < holds_with < 1` must hold"):
        Goal(holds_with=1.0)


def test_exploring_makes_what_was_not_tried_lately_look_faster() -> None:
    allocator = make(Recording(), explore=1.0)
    for number in range(1, 8):  # everybody does qat
        allocator.observe(took(allocator, allocator.plan(number)))
    discount = allocator.problem().seconds[:, 1:] / allocator.hardware.seconds[:, 1:]
    assert (discount[:, 0] < discount[:, 1]).all()
    assert (discount < 1).all()
    assert (discount > 0.7).all()
    with pytest.raises(ValueError, match="`explore` must be finite and >= 0"):
        make(Recording(), explore=-1.0)


def test_clients_of_a_class_learn_from_each_other() -> None:
    classes = ["a", "a", "b", "b"]
    allocator = make(Recording(), device_classes=classes)
    for _ in range(5):
        seconds = 3 * allocator.hardware.seconds[0, 2]
        other = allocator.hardware.seconds[2, 2]
        allocator.observe(
            [Outcome(0, MENU[2], float(seconds), True), Outcome(2, MENU[2], float(other), True)]
        )
    ratio = allocator.problem().seconds[:, 2] / allocator.hardware.seconds[:, 2]
    assert ratio[1] == pytest.approx(3, rel=0.15)
    assert ratio[3] == pytest.approx(1, rel=0.15)


# Switching, counts, groups.


def test_changing_what_a_client_did_last_has_a_price() -> None:
    allocator = make(Recording(), goal=Goal(tradeoff=1.0), switching_seconds=7.0)
    assert not allocator.problem().switching_seconds.any()
    allocator.observe([Outcome(0, MENU[2], 1.0, True), Outcome(1, MENU[1], None, False)])
    allocator.observe([Outcome(0, MENU[0], 0.0, True)])  # who skips keeps its last strategy
    table = allocator.problem([1, 0, 3]).switching_seconds
    assert table.tolist() == [[0, 0, 7], [0, 7, 0], [0, 0, 0]]
    for goal in (Goal(deadline_seconds=5.0), Goal(), Goal(max_loss=0.1, deadline_seconds=5.0)):
        without = make(Recording(), goal=goal, switching_seconds=7.0)
        assert without.problem().switching_seconds is None
    assert make(Recording(), goal=Goal(tradeoff=1.0)).problem().switching_seconds is None
    fast = make(Recording(), goal=Goal(max_loss=0.1), switching_seconds=1.0)
    assert fast.problem().switching_seconds is not None


def test_a_dear_switch_keeps_the_plan_and_a_cheap_one_does_not() -> None:
    kept = {}
    for price in (0.01, 100.0):
        allocator = make(Milp(), goal=Goal(tradeoff=20.0), switching_seconds=price)
        free = allocator.plan(1).choice
        allocator.observe([Outcome(0, MENU[3 - free[0]], 1e-9 + 0.8, True)])
        kept[price] = allocator.plan(2).choice[0] == 3 - free[0]
    assert kept == {0.01: False, 100.0: True}


def test_counts_and_groups_reach_the_problem_and_are_kept() -> None:
    groups, counts = ["home", None, "home", "work"], [Count(["qat-w2a2"], at_least=3)]
    allocator = make(Milp(), goal=Goal(tradeoff=0.1, counts=counts), groups=groups)
    assert allocator.problem([2, 3, 0]).groups == ("home", "work", "home")
    allocation = allocator.plan(1)
    assert allocation.counts()[2] >= 3
    assert allocation.choice[0] == allocation.choice[2]
    assert allocator.note == ""
    with pytest.raises(ValueError, match="`groups` must hold 4 names"):
        make(Milp(), groups=["home"])
    with pytest.raises(ValueError, match="`counts` must name strategies of the menu"):
        make(Milp(), goal=Goal(counts=[Count(["fp32"], at_least=1)]))


# It never fails a round.


class Broken:
    """A solver that always gives up, in one of two ways."""

    def __init__(self, raises: bool) -> None:
        self.raises = raises

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        if self.raises:
            raise SolverError("out of order.")
        return Answer(Status.UNKNOWN, message="nothing in time.")


@pytest.mark.parametrize("raises", [True, False])
def test_where_a_solver_gives_up_the_dual_answers_and_says_so(raises) -> None:
    goal = Goal(tradeoff=1.0)
    allocator = make(Broken(raises), goal=goal)
    planned = allocator.plan(1)
    assert planned.objective == make(Milp(), goal=goal).plan(1).objective
    assert re.search(r"(out of order|nothing in time).*Answered by Dual", allocator.note)


@pytest.mark.parametrize("raises", [True, False])
def test_without_an_answer_everybody_does_its_fastest(raises) -> None:
    allocator = make(Broken(raises))  # without a goal no other solver can answer
    assert allocator.plan(1).choice.tolist() == [1, 1, 1, 1]
    assert re.search("fastest allowed strategy.*(out of order|nothing in time)", allocator.note)
    with pytest.raises(SolverError):
        make(Broken(raises), goal=Goal(tradeoff=1.0), strict=True).plan(1)


def test_who_must_take_part_but_may_not_skips_in_the_end() -> None:
    hardware = make(Milp()).hardware
    allowed = hardware.allowed.copy()
    allowed[2, 1:] = False
    blocked = HybridAllocator(
        MENU,
        replace(hardware, allowed=allowed),
        "qat-w2a2",
        Broken(True),
        num_examples=[1, 1, 1, 1],
        groups=["g", "g", None, None],
    )
    assert blocked.plan(1).choice.tolist() == [1, 1, 0, 1]
    nobody = HybridAllocator(
        MENU,
        hardware=replace(hardware, allowed=np.tile([True, False, False], (4, 1))),
        deployed="qat-w2a2",
        solver=Milp(),
        goal=Goal(tradeoff=1.0),
        num_examples=[1] * 4,
    )
    assert nobody.plan(1).choice.tolist() == [0, 0, 0, 0]
    assert "every client skips" in nobody.note
    with pytest.raises(ValueError, match="nothing is allowed"):
        HybridAllocator(
            MENU,
            replace(hardware, allowed=np.zeros((4, 3), dtype=bool)),
            "qat-w2a2",
            Milp(),
            num_examples=[1] * 4,
        )


LIMITS = {
    "deadline below all": (Goal(tradeoff=1.0, deadline_seconds=1e-6), ["deadline_seconds"]),
    "deadline against participation": (
        Goal(tradeoff=1.0, deadline_seconds=0.9, min_participation=1.0),
        ["deadline_seconds"],
    ),
    "no bytes at all": (Goal(tradeoff=1.0, uplink_bytes=1.0), ["uplink_bytes"]),
    "bytes against participation": (
        Goal(tradeoff=1.0, uplink_bytes=2000.0, min_participation=1.0),
        ["min_participation"],
    ),
    "loss against bytes": (
        Goal(tradeoff=1.0, deadline_seconds=1e3, max_loss=0.01, uplink_bytes=1000.0),
        ["max_loss"],
    ),
    "two at once": (
        Goal(tradeoff=1.0, deadline_seconds=1e-6, uplink_bytes=1.0),
        ["deadline_seconds", "uplink_bytes"],
    ),
    "count": (
        Goal(tradeoff=1.0, counts=[Count(["qat-w2a2", "ptq-w2a2"], at_least=9)]),
        ["at_least"],
    ),
    "count against loss": (
        Goal(max_loss=0.02, counts=[Count(["qat-w2a2"], at_most=0)]),
        ["max_loss"],
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_that_cannot_be_kept_are_relaxed_as_little_as_needed(name) -> None:
    goal, relaxed = LIMITS[name]
    allocator = make(Milp(), goal=goal)
    allocation = allocator.plan(1)
    asked = allocator.problem()
    with pytest.raises(InfeasibleError):
        make(Milp(), goal=goal, strict=True).plan(1)
    assert all(word in allocator.note for word in relaxed)
    assert allocator.note.count("(now ") == len(relaxed)
    broken = violations(asked, allocation.choice)
    assert len(broken) == len(relaxed)
    # The nearest deadline: no allocation that breaks no other limit is faster.
    if relaxed == ["deadline_seconds"]:
        every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
        free = replace(asked, deadline_seconds=None)
        fastest = min(asked.round_seconds(c) for c in every if not violations(free, c))
        assert allocation.round_seconds == pytest.approx(fastest, rel=1e-4)


def test_a_rule_that_breaks_a_limit_is_replaced_by_what_keeps_it() -> None:
    rule = Uniform(Strategy.parse("qat-w2a2"))
    allocator = make(rule, goal=Goal(tradeoff=1.0, deadline_seconds=5.0))
    assert allocator.plan(1).round_seconds <= 5.0
    assert "breaks a limit: round time" in allocator.note
    assert allocator.plan(2, [0, 1]).choice.tolist() == [2, 2]
    assert allocator.note == ""


def test_a_fleet_without_a_single_example_is_planned() -> None:
    nothing = {"num_examples": [0, 0, 0, 0], "label_counts": np.zeros((4, 2))}
    for solver in (Milp(), FrontierPick(FastestWithin(0.01)), Uniform("qat-w2a2")):
        allocator = make(solver, goal=Goal(tradeoff=1.0), **nothing)
        assert allocator.plan(1).choice.any()
        assert "holds an example" in allocator.note
    partly = make(Milp(), goal=Goal(tradeoff=1.0), num_examples=[0, 3, 0, 2], label_counts=None)
    assert partly.plan(1, [0, 2]).choice.any()
    assert "holds an example" in partly.note
    assert partly.plan(2, [0, 1]).choice.any()
    assert partly.note == ""


def test_a_single_client_takes_part() -> None:
    for goal in (Goal(tradeoff=1.0), Goal(tradeoff=1.0, holds_with=0.99)):
        allocator = make(Milp(), goal=goal)
        assert allocator.plan(1, [3]).choice[0] > 0
        assert allocator.note == ""


def test_a_fleet_of_which_no_time_is_known_is_planned_and_learns() -> None:
    hardware = make(Milp()).hardware
    truth = hardware.seconds
    unknown = replace(hardware, seconds=np.where(truth > 0, np.nan, 0.0))
    allocator = HybridAllocator(
        MENU, unknown, "qat-w2a2", Milp(), goal=Goal(tradeoff=5.0, holds_with=0.8),
        num_examples=COUNTS.sum(axis=1), label_counts=COUNTS, fitted=FITTED,
    )  # fmt: skip
    for number in range(1, 9):
        choice = allocator.plan(number).choice
        allocator.observe(
            [Outcome(i, MENU[s], float(truth[i, s]), True) for i, s in enumerate(choice)]
        )
    tried = choice > 0
    seconds = allocator.time_model.predict().seconds[np.arange(4), choice]
    assert seconds[tried] == pytest.approx(truth[np.arange(4), choice][tried], rel=0.1)


@pytest.mark.parametrize(("place", "value"), [((1, 2), -1.0), ((0, 1), np.inf), ((3, 0), np.nan)])
def test_times_that_are_neither_seconds_nor_unknown_are_refused(place, value) -> None:
    hardware = make(Milp()).hardware
    seconds = hardware.seconds.copy()
    seconds[place] = value
    with pytest.raises(ValueError, match=rf"seconds\[{place[0]}, {place[1]}\] = {value} .*NaN"):
        replace(hardware, seconds=seconds)


def test_everything_late_does_not_stop_the_next_round() -> None:
    allocator = make(Milp(), goal=Goal(tradeoff=1.0, deadline_seconds=30.0))
    for number in range(1, 7):
        allocation = allocator.plan(number)
        assert allocation.choice.any()
        allocator.observe(
            [Outcome(i, allocation.strategy(i), 30.0, False) for i in range(4)]
            if number % 2
            else [Outcome(i, allocation.strategy(i), None, False) for i in range(4)]
        )
    assert np.isfinite(allocator.problem().seconds).all()


@pytest.mark.parametrize("seconds", [1e-300, 1e300])
def test_absurd_times_do_not_stop_the_next_round(seconds) -> None:
    allocator = make(Milp(), goal=Goal(tradeoff=1.0, holds_with=0.99), explore=2.0)
    for number in range(1, 5):
        allocation = allocator.plan(number)
        outcomes = [Outcome(i, allocation.strategy(i), seconds, i < 2) for i in range(4)]
        allocator.observe(outcomes)
    assert allocator.plan(5).choice.any()


# State.


def test_a_restored_allocator_plans_the_same_byte_for_byte() -> None:
    rng = np.random.default_rng(3)
    settings = {
        "goal": Goal(tradeoff=20.0, holds_with=0.7),
        "carry": 0.5,
        "switching_seconds": 0.3,
        "explore": 0.5,
        "device_classes": ["a", "b", "a", "b"],
    }
    mine, other = make(Milp(), **settings), make(Milp(), **settings)
    for number in range(1, 9):
        if number == 5:
            saved = json.dumps(mine.state_dict(), allow_nan=False)
            other.load_state_dict(json.loads(saved))
        plan = mine.plan(number)
        outcomes = took(mine, plan, np.exp(rng.normal(0, 0.3, 4)))
        if number >= 5:
            again = other.plan(number)
            assert again.choice.tobytes() == plan.choice.tobytes()
            assert again.round_seconds == plan.round_seconds
            other.observe(outcomes[::-1])
        mine.observe(outcomes)
    assert mine.state_dict() == other.state_dict()
    assert mine.problem().switching_seconds.any()


def test_an_older_state_is_taken_up_and_forgets_the_rest() -> None:
    allocator = make(Recording(), goal=Goal(tradeoff=1.0), switching_seconds=1.0)
    allocator.observe(took(allocator, allocator.plan(1), 3.0))
    allocator.load_state_dict({"carried": [0.25, 0.5]})
    problem = allocator.problem()
    assert problem.coverage.carried.tolist() == [0.25, 0.5]
    assert problem.seconds.tolist() == allocator.hardware.seconds.tolist()
    assert not problem.switching_seconds.any()


def test_a_refused_state_changes_nothing() -> None:
    allocator = make(Recording(), carry=0.5)
    allocator.observe(took(allocator, allocator.plan(1), 3.0))
    before = allocator.state_dict()
    for wrong in (
        {**before, "menu": ["skip", "fp32", "qat-w2a2"]},
        {**before, "num_clients": 1},
        {**before, "carried": [1.0] * 2, "times": {}},
    ):
        with pytest.raises(ValueError, match="state"):
            allocator.load_state_dict(wrong)
        assert allocator.state_dict() == before


def test_a_goal_or_solver_that_changes_is_planned_anew() -> None:
    allocator = make(Milp(), goal=Goal(tradeoff=1e-3))
    careless = allocator.plan(1)
    allocator.goal = Goal(tradeoff=1e6)
    careful = allocator.plan(1)
    assert careful.loss < careless.loss
    allocator.solver = Uniform("qat-w2a2")
    assert allocator.plan(1).choice.tolist() == [2, 2, 2, 2]


def test_another_solver_is_asked_although_it_reads_and_compares_like_the_last() -> None:
    class Alike(Recording):
        def __repr__(self) -> str:
            return "Alike()"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Alike)

        __hash__ = None

    first, second = Alike(), Alike()
    allocator = make(first)
    allocator.plan(1)
    allocator.solver = second
    allocator.plan(2)
    allocator.plan(3)
    assert (len(first.problems), len(second.problems)) == (1, 1)
