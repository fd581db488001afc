"""Rounds within a total time: what is remembered of earlier ones, and what a round is judged by."""

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Count,
    FittedLoss,
    Goal,
    HardwareTables,
    HybridAllocator,
    Outcome,
    Recency,
    parse_menu,
    plan_schedule,
)
from fedhq.allocator.adjust.exposure import Exposure
from fedhq.allocator.fleet import FleetTables
from fedhq.allocator.memory import RoundMemory
from fedhq.allocator.pacing import pace

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
SKIP, PTQ, QAT = MENU
FITTED = FittedLoss(((0.0, 0.4), (0.3, 0.1), (1.0, 0.0)), 0.3, 0.0, 0.01, "by hand")


def fleet(label_counts) -> FleetTables:
    hardware = HardwareTables.unknown(MENU, len(label_counts))
    return FleetTables.of(hardware, np.sum(label_counts, axis=1), label_counts)


@pytest.mark.parametrize("lost", [[], [Outcome(0, QAT, 9.0, False)], [Outcome(0, SKIP, 0.0, True)]])
def test_a_round_without_a_usable_update_leaves_what_the_weights_hold(lost) -> None:
    memory, clients = RoundMemory(MENU, QAT, 0.0), fleet([[4, 0], [4, 8]])
    memory.join(2)
    memory.observe([Outcome(0, QAT, 1.0, True), Outcome(1, PTQ, 1.0, True)])
    held = memory.taught(clients)
    assert held[0] > 0 == held[1]
    memory.observe(lost)
    assert memory.taught(clients).tolist() == held.tolist()
    memory.observe([Outcome(1, PTQ, 1.0, True)])  # this one did replace a share of them
    assert memory.taught(clients)[0] < held[0]


def test_counts_that_are_shares_cover_like_counts() -> None:
    counts = np.array([[4.0, 0, 0], [4, 8, 0]])
    memory, exposure = RoundMemory(MENU, QAT, 0.5), Exposure(MENU, QAT)
    for remembered in (memory, exposure):
        remembered.join(2)
        remembered.observe([Outcome(0, QAT, 1.0, True), Outcome(1, PTQ, 1.0, True)])
    for coverage in (memory.taught, memory.carried, exposure.covered):
        found = coverage(fleet(counts))
        assert found[0] > 0
        assert coverage(fleet(counts / 100)) == pytest.approx(found)
        assert found[2] == 0  # nobody holds any


def followed(planner: HybridAllocator, problem: AllocationProblem, rounds: int) -> tuple:
    """Does rounds as planned: the choices, and the loss in the end by what they really covered."""
    choices, rows, term = [], np.arange(problem.num_clients), problem.coverage
    for number in range(1, rounds + 1):
        choice = planner.plan(number).choice
        seconds = problem.seconds[rows, choice].tolist()
        did = [problem.strategies[s] for s in choice]
        planner.observe(
            [Outcome(i, s, seconds[i], not s.is_skip) for i, s in enumerate(did)],
        )
        choices.append(choice)
    plans, weights = np.stack(choices), Recency().weights(rounds)
    own = problem.loss[rows, plans].sum(axis=1) @ weights
    return plans, float(own + term.loss(weights @ (term.teaches[plans] @ term.share)))


def fleet_and_problem(menu, counts, slowdown, goal: Goal):
    """An allocator with a goal, and the program of one of its rounds."""
    seconds = np.outer(slowdown, [{"skip": 0, "ptq": 1, "qat": 2}[s.method] for s in menu])
    nothing = np.zeros(seconds.shape)
    planner = HybridAllocator.open(menu, QAT, goal=goal, fitted=FITTED, explore=0.0)
    tables = HardwareTables(seconds, nothing, nothing, nothing == 0, menu)
    planner.join(tables, num_examples=counts.sum(axis=1), label_counts=counts)
    return planner, planner.problem()


def test_clients_that_cannot_teach_in_one_round_take_turns_as_the_schedule_says() -> None:
    goal = Goal(total_seconds=40.0, rounds=20, counts=[Count([QAT], at_most=1)])
    planner, problem = fleet_and_problem(MENU[1:], np.diag([10.0, 10.0]), [1, 1], goal)
    schedule = plan_schedule(problem, 40.0, 20)
    plans, loss = followed(planner, problem, 20)
    assert (plans == 1).any(axis=0).all()
    assert loss == pytest.approx(schedule.loss, abs=1e-3)
    assert schedule.loss < 0.1  # of 0.2 where one and the same teaches throughout


def test_a_schedule_is_worked_out_once_for_a_state(monkeypatch) -> None:
    goal, worked_out = Goal(total_seconds=9.0, rounds=3), []

    def counted(*arguments, **named):
        worked_out.append(arguments)
        return pace(*arguments, **named)

    monkeypatch.setattr("fedhq.allocator.controller.pace", counted)
    planner, _ = fleet_and_problem(MENU, np.diag([9.0, 9.0]), [1, 2], goal)
    assert planner.plan(1) is planner.plan(1)
    assert len(worked_out) == 1
    planner.plan(2)
    planner.observe([Outcome(0, PTQ, 1.0, True)])  # as told: times are spent, nothing is learned
    planner.plan(2)
    planner.plan(2)
    assert len(worked_out) == 3


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_in_the_end_is_about_that_of_the_schedule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(60, rng.dirichlet(np.full(5, 0.3), 4)).astype(float)
    slowdown, rounds = rng.lognormal(0, 0.6, 4), 4
    total = rounds * float(slowdown.max() * rng.uniform(0.7, 1.6))
    some = [Count([QAT], at_most=2)] if seed % 2 else []
    goal = Goal(total_seconds=total, rounds=rounds, counts=some, min_participation=0.5)
    planner, problem = fleet_and_problem(MENU, counts, slowdown, goal)
    schedule = plan_schedule(problem, total, rounds)
    plans, loss = followed(planner, problem, rounds)
    assert schedule.bound - 1e-9 <= loss <= schedule.loss + 0.003
    assert sum(problem.round_seconds(c) for c in plans) <= total * (1 + 1e-6)
