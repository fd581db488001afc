"""Evaluates a policy by training: a federation a seed, in a folder that is resumed or read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ....allocator import InfeasibleError
from ....allocator.errors import DivergedError
from ....fl_core.records.lock import FolderBusyError, RunLock
from ....fl_core.records.recorder import read_clients, read_rounds
from ....fl_core.records.records import ClientRecord, RoundRecord
from ...arms import make_trainer
from ...config import RunConfig
from ..config.settings import LOSS, ROUND, TARGET
from ..config.space import Params
from ..record import digits
from .modelled import InfeasiblePolicyError, Measured, feasible_plan, measured
from .offer import ENERGY, UPLINK
from .policy import Plan, Policies, listed_clients

TRIALS_FOLDER = "trials"
SHORTFALL = "target_shortfall"
"""A measure: target less the best deployed accuracy; where > 0, `seconds_to_target` is censored."""

_NOTHING = "diverged: the model of the last round gets nothing right."  # its activations overflow


def tell_of_wait(folder: Path) -> None:
    """Says on standard error that a run is waited for."""
    print(f"fedhq: waiting for another process, which trains in {folder}", file=sys.stderr)


@dataclass(frozen=True)
class Trained:
    """Evaluates by training in this process.

    A run that a worker left is resumed, one that is finished is read, and one that another worker
    is at is waited for.

    Args:
        policies: That are trained.
        folder: The search's.
        on_wait: Called with the folder of a run before it is waited for.
    """

    policies: Policies
    folder: Path
    on_wait: Callable[[Path], None] = tell_of_wait

    def __call__(self, params: Params, seed: int, /) -> Measured:
        """What a federation came to.

        One that diverges has nothing to deploy: its loss is 1, its times are those of its rounds
        until then.

        Raises:
            InfeasiblePolicyError: If the policy leaves no allocation in the first round or a later.
            FedHQError: If training fails.
        """
        plan = feasible_plan(self.policies, params, seed)
        folder = self.run_folder(params, seed)
        target = self.policies.config.search.target_accuracy
        try:
            self._train(params, seed, folder)
        except InfeasibleError as error:
            raise InfeasiblePolicyError(str(error), 1.0) from error
        except DivergedError as error:
            measures = measures_of_diverged(read_rounds(folder), plan.measures, target)
            told = f"diverged: {error}"
        else:
            measures = measures_of(read_rounds(folder), target)
            told = "" if measures[LOSS] < 1.0 else _NOTHING
        if ENERGY not in plan.offer.usage:
            measures.pop(ENERGY, None)
        found = measured(plan, measures, _first_choice(folder, plan))
        return replace(found, diverged=told)

    def run_folder(self, params: Params, seed: int) -> Path:
        """Where a policy's run with a seed lies."""
        return self.folder / TRIALS_FOLDER / self.policies.digest(params) / f"seed-{seed}"

    def _train(self, params: Params, seed: int, folder: Path) -> None:
        config = self.policies.config.with_values(params)
        assert isinstance(config, RunConfig)
        config = replace(config, federation=replace(config.federation, seed=seed))
        listed = listed_clients(params, self.policies.num_clients)
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            with RunLock(folder, partial(self.on_wait, folder)):
                pass  # whoever had it, with another trial of the same policy, is done, or died
            try:
                make_trainer(config, folder, solver=listed).run()
                return
            except FolderBusyError:
                continue  # one who waited, too, was faster


def measures_of(rounds: Sequence[RoundRecord], target_accuracy: float) -> dict[str, float]:
    """What is measured of a finished run.

    Where the target was not reached, the whole simulated time of the run stands for the time to it,
    which is less than the true one, and `SHORTFALL` is above 0: a trial with such a seed is
    infeasible, so that it is never taken for a fast one.

    Args:
        rounds: Its records.
        target_accuracy: Deployed accuracy of `seconds_to_target`.
    """
    evaluated = [r for r in rounds if r.deployed_accuracy is not None]
    reached = [r for r in evaluated if _accuracy(r) >= target_accuracy]
    return {
        **_means(rounds),
        LOSS: 1.0 - _accuracy(rounds[-1]),
        TARGET: (reached or rounds[-1:])[0].simulated_seconds,
        SHORTFALL: target_accuracy - max(map(_accuracy, evaluated)),
    }


def measures_of_diverged(
    rounds: Sequence[RoundRecord], predicted: Mapping[str, float], target_accuracy: float
) -> dict[str, float]:
    """What is measured of a run that came to nothing.

    Args:
        rounds: Its records until then; none where the first round failed.
        predicted: Of the first round, by its plan; counts where there are no records.
        target_accuracy: Deployed accuracy of `seconds_to_target`, which was not reached.
    """
    means = _means(rounds) if rounds else predicted
    seconds = rounds[-1].simulated_seconds if rounds else predicted[ROUND]
    return {**means, LOSS: 1.0, TARGET: seconds, SHORTFALL: target_accuracy}


def _means(rounds: Sequence[RoundRecord]) -> dict[str, float]:
    """What a round takes."""
    count = len(rounds)
    return {
        ROUND: rounds[-1].simulated_seconds / count,
        UPLINK: sum(r.uplink_bytes for r in rounds) / count,
        ENERGY: sum(r.energy_joules for r in rounds) / count,
    }


def _first_choice(folder: Path, plan: Plan) -> str:
    """What the clients of the first round did; what they were told to where it has no records."""
    first = [c for c in read_clients(folder) if c.round == 1 and c.staleness == 0]
    if not first:
        return plan.choice
    return digits([plan.menu.index(c.strategy) for c in sorted(first, key=_client)])


def _accuracy(record: RoundRecord) -> float:
    assert record.deployed_accuracy is not None, "the last round is always evaluated"
    return record.deployed_accuracy


def _client(record: ClientRecord) -> int:
    return record.client
