"""The function that Optuna minimises: suggests a policy, evaluates it, says and records all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from ..config.settings import SCALAR, SearchConfig
from ..config.space import ARM, distributions, suggest
from ..record import REASON_KEY, SHORTFALL, SOURCE_KEY, TRIAL_KEY, TrialRecord, ranges, to_json
from .modelled import Evaluator, InfeasiblePolicyError, Measured, Modelled
from .policy import Policies
from .trained import Trained, target_of

POLICY = "policy"
"""The constraint of a trial whose policy leaves no allocation: by how much its limits are broken.

Trials that were evaluated do not have it."""
DIVERGED = "diverged"
"""The constraint of a trial that trained: the share of its seeds that came to nothing; -1 of none.

Every such trial has it, as a Gaussian process wants the same constraints of all."""


class Objective:
    """Evaluates a trial, in `study.optimize` or between ask and tell.

    A policy that leaves no allocation is pruned, with the constraint `policy` above 0 and a reason:
    it has no values, so that no figure shows invented ones, and TPE learns from the constraint.
    One whose training diverges has values, an accuracy loss of 1 among them, and the constraint
    `diverged` above 0, so that samplers learn from it and it is on no front. What cannot be
    evaluated raises, and who runs the trial writes down why (`TrialLoop`).

    Constraints are named, as Optuna 5 has them. optuna-dashboard 0.21 by itself shows none of
    these; `fedhq study dashboard` does.

    Args:
        config: Of the search.
        folder: Its folder, for the runs of trials.
        provenance: Key of what the process runs on, in the study's record.
    """

    def __init__(self, config: SearchConfig, folder: Path, provenance: str = "") -> None:
        self._config = config
        self._folder = folder
        self._provenance = provenance

    @cached_property
    def policies(self) -> Policies:
        """What is searched; made in the process that evaluates."""
        return Policies(self._config, self._folder)

    @cached_property
    def space(self) -> Mapping[str, BaseDistribution]:
        """What is suggested."""
        return distributions(self._config.space, self.policies.num_clients)

    @cached_property
    def _evaluate(self) -> Evaluator:
        policies = self.policies
        return Modelled(policies) if self._config.is_modelled else Trained(policies, self._folder)

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """Evaluates a trial.

        Args:
            trial: Of a study with the configuration's objectives.

        Returns:
            A value an objective.

        Raises:
            optuna.TrialPruned: If its policy leaves no allocation, or is worse than the best on the
                seeds so far.
            FedHQError: If it cannot be evaluated.
        """
        try:
            return self._run(trial)
        except InfeasiblePolicyError as error:
            trial.set_user_attr(REASON_KEY, str(error))
            trial.set_constraint(POLICY, error.excess)
            raise optuna.TrialPruned(str(error)) from error

    def _run(self, trial: optuna.Trial) -> Sequence[float]:
        search, start = self._config.search, time.perf_counter()
        params = self._params(trial)
        found: list[Measured] = []
        given_up = False
        for step, seed in enumerate(search.seeds):
            found.append(self._evaluate(params, seed))
            if search.tradeoff is not None:
                trial.report(self._scalar(found[-1].measures), step)
                given_up = step + 1 < len(search.seeds) and trial.should_prune()
            if given_up:
                break
        means = self._means(found)
        for name, excess in self._constraints(found, means).items():
            trial.set_constraint(name, excess)
        if reasons := [f.diverged for f in found if f.diverged]:
            trial.set_user_attr(REASON_KEY, reasons[0])
        record = self._record(params, found, means, time.perf_counter() - start)
        trial.set_user_attr(TRIAL_KEY, to_json(record))
        if given_up:
            raise optuna.TrialPruned(f"worse than the best on {len(found)} seeds")
        return [means[name] for name in self._config.objectives]

    def _params(self, trial: optuna.Trial) -> dict[str, Any]:
        if trial.user_attrs.get(SOURCE_KEY) == "uniform":
            return {ARM: trial.suggest_categorical(ARM, arms(self._config))}
        return suggest(trial, self.space)

    def _scalar(self, measures: Mapping[str, float]) -> float:
        seconds, loss = (measures[name] for name in self._config.search.objectives)
        assert self._config.search.tradeoff is not None
        return seconds + self._config.search.tradeoff * loss

    def _means(self, found: Sequence[Measured]) -> dict[str, float]:
        means = {
            name: statistics.fmean(f.measures[name] for f in found) for name in found[0].measures
        }
        if self._config.search.tradeoff is not None:
            means[SCALAR] = self._scalar(means)
        return means

    def _constraints(
        self, found: Sequence[Measured], means: Mapping[str, float]
    ) -> dict[str, float]:
        """By how much each limit is exceeded, relative to it; <= 0 where it is kept."""
        search = self._config.search
        over: dict[str, float] = {
            name: means[name] / limit - 1.0 for name, limit in search.limits.items()
        }
        if target_of(search) is not None:
            over["target_accuracy"] = max(f.measures[SHORTFALL] for f in found)
        if not self._config.is_modelled:
            over[DIVERGED] = sum(bool(f.diverged) for f in found) / len(found) or -1.0
        return over

    def _record(
        self,
        params: Mapping[str, Any],
        found: Sequence[Measured],
        means: Mapping[str, float],
        wall_seconds: float,
    ) -> TrialRecord:
        first = found[0]
        return TrialRecord(
            evaluated=self._config.search.evaluate,
            seeds=self._config.search.seeds[: len(found)],
            measures=means,
            per_seed=tuple(f.measures for f in found),
            menu=first.menu,
            choice=first.choice,
            bottleneck=first.bottleneck,
            solver=first.solver,
            status=first.status,
            gap=first.gap,
            wall_seconds=wall_seconds,
            digest=self.policies.digest(params),
            provenance=self._provenance,
            clients=ranges(first.clients),
        )


def arms(config: SearchConfig) -> list[str]:
    """The uniform arms: each strategy of the menu that takes part, for everybody."""
    return [name for name in config.menu if name != "skip"]
