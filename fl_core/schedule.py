"""When a run ends, and how its learning rate falls."""

from __future__ import annotations

import math

from .settings import TrainingSettings


def is_finished(
    training: TrainingSettings, rounds_done: int, deployed_accuracy: float | None
) -> bool:
    """Whether a run has nothing left to do.

    Args:
        training: Its settings.
        rounds_done: Rounds done.
        deployed_accuracy: After the last of them; None if it was not evaluated.

    Example:
        >>> is_finished(TrainingSettings(stop_at_accuracy=0.9), 3, 0.95)
        True
    """
    enough, last = training.stop_at_accuracy, deployed_accuracy
    reached = enough is not None and last is not None and last >= enough
    return reached or rounds_done >= training.rounds


def learning_rate(first: float, round_number: int, rounds: int) -> float:
    """Half a cosine from the first round to the last.

    Example:
        >>> round(learning_rate(0.1, 3, 4), 3)
        0.05
    """
    progress = (round_number - 1) / rounds
    return first * 0.5 * (1 + math.cos(math.pi * progress))
