"""How arms decide: from a situation to what its clients do in every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...allocator import (
    Allocation,
    DataOnly,
    FastestWithin,
    FrontierPick,
    Goal,
    HardwareOnly,
    HybridAllocator,
    Outcome,
    Random,
    Schedule,
    Solver,
    Strategy,
    Uniform,
    fastest_schedule,
    fitted_loss,
    plan_schedule,
)
from ...allocator.arrays import IntArray
from ...allocator.hardware import HardwareTables
from .situation import MENU, Situation

PTQ, QAT = "ptq-w2a2", "qat-w2a2"

FINISH = 0.25
"""Share of the rounds that fedhq's finish has."""

MOST_TAKE_PART = 0.6
"""Of the examples, where clients may rest: the slow third may."""

Plan = tuple[tuple[str, ...], ...]
"""Strategies of the clients: one row for all rounds, or a row a round."""

_BITS_BY_SPEED = {"fast": "qat-w8a8", "medium": "qat-w4a4", "slow": QAT}


def constant(strategy: str) -> Callable[[Situation], Plan]:
    """Everybody does the same in all rounds."""
    return lambda situation: solved(situation, Uniform(strategy), (strategy,))


def coarse(situation: Situation) -> Plan:
    """The program on the told tables: no round of training is needed."""
    return solved(situation, None, (PTQ, QAT))


def careful(situation: Situation) -> Plan:
    """The program, of whose predicted accuracy nothing is given up for speed."""
    return solved(situation, FrontierPick(FastestWithin(0.0)), (PTQ, QAT))


def with_menu(*menu: str) -> Callable[[Situation], Plan]:
    """The program with more on offer."""
    return lambda situation: solved(situation, None, menu)


def random_hybrid(situation: Situation) -> Plan:
    """As many QAT clients as `coarse` has, drawn by the seed alone."""
    seed = situation.cell.ground.seed
    return solved(situation, Random(QAT, PTQ, _share(situation), seed), (PTQ, QAT))


def hardware_only(situation: Situation) -> Plan:
    """QAT where it does not delay the round."""
    return solved(situation, HardwareOnly(QAT, PTQ), (PTQ, QAT))


def data_only(*, prefer_skewed: bool) -> Callable[[Situation], Plan]:
    """As many QAT clients as `coarse` has: those with the most common labels, or the least."""

    def decide(situation: Situation) -> Plan:
        rule = DataOnly(QAT, PTQ, _share(situation), prefer_skewed)
        return solved(situation, rule, (PTQ, QAT))

    return decide


def bits_by_speed(situation: Situation) -> Plan:
    """QAT everywhere, at bits that go with the speed of the device."""
    return (tuple(_BITS_BY_SPEED[name] for name in situation.device_classes),)


def late_qat(share: float) -> Callable[[Situation], Plan]:
    """All-PTQ, and all-QAT in the last rounds, a share of them."""

    def decide(situation: Situation) -> Plan:
        clients, rounds = len(situation.told.seconds), situation.rounds
        last = int(share * rounds)
        return ((PTQ,) * clients,) * (rounds - last) + ((QAT,) * clients,) * last

    return decide


def scheduled(situation: Situation) -> Plan:
    """The program over all rounds: the least time in which at most as much is lost as in `coarse`.

    Early rounds are forgotten, so QAT is put where it lasts.
    """
    problem = _allocator(situation, None, (PTQ, QAT), learn=False).problem()
    return _plan_of(fastest_schedule(problem, situation.rounds, fitted_loss().rule_loss))


def resting(situation: Situation) -> Plan:
    """The same with rests on offer; in each round most of the examples take part."""
    rule = _allocator(situation, None, ("skip", PTQ, QAT), learn=False)
    problem = replace(rule.problem(), min_participation=MOST_TAKE_PART)
    return _plan_of(fastest_schedule(problem, situation.rounds, fitted_loss().rule_loss))


def in_ptq_time(situation: Situation) -> Plan:
    """The program over all rounds: the least loss in the time that all-PTQ takes."""
    problem = _allocator(situation, None, (PTQ, QAT), learn=False).problem()
    longest = float(problem.seconds[:, problem.strategies.index(Strategy.parse(PTQ))].max())
    return _plan_of(plan_schedule(problem, situation.rounds * longest, situation.rounds))


def _plan_of(schedule: Schedule) -> Plan:
    return tuple(_row(schedule.allocation(t)) for t in range(1, len(schedule.kinds) + 1))


def _row(allocation: Allocation) -> tuple[str, ...]:
    return tuple(str(allocation.strategy(i)) for i in range(len(allocation.choice)))


def finished(situation: Situation) -> Plan:
    """As fast as can be, as accurate as that allows; in the last rounds nothing is given up."""
    goal = Goal(rounds=situation.rounds, finish=FINISH)
    allocator = _allocator(situation, None, (PTQ, QAT), learn=False, goal=goal)
    return tuple(_row(allocator.plan(number)) for number in range(1, situation.rounds + 1))


def learned(situation: Situation) -> Plan:
    """The same program, re-solved each round with the times that earlier rounds showed."""
    return tuple(row for row, _ in learned_rounds(situation))


def learned_rounds(situation: Situation) -> Iterator[tuple[tuple[str, ...], float]]:
    """The rows of `learned`, and the processor seconds that planning and learning took."""
    allocator = learner(situation)
    for number in range(1, situation.rounds + 1):
        start = time.process_time()
        allocation = allocator.plan(number)
        planning = time.process_time() - start
        outcomes = outcomes_of(situation, number, allocation)
        start = time.process_time()
        allocator.observe(outcomes)
        learning = time.process_time() - start
        yield tuple(str(o.strategy) for o in outcomes), planning + learning


def learner(situation: Situation) -> HybridAllocator:
    """An allocator that starts as `coarse` and learns from what it observes."""
    return _allocator(situation, None, (PTQ, QAT), learn=True)


def outcomes_of(situation: Situation, number: int, allocation: Allocation) -> list[Outcome]:
    """What becomes of a round: all succeed, in the time that they really take."""
    seconds, clients = situation.seconds(number), range(len(allocation.choice))
    done = [allocation.strategy(i) for i in clients]
    return [
        Outcome(i, s, float(seconds[i, MENU.index(s)]), True)
        for i, s in zip(clients, done, strict=True)
    ]


def round_seconds(situation: Situation, plan: Plan, *, low_bit: bool = False) -> list[float]:
    """`(rounds,)` how long every round of a plan really takes: as long as its slowest client."""
    place = {str(s): k for k, s in enumerate(MENU)}
    longest = []
    for number in range(1, situation.rounds + 1):
        row = plan[0 if len(plan) == 1 else number - 1]
        seconds = situation.seconds(number, low_bit=low_bit)
        longest.append(max(float(seconds[i, place[text]]) for i, text in enumerate(row)))
    return longest


def _share(situation: Situation) -> float:
    row = coarse(situation)[0]
    return row.count(QAT) / len(row)


def solved(situation: Situation, solver: Solver | None, menu: Sequence[str]) -> Plan:
    """What a solver makes of the told tables: one row for all rounds.

    Args:
        situation: The cell.
        solver: Who decides; the default rule where None.
        menu: The strategies on offer.
    """
    return (_row(_allocator(situation, solver, menu, learn=False).plan(1)),)


def _allocator(
    situation: Situation,
    solver: Solver | None,
    menu: Sequence[str],
    *,
    learn: bool,
    goal: Goal | None = None,
) -> HybridAllocator:
    federation, columns = situation.federation, _columns(menu)
    return HybridAllocator(
        menu,
        _part(situation.told, columns),
        QAT,
        solver,
        num_examples=federation.num_examples,
        label_counts=federation.label_counts,
        device_classes=situation.device_classes,
        goal=goal,
        learn=learn,
        strict=True,
    )


def _columns(menu: Sequence[str]) -> IntArray:
    return np.array([MENU.index(Strategy.parse(text)) for text in menu])


def _part(tables: HardwareTables, columns: IntArray) -> HardwareTables:
    """The tables of a part of the menu."""
    return HardwareTables(
        tables.seconds[:, columns],
        tables.uplink_bytes[:, columns],
        tables.memory_bytes[:, columns],
        tables.allowed[:, columns],
        tuple(tables.strategies[k] for k in columns),
    )
