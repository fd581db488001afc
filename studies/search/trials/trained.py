"""Evaluates a policy by training: a federation a seed, in a folder that is resumed or read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ....allocator import InfeasibleError
from ....fl_core.records.lock import FolderBusyError
from ....fl_core.records.recorder import read_clients, read_rounds
from ....fl_core.records.records import RoundRecord
from ...arms import make_trainer
from ...config import RunConfig
from ..config.settings import LOSS, ROUND, TARGET, SearchSettings
from ..config.space import Params
from ..record import SHORTFALL, digits
from .modelled import InfeasiblePolicyError, Measured, feasible_plan, measured
from .offer import ENERGY, UPLINK
from .policy import Policies, listed_clients

TRIALS_FOLDER = "trials"

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Trained:
    """Evaluates by training in this process.

    A run that a worker left is resumed, one that is finished is read, and one that another worker
    is at is waited for.

    Args:
        policies: That are trained.
        folder: The search's.
    """

    policies: Policies
    folder: Path

    def __call__(self, params: Params, seed: int, /) -> Measured:
        """What a federation came to.

        Raises:
            InfeasiblePolicyError: If the policy leaves no allocation in the first round or a later.
            FedHQError: If training fails.
        """
        plan = feasible_plan(self.policies, params, seed)
        folder = self.run_folder(params, seed)
        try:
            self._train(params, seed, folder)
        except InfeasibleError as error:
            raise InfeasiblePolicyError(str(error), 1.0) from error
        rounds = read_rounds(folder)
        measures = measures_of(rounds, target_of(self.policies.config.search))
        if ENERGY not in plan.offer.usage:
            del measures[ENERGY]
        asked = [c for c in read_clients(folder) if c.round == 1 and c.staleness == 0]
        first = sorted(asked, key=lambda c: c.client)
        busy = [c for c in first if c.seconds > 0]
        return replace(
            measured(plan, measures),
            clients=tuple(c.client for c in first),
            choice=digits([plan.menu.index(c.strategy) for c in first]),
            bottleneck=max(busy, key=lambda c: c.seconds).client if busy else None,
        )

    def run_folder(self, params: Params, seed: int) -> Path:
        """Where a policy's run with a seed lies."""
        return self.folder / TRIALS_FOLDER / self.policies.digest(params) / f"seed-{seed}"

    def _train(self, params: Params, seed: int, folder: Path) -> None:
        config = self.policies.config.with_values(params)
        assert isinstance(config, RunConfig)
        config = replace(config, federation=replace(config.federation, seed=seed))
        listed = listed_clients(params, self.policies.num_clients)
        while True:
            try:
                make_trainer(config, folder, solver=listed).run()
                return
            except FolderBusyError:  # another trial of the same policy; it ends, or dies
                time.sleep(_POLL_SECONDS)


def target_of(search: SearchSettings) -> float | None:
    """The deployed accuracy that the search asks the time to; None where it does not ask."""
    return search.target_accuracy if TARGET in (*search.objectives, *search.limits) else None


def measures_of(rounds: Sequence[RoundRecord], target_accuracy: float | None) -> dict[str, float]:
    """What is measured of a finished run.

    Where the target was not reached, the whole simulated time of the run stands for the time to it,
    which is less than the true one, and `SHORTFALL` is above 0: a trial with such a seed is
    infeasible, so that it is never taken for a fast one.

    Args:
        rounds: Its records.
        target_accuracy: Deployed accuracy of `seconds_to_target`; None where nobody asks for it.
    """
    last = rounds[-1]
    measures = {
        ROUND: last.simulated_seconds / len(rounds),
        LOSS: 1.0 - _accuracy(last),
        UPLINK: sum(r.uplink_bytes for r in rounds) / len(rounds),
        ENERGY: sum(r.energy_joules for r in rounds) / len(rounds),
    }
    if target_accuracy is not None:
        evaluated = [r for r in rounds if r.deployed_accuracy is not None]
        reached = [r for r in evaluated if _accuracy(r) >= target_accuracy]
        measures[TARGET] = (reached[0] if reached else last).simulated_seconds
        measures[SHORTFALL] = target_accuracy - max(map(_accuracy, evaluated))
    return measures


def _accuracy(record: RoundRecord) -> float:
    assert record.deployed_accuracy is not None, "the last round is always evaluated"
    return record.deployed_accuracy
