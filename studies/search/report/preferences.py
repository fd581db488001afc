"""What one may prefer on a front: rules of `allocator.picks` with the words for them, and picks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ....allocator import FastestWithin, Knee, MostAccurateWithin, PickRule, Tradeoff
from ....allocator.explain.quantities import POINTS, SECONDS
from .view import ACCURACY_LOSS, StudyView, TrialView
from .words import least_of, name_of, unit_of

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

    def words(self, axes: tuple[str, str]) -> str:
        """What is picked, as a heading.

        Args:
            axes: Names of the measures that are traded, in place of round time and loss.

        Example:
            >>> rule = read_preference("fastest-within=0.02")
            >>> rule.words(("round_seconds", "accuracy_loss"))
            'Fastest within 2 points of the most accurate'
            >>> rule.words(("uplink_bytes", "energy_joules"))
            'Least uplink bytes within 0.02 J of the least energy joules'
        """
        taken, lost = axes
        unit = POINTS if lost == ACCURACY_LOSS else unit_of(lost)
        match self.rule:
            case FastestWithin(loss=0.0):
                return heading(lost)
            case FastestWithin(loss):
                return f"{heading(taken)} within {unit.text(loss)} of {least_of(lost)}"
            case MostAccurateWithin(most):
                return f"{heading(lost)} within {unit_of(taken).text(most)}"
            case Tradeoff(seconds):
                return f"At {SECONDS.text(seconds)} per unit of loss"
        return "Knee of the front"


@dataclass(frozen=True)
class Pick:
    """What somebody may want of a study.

    Args:
        words: As a heading.
        trial: The feasible best; None where there is none.
        why: Why there is none.
    """

    words: str
    trial: TrialView | None
    why: str = ""


def heading(measure: str) -> str:
    """Who has the least of a measure, as a heading.

    Example:
        >>> heading("accuracy_loss"), heading("uplink_bytes")
        ('Most accurate', 'Least uplink bytes')
    """
    words = least_of(measure).removeprefix("the ")
    return words[0].upper() + words[1:]


def picks(view: StudyView, preferences: Sequence[Preference] = ()) -> list[Pick]:
    """The feasible best of a study: of its single objective, and for each preference.

    Args:
        view: The study.
        preferences: The usual ones where empty, and then the best in each measure, too, that no
            rule of a time and a loss tells.
    """
    found = []
    if (least := view.least()) is not None:
        what = "objective" if view.tradeoff is not None else name_of(view.objectives[0])
        found.append(Pick(f"Least {what}", least))
    found += [_picked(view, p) for p in preferences or usual_preferences(view)]
    if not preferences:
        ends = view.others if view.axes[1] == ACCURACY_LOSS else view.traded
        found += [Pick(heading(name), view.best_in(name)) for name in ends]
    return found


def _picked(view: StudyView, preference: Preference) -> Pick:
    try:
        return Pick(preference.words(view.axes), view.best(preference.rule))
    except ValueError as error:  # no point of the front satisfies it
        return Pick(preference.words(view.axes), None, str(error))


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
    """Those shown where none is stated: the study's own trade-off or limit, the knee.

    Where accuracy is traded, the most accurate and the fastest that is nearly as accurate, too.
    """
    texts = [f"tradeoff={view.tradeoff!r}"] if view.tradeoff is not None else []
    if (limit := view.record.limits.get(view.axes[0])) is not None:
        texts.append(f"most-accurate-within={limit!r}")
    texts.append("knee")
    if view.axes[1] == ACCURACY_LOSS:
        texts += [f"fastest-within={_WITHIN}", "fastest-within=0"]
    return tuple(map(read_preference, texts))
