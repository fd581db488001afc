"""What optuna-dashboard does not do right by itself, tried out rather than guessed from a version.

Release 0.21 knows only the list of constraints that Optuna kept before version 5, counts infeasible
trials among the best of several objectives and lists the same point many times, and shows figures
in an order that changes with every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

_PROBE = create_trial(values=[0.0, 0.0], constraints={"probe": 1.0})


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps all its limits.

    Example:
        >>> is_feasible(_PROBE)
        False
    """
    return all(value <= 0.0 for value in trial.constraints.values())


def shows_named_constraints() -> bool:
    """Whether the installed dashboard shows what `trial.set_constraint` has set."""
    from optuna_dashboard import _serializer

    return bool(_serializer.serialize_frozen_trial(0, _PROBE, {})["constraints"])


def keep_best_feasible_and_distinct() -> bool:
    """Makes the dashboard's best trials of several objectives the feasible ones, each point once.

    Of trials that measured the same only the first is listed, as in our own front. A policy's
    values in the model do not vary, so a long search has hundreds of such trials, and a browser
    needs longer to list them than to draw a figure.

    Returns:
        Whether they are now; a later dashboard may be built otherwise.
    """
    from optuna_dashboard import _app

    front = getattr(_app, "get_pareto_front_trials", None)
    if front is None:
        return False

    def kept_front(
        trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
    ) -> list[FrozenTrial]:
        kept: dict[tuple[float, ...], FrozenTrial] = {}
        for trial in trials:
            if trial.state == TrialState.COMPLETE and is_feasible(trial):
                kept.setdefault(tuple(trial.values), trial)
        found: list[FrozenTrial] = front(trials=list(kept.values()), directions=directions)
        return found

    _app.get_pareto_front_trials = kept_front
    return True


def keep_figures_in_order() -> None:
    """Makes the dashboard show figures in the order of their ids."""
    from optuna_dashboard import _app

    figures = getattr(_app, "get_plotly_graph_objects", None)
    if figures is None:
        return

    def ordered(system_attrs: Mapping[str, Any]) -> dict[str, str]:
        return dict(sorted(figures(system_attrs).items()))

    _app.get_plotly_graph_objects = ordered
