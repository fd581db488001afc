"""What a report shows of a study beside its records: plans made again, prices, importances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ....allocator import FedHQError, Knee, Solution
from .importance import find_importances
from .plans import Planner, TrialPlan, along_tradeoff, plan_trials
from .preferences import Preference, picks
from .view import StudyView, TrialView

if TYPE_CHECKING:
    import optuna

_MOST_PLANS = 12


@dataclass(frozen=True, eq=False)
class Details:
    """What a report shows of a study beside its records.

    Args:
        place: Where the study stands, for commands: a folder, or a storage's address and a name.
        trials: Plans of the trials that matter, by time: picked ones, and some from end to end.
        tradeoffs: Solutions of one trial's problem at rising trade-offs, with prices.
        base: Number of that trial; None where there are no solutions.
        importances: By objective, the share of each parameter; see `find_importances`.
        missing: Why there are no plans; empty where there are.
    """

    place: str = "PLACE"
    trials: tuple[TrialPlan, ...] = ()
    tradeoffs: tuple[Solution, ...] = ()
    base: int | None = None
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: str = ""

    @classmethod
    def of(
        cls,
        study: optuna.Study,
        view: StudyView,
        place: str,
        planner: Planner,
        preferences: Sequence[Preference] = (),
    ) -> Details:
        """Works out all of it; what cannot be planned again is said in `missing`.

        Args:
            study: The study.
            view: What was read of it.
            place: Where it stands.
            planner: Plans its policies; its errors are told in `missing`.
            preferences: Whose picks are planned; the usual ones where empty.
        """
        importances = find_importances(study, view)
        shown = notable_trials(view, preferences)
        try:
            plans = plan_trials(planner, shown)
        except (FedHQError, ValueError, OSError) as error:
            missing = f"The policies could not be planned again, so only records are shown: {error}"
            return cls(place=place, importances=importances, missing=missing)
        if not plans:
            return cls(place=place, importances=importances)
        knee = view.best(Knee())
        base = next((plan for plan in plans if plan.trial is knee), plans[len(plans) // 2])
        points = np.array(view.record.frontier, dtype=float).reshape(-1, 2)
        tradeoffs = along_tradeoff(base.problem, points)
        return cls(place, plans, tradeoffs, base.trial.number, importances)


def notable_trials(view: StudyView, preferences: Sequence[Preference] = ()) -> list[TrialView]:
    """The trials that preferences pick, and some of the front from end to end, by time."""
    places = view.front.tolist()
    picked = {p.trial.number for p in picks(view, preferences) if p.trial is not None}
    room = max(_MOST_PLANS - len(picked), 2)
    evenly = np.linspace(0, len(places) - 1, min(len(places), room)).round().astype(int)
    picked |= {view.trials[places[k]].number for k in evenly.tolist()}
    return [view.trials[k] for k in places if view.trials[k].number in picked]
