"""Studies as a search leaves them, made in a moment: real problems, real allocations, no search."""

from __future__ import annotations

import warnings
from dataclasses import asdict

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning

from fedhq.allocator import AllocationProblem, pareto_frontier
from fedhq.allocator.instances import SEPARABLE_FAMILIES
from fedhq.allocator.solution import Allocation
from fedhq.studies.provenance import Provenance
from fedhq.studies.search.record import (
    SOURCE_KEY,
    STUDY_KEY,
    TRIAL_KEY,
    StudyRecord,
    TrialRecord,
    digits,
    to_json,
)

OBJECTIVES = ("round_seconds", "accuracy_loss")
LIMIT_KEY = "round_seconds"
PICK_LOSS = "allocation.pick_loss"
MENUS = ('["ptq-w2a2", "qat-w2a2"]', '["skip", "ptq-w2a2", "qat-w2a2"]')


def problem_of(seed: int, clients: int) -> AllocationProblem:
    """A fleet of three device classes."""
    return SEPARABLE_FAMILIES["federated"](seed, clients)


def search_study(
    trials: int = 60,
    clients: int = 20,
    seed: int = 0,
    storage: optuna.storages.BaseStorage | None = None,
    name: str = "made",
) -> optuna.Study:
    """A study of the model: trials near the exact frontier, a third of them over the limit.

    The first trials are points of the exact frontier and uniform arms.
    """
    problem = problem_of(seed, clients)
    frontier = pareto_frontier(problem)
    limit = float(np.quantile(frontier.round_seconds, 0.7))
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["minimize", "minimize"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(OBJECTIVES))
    here = asdict(Provenance.here(["optuna"]))
    record = StudyRecord(
        config={"search": {"evaluate": "model", "seeds": [seed]}, "problem": {"clients": clients}},
        digest="0123456789abcdef",
        objectives=OBJECTIVES,
        limits={LIMIT_KEY: limit},
        menu=tuple(str(s) for s in problem.strategies),
        clients=clients,
        frontier=tuple(zip(frontier.round_seconds.tolist(), frontier.loss.tolist(), strict=True)),
        frontier_gap=frontier.gap,
        command="fedhq study search made.toml",
        provenance={"p1": here},
    )
    study.set_user_attr(STUDY_KEY, to_json(record))
    rng = np.random.default_rng(seed)
    menu = len(problem.strategies)
    for number in range(trials):
        if number < 5:
            source = "frontier"
            choice = frontier.allocation(number * (len(frontier) - 1) // 4).choice
        elif number < 7:
            source = "uniform"
            choice = np.where(problem.allowed[:, number - 4], number - 4, 1)
        else:
            source = "sampler"
            choice = frontier.allocation(int(rng.integers(len(frontier)))).choice.copy()
            mutant = rng.integers(clients, size=1 + clients // 20)
            other = rng.integers(menu, size=len(mutant))
            choice[mutant] = np.where(problem.allowed[mutant, other], other, choice[mutant])
        study.add_trial(_trial(problem, choice, source, limit, seed, rng))
    return study


def _trial(
    problem: AllocationProblem,
    choice: np.ndarray,
    source: str,
    limit: float,
    seed: int,
    rng: np.random.Generator,
) -> optuna.trial.FrozenTrial:
    made = Allocation.of(problem, choice)
    measures = {"round_seconds": made.round_seconds, "accuracy_loss": made.loss}
    record = TrialRecord(
        evaluated="model",
        seeds=(seed,),
        measures=measures,
        per_seed=(measures,),
        menu=tuple(str(s) for s in problem.strategies),
        choice=digits(choice.tolist()),
        bottleneck=made.bottleneck,
        solver="Sweep()",
        status="optimal",
        gap=0.0,
        wall_seconds=0.004,
        digest=f"{rng.integers(2**32):08x}",
        provenance="p1",
    )
    return optuna.trial.create_trial(
        values=[made.round_seconds, made.loss],
        params={
            PICK_LOSS: float(10 ** rng.uniform(-3, -0.5)),
            "menu": MENUS[int(rng.integers(2))],
        },
        distributions={
            PICK_LOSS: FloatDistribution(0.001, 0.4, log=True),
            "menu": CategoricalDistribution(MENUS),
        },
        user_attrs={TRIAL_KEY: to_json(record), SOURCE_KEY: source},
        constraints={LIMIT_KEY: made.round_seconds / limit - 1.0},
    )
