"""Searches as `fedhq study search` leaves them, made in a moment: real policies on a real program.

A policy is `{"allocation.solver": ..., "allocation.pick_loss": ..., "allocation.share": ...}`; its
allocation is what the allocator decides for a federated problem, its measures are the program's.
Where the fleet is larger than the problem, that is a cohort of it, some ids of the fleet.
"""

from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from fedhq.allocator import (
    FastestWithin,
    HardwareOnly,
    Random,
    Strategy,
    pareto_frontier,
    solve,
)
from fedhq.allocator.instances import FAMILIES
from fedhq.studies.provenance import Provenance
from fedhq.studies.search.hypervolume import corner_of, hypervolumes
from fedhq.studies.search.record import (
    PROVENANCE_KEY,
    REASON_KEY,
    SOURCE_KEY,
    STUDY_KEY,
    TRIAL_KEY,
    Reference,
    StudyRecord,
    TrialRecord,
    digits,
    ranges,
    to_json,
)

SPACE = {
    "allocation.solver": CategoricalDistribution(["fedhq", "hardware-only", "random"]),
    "allocation.pick_loss": FloatDistribution(0.001, 0.3, log=True),
    "allocation.share": FloatDistribution(0.0, 1.0),
}
QAT, PTQ = Strategy.parse("qat-w2a2"), Strategy.parse("ptq-w2a2")


@dataclass(frozen=True, eq=False)
class Planned:
    problem: object
    solution: object
    clients: tuple[int, ...]


class Policies:
    """Plans policies for one problem, as the search's own class does for a configuration."""

    def __init__(self, clients=30, seed=0, fleet=None):
        self.fleet = fleet or clients
        drawn = np.random.default_rng(seed).choice(self.fleet, clients, replace=False)
        self.clients = tuple(sorted(drawn.tolist()))
        self.problem = replace(FAMILIES["federated"](seed, clients), clients=self.clients)
        free = replace(self.problem, budgets=(), min_participation=0.0, tradeoff=None)
        self.free = free
        self.frontier = pareto_frontier(free)
        self._done = {}

    def plan(self, params, seed=None):
        key = (*sorted(params.items()), seed)
        if key not in self._done:
            solution = solve(self.free, self._solver(params, seed or 0))
            self._done[key] = Planned(self.free, solution, self.clients)
        return self._done[key]

    def _solver(self, params, seed):
        match params["allocation.solver"]:
            case "fedhq":
                # the frontier's own allocations: found once
                k = self.frontier.pick(FastestWithin(params["allocation.pick_loss"]))
                return _Fixed(self.frontier.allocation(k).choice)
            case "hardware-only":
                return HardwareOnly(QAT, PTQ)
        return Random(QAT, PTQ, params["allocation.share"], seed)


@dataclass(frozen=True, eq=False)
class _Fixed:
    choice: object

    def __call__(self, problem):
        from fedhq.allocator import Answer, Status

        return Answer(Status.FEASIBLE, self.choice)


def study_record(policies, evaluate="model", tradeoff=None, limits=None, **changes):
    frontier = policies.frontier
    points = tuple(zip(frontier.round_seconds.tolist(), frontier.loss.tolist(), strict=True))
    points = changes.pop("frontier", points)
    objectives = changes.pop("objectives", ("round_seconds", "accuracy_loss"))
    search = {"evaluate": evaluate, "objectives": objectives, "tradeoff": tradeoff}
    base = StudyRecord(
        config={"problem": {"path": "fleet.json"}, "search": search},
        digest="0123456789abcdef",
        objectives=objectives if tradeoff is None else ("objective",),
        limits=limits or {},
        menu=tuple(map(str, policies.free.strategies)),
        clients=policies.fleet,
        frontier=points,
        frontier_gap=frontier.gap,
        reference=_reference(points, evaluate, objectives, tradeoff, limits or {}),
        command="fedhq study search fleet.toml --out runs/search",
        provenance={"a1b2": Provenance.here(["optuna"]).__dict__},
    )
    return replace(base, **changes)


def _reference(points, evaluate, objectives, tradeoff, limits):
    """By enumeration of the exact frontier."""
    known = {"round_seconds", "accuracy_loss"}
    if evaluate != "model" or not {*limits, *objectives} <= known:
        return None
    most = [limits.get(name, np.inf) for name in ("round_seconds", "accuracy_loss")]
    kept = np.array([p for p in points if (np.array(p) <= most).all()])
    if not len(kept):
        return None
    if tradeoff is not None:
        least = float((kept @ [1, tradeoff]).min())
        return Reference(least, least)
    corner = corner_of(kept)
    area = float(hypervolumes(kept, corner)[-1])
    return Reference(area, area, corner)


def trial_record(plan, evaluated="model", seeds=(0,), rng=None):
    allocation = plan.solution.allocation
    per_seed = []
    for _ in seeds:
        noise = 0.0 if rng is None else float(rng.normal(0, 0.01))
        loss = min(max(allocation.loss + noise, 0.0), 1.0)
        seconds = allocation.round_seconds
        rows = np.arange(len(allocation.choice))
        joules = float(plan.problem.seconds[rows, allocation.choice].sum())
        sent = float(1000 * (len(allocation.strategies) - allocation.choice).sum())
        per_seed.append(
            {"round_seconds": seconds, "accuracy_loss": loss, "uplink_bytes": sent,
             "energy_joules": joules}
        )  # fmt: skip
    means = {key: float(np.mean([own[key] for own in per_seed])) for key in per_seed[0]}
    return TrialRecord(
        evaluated=evaluated,
        seeds=tuple(seeds),
        measures=means,
        per_seed=tuple(per_seed),
        menu=tuple(map(str, allocation.strategies)),
        choice=digits(allocation.choice.tolist()),
        bottleneck=plan.clients[allocation.bottleneck],
        solver=plan.solution.solver,
        status=str(plan.solution.status),
        gap=None,
        wall_seconds=0.01,
        digest="abc",
        provenance="a1b2",
        clients=ranges(plan.clients),
    )


def make_study(
    trials=60, policies=None, seed=0, name="search", evaluate="model", tradeoff=None, limits=None,
    seeds=(0,), failed=0, storage=None, **changes,
):  # fmt: skip
    """A study of so many finished trials; the first three were given, the rest drawn at random."""
    policies = policies or Policies()
    record = study_record(policies, evaluate, tradeoff, limits, **changes)
    directions = ["minimize"] * len(record.objectives)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_user_attr(STUDY_KEY, to_json(record))
    for key, made in record.provenance.items():
        study.set_user_attr(PROVENANCE_KEY + key, dict(made))
    rng = np.random.default_rng(seed)
    made = []
    for k in range(trials):
        source = ("frontier", "frontier", "uniform")[k] if k < 3 else "sampler"
        params = _params(k, rng)
        noise = rng if evaluate == "training" else None
        done = trial_record(policies.plan(params, seeds[0]), evaluate, seeds, noise)
        made.append(_trial(done, params, source, record, tradeoff))
    for _ in range(failed):
        made.append(
            create_trial(
                state=TrialState.FAIL,
                params=_params(9, rng),
                distributions=SPACE,
                user_attrs={SOURCE_KEY: "sampler", REASON_KEY: "the <device> went away"},
            )
        )
    study.add_trials(made)
    return study


def _params(k, rng):
    if k < 2:
        return {"allocation.solver": "fedhq", "allocation.pick_loss": (0.02, 0.1)[k],
                "allocation.share": 0.5}  # fmt: skip
    solver = "random" if k == 2 else ("fedhq", "hardware-only", "random")[rng.integers(3)]
    share = 1.0 if k == 2 else float(np.round(rng.random(), 1))
    pick = float(np.round(np.exp(rng.uniform(np.log(0.001), np.log(0.3))), 3))
    return {"allocation.solver": solver, "allocation.pick_loss": pick, "allocation.share": share}


def _trial(done, params, source, record, tradeoff):
    measures = dict(done.measures)
    if tradeoff is not None:
        measures["objective"] = measures["round_seconds"] + tradeoff * measures["accuracy_loss"]
        done = replace(done, measures=measures)
    return create_trial(
        values=[measures[name] for name in record.objectives],
        params=params,
        distributions=SPACE,
        user_attrs={TRIAL_KEY: to_json(done), SOURCE_KEY: source},
        constraints={key: done.measures[key] / limit - 1 for key, limit in record.limits.items()},
    )
