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
        target = target_of(self.policies.config.search)
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
        return replace(_as_done(measured(plan, measures), folder), diverged=told)

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
    measures = {**_means(rounds), LOSS: 1.0 - _accuracy(rounds[-1])}
    if target_accuracy is not None:
        evaluated = [r for r in rounds if r.deployed_accuracy is not None]
        reached = [r for r in evaluated if _accuracy(r) >= target_accuracy]
        measures[TARGET] = (reached or rounds[-1:])[0].simulated_seconds
        measures[SHORTFALL] = target_accuracy - max(map(_accuracy, evaluated))
    return measures


def measures_of_diverged(
    rounds: Sequence[RoundRecord], predicted: Mapping[str, float], target_accuracy: float | None
) -> dict[str, float]:
    """What is measured of a run that came to nothing.

    Args:
        rounds: Its records until then; none where the first round failed.
        predicted: Of the first round, by its plan; counts where there are no records.
        target_accuracy: Deployed accuracy of `seconds_to_target`, which was not reached; None where
            nobody asks for it.
    """
    measures = {**(_means(rounds) if rounds else predicted), LOSS: 1.0}
    if target_accuracy is not None:
        measures[TARGET] = rounds[-1].simulated_seconds if rounds else predicted[ROUND]
        measures[SHORTFALL] = target_accuracy
    return measures


def _means(rounds: Sequence[RoundRecord]) -> dict[str, float]:
    """What a round takes."""
    count = len(rounds)
    return {
        ROUND: rounds[-1].simulated_seconds / count,
        UPLINK: sum(r.uplink_bytes for r in rounds) / count,
        ENERGY: sum(r.energy_joules for r in rounds) / count,
    }


def _as_done(found: Measured, folder: Path) -> Measured:
    """The same with what the first round's clients did; with the plan's where it has no records."""
    first = [c for c in read_clients(folder) if c.round == 1 and c.staleness == 0]
    if not first:
        return found
    first.sort(key=lambda c: c.client)
    busy = [c for c in first if c.seconds > 0]
    return replace(
        found,
        clients=tuple(c.client for c in first),
        choice=digits([found.menu.index(c.strategy) for c in first]),
        bottleneck=max(busy, key=lambda c: c.seconds).client if busy else None,
    )


def _accuracy(record: RoundRecord) -> float:
    assert record.deployed_accuracy is not None, "the last round is always evaluated"
    return record.deployed_accuracy
