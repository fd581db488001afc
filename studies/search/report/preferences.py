"""What one may prefer on a front: rules of `allocator.picks` with the words for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ....allocator import FastestWithin, Knee, MostAccurateWithin, PickRule, Tradeoff
from ....allocator.explain.quantities import POINTS, SECONDS
from .view import ROUND_SECONDS, StudyView

HELP = (
    "knee, fastest-within=LOSS (of the most accurate), most-accurate-within=SECONDS, or "
    "tradeoff=SECONDS (per unit of loss)"
)
_RULES: Mapping[str, Callable[[float], PickRule]] = {
    "fastest-within": FastestWithin,
    "most-accurate-within": MostAccurateWithin,
    "tradeoff": Tradeoff,
}
_WITHIN = 0.01


@dataclass(frozen=True)
class Preference:
    """A rule that picks a trial.

    Args:
        text: As it is given at the command line.
        rule: Picks a point of a front.
    """

    text: str
    rule: PickRule

    @property
    def words(self) -> str:
        """What is picked, as a heading.

        Example:
            >>> read_preference("fastest-within=0.02").words
            'Fastest within 2 points of the most accurate'
        """
        match self.rule:
            case FastestWithin(loss=0.0):
                return "Most accurate"
            case FastestWithin(loss):
                return f"Fastest within {POINTS.text(loss)} of the most accurate"
            case MostAccurateWithin(seconds):
                return f"Most accurate within {SECONDS.text(seconds)}"
            case Tradeoff(seconds):
                return f"At {SECONDS.text(seconds)} per unit of loss"
        return "Knee of the front"


def read_preference(text: str) -> Preference:
    """Reads what one prefers.

    Args:
        text: As `HELP` says.

    Raises:
        ValueError: If it is no such rule, or its number breaks the rule's own.
    """
    if text == "knee":
        return Preference(text, Knee())
    name, _, value = text.partition("=")
    rule = _RULES.get(name)
    if rule is None:
        raise ValueError(f"--prefer {text!r}: must be {HELP}.")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(
            f"--prefer {text!r}: must end in a number, but {value!r} is none."
        ) from None
    return Preference(text, rule(number))


def usual_preferences(view: StudyView) -> tuple[Preference, ...]:
    """Those shown where none is stated: the study's own trade-off or limit, the knee, two ends."""
    texts = [f"tradeoff={view.tradeoff!r}"] if view.tradeoff is not None else []
    if (limit := view.record.limits.get(ROUND_SECONDS)) is not None:
        texts.append(f"most-accurate-within={limit!r}")
    texts += ["knee", f"fastest-within={_WITHIN}", "fastest-within=0"]
    return tuple(map(read_preference, texts))
