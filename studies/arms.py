"""From a configuration to a running federation: the one place where names become solvers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from ..allocator import (
    Allocation,
    CoarseRule,
    Cvx,
    DataOnly,
    Dual,
    Exact,
    FastestWithin,
    FrontierPick,
    Goal,
    HardwareOnly,
    HybridAllocator,
    Milp,
    Outcome,
    Random,
    Solver,
    Strategy,
    Uniform,
    default_rule,
    fitted_loss,
)
from ..allocator.arrays import FloatArray
from ..allocator.data import RESTING
from ..fl_core.callbacks import Callback
from ..fl_core.federation import Federation
from ..fl_core.trainer import Trainer
from .config import AllocationSettings, RunConfig, resolved

_NO_GOAL = Goal()
_LOOKED_AT = 50  # rounds, of which the others' shares are taken to be the mean


def make_solver(settings: AllocationSettings, seed: int, goal: Goal = _NO_GOAL) -> Solver:
    """The solver that a configuration names.

    Args:
        settings: The name and what it needs; `share` must be a number here.
        seed: Of the random rule.
        goal: What rounds must keep, which `default_rule` looks at.
    """
    strategy, otherwise = Strategy.parse(settings.strategy), Strategy.parse(settings.otherwise)
    share = settings.share
    if share == "fedhq":
        raise ValueError(
            "allocation.share = 'fedhq': needs an arm with solver 'fedhq' in the same comparison."
        )
    match settings.solver:
        case "fedhq":
            if settings.pick_loss is None:
                return default_rule(goal, fitted_loss())
            return FrontierPick(FastestWithin(settings.pick_loss))
        case "uniform":
            return Uniform(strategy)
        case "random":
            return Random(strategy, otherwise, share, seed)
        case "hardware-only":
            return HardwareOnly(strategy, otherwise)
        case "data-only":
            return DataOnly(strategy, otherwise, share)
        case "coarse":
            return CoarseRule(strategy, otherwise)
        case "exact":
            return Exact()
        case "dual":
            return Dual()
        case "milp":
            return Milp()
        case "cvx":
            return Cvx()


def make_allocator(
    config: RunConfig, federation: Federation, solver: Solver | None = None
) -> HybridAllocator:
    """The allocator of a run.

    Args:
        config: Of the run.
        federation: That it is for.
        solver: Who decides; whom the configuration names where None.

    Raises:
        ValueError: If the configuration names a strategy that cannot be read.
    """
    settings = config.allocation
    counts_rounds = settings.total_seconds is not None or settings.finish > 0
    rounds = config.federation.training.rounds if counts_rounds else None
    memory = RESTING if settings.resting else 0.0
    goal = Goal(
        tradeoff=settings.tradeoff,
        deadline_seconds=settings.deadline_seconds,
        max_loss=settings.max_loss,
        uplink_bytes=settings.uplink_bytes,
        energy_joules=settings.energy_joules,
        min_participation=settings.min_participation,
        total_seconds=settings.total_seconds,
        rounds=rounds,
        finish=settings.finish,
    )
    return HybridAllocator(
        federation.menu,
        federation.hardware,
        federation.deployed,
        solver or make_solver(settings, config.federation.seed, goal),
        num_examples=federation.num_examples,
        label_counts=federation.label_counts,
        goal=goal,
        fitted=replace(fitted_loss(), skip_memory=memory),
        carry=settings.carry,
        strict=True,  # a study must not answer limits that were relaxed
    )


def make_trainer(
    config: RunConfig,
    folder: Path,
    workers: int = 1,
    patience_seconds: float | None = None,
    callbacks: Iterable[Callback] = (),
    solver: Solver | None = None,
) -> Trainer:
    """A trainer for a run's folder, resumed from what stands there.

    Args:
        config: Of the run.
        folder: Where its records and its checkpoint go.
        workers: Processes that train clients.
        patience_seconds: How long a worker may take for one client; see `WorkerPool`.
        callbacks: Told of every round.
        solver: Who decides; whom the configuration names where None.

    Raises:
        ValueError: If the configuration does not fit its data, menu or profile.
        CheckpointError: If the folder holds a run of another configuration, profile or loss model.
    """
    federation = Federation.build(config.federation)
    allocator = make_allocator(config, federation, solver)
    # Inputs that the configuration does not name.
    inputs: dict[str, object] = {"fitted": asdict(allocator.fitted)}
    if solver is not None:
        inputs["solver"] = repr(solver)
    return Trainer(
        federation,
        allocator,
        folder,
        {**resolved(config), "inputs": inputs},
        workers=workers,
        patience_seconds=patience_seconds,
        callbacks=callbacks,
    )


def with_share_of(config: RunConfig, reference: RunConfig) -> RunConfig:
    """A configuration whose `share = "fedhq"` is replaced by the mean of the reference's plans.

    Args:
        config: The arm whose share is asked for.
        reference: The fedhq arm of the same scenario and seed.
    """
    if config.allocation.share != "fedhq":
        return config
    federation = Federation.build(reference.federation)
    allocator = make_allocator(reference, federation)
    wanted = federation.menu.index(Strategy.parse(config.allocation.strategy))
    rounds = federation.training.rounds
    last = allocator.goal.finish_rounds

    def share_of(number: int) -> float:
        seconds, plan = allocator.problem().seconds, allocator.plan(number)
        allocator.observe(_as_planned(plan, seconds))
        return float((plan.choice == wanted).mean())

    early = [share_of(number) for number in range(1, min(rounds - last, _LOOKED_AT) + 1)]
    share = last / rounds * share_of(rounds) if last else 0.0
    if early:
        share += (1 - last / rounds) * statistics.fmean(early)
    return replace(config, allocation=replace(config.allocation, share=min(share, 1.0)))


def _as_planned(plan: Allocation, seconds: FloatArray) -> list[Outcome]:
    """What a round's clients report if it goes as planned."""
    done = [(i, plan.strategy(i), float(seconds[i, k])) for i, k in enumerate(plan.choice)]
    return [Outcome(i, s, took, succeeded=True) for i, s, took in done if not s.is_skip]
