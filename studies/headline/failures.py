"""What verdicts rest on, and where fedhq fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .arms import COARSE, FOLLOWED, IN_PTQ_TIME
from .course import Ratio
from .grid import EXACT, MISTOLD, NOISY, SLOWING
from .oracle import Regret
from .overhead import Overhead
from .results import FEDHQ, QAT_ARM, Setting

LEARNED = "coarse + learned"


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that verdicts rest on.

    Args:
        settings: Of all clocks.
        regrets: To the oracle.
        overheads: Of deciding.
    """

    settings: Sequence[Setting]
    regrets: Sequence[Regret]
    overheads: Sequence[Overhead]

    def with_clock(self, clock: str) -> list[Setting]:
        """The settings of a clock."""
        return [s for s in self.settings if s.cell.clock == clock]


def is_slower(ratio: Ratio) -> bool:
    """Whether an arm takes longer beyond the seeds' noise, or never gets there where another does.

    What a miss is a bound of says nothing here: with short rounds, an arm may have missed the
    target in less time than the other one took to it.
    """
    return ratio.kind == "<" or ratio.high < 1


def slower(settings: Sequence[Setting]) -> list[Setting]:
    """Where fedhq takes longer than all-QAT beyond the seeds' noise, or never gets there."""
    return [s for s in settings if is_slower(s.ratios[FEDHQ])]


def less_accurate(settings: Sequence[Setting]) -> list[Setting]:
    """Where fedhq is less accurate than all-PTQ in equal time, beyond the seeds' noise."""
    return [s for s in settings if s.gains[IN_PTQ_TIME].high < 0]


def saved_share(ratio: Ratio) -> float:
    """The share of another arm's time that an arm saves; minus infinity where it misses alone."""
    return 1 - 1 / ratio.least if ratio.least > 0 else -float("inf")


def say_saved(share: float) -> str:
    """A saved share in words.

    Example:
        >>> say_saved(0.25), say_saved(-float("inf"))
        ('25.0%', 'missed')
    """
    return f"{share:.1%}" if share > -float("inf") else "missed"


def failures(evidence: Evidence) -> list[str]:
    """Where it fails, a sentence each; none where nothing was found."""
    exact = evidence.with_clock(EXACT)
    told = [
        f"{s.cell.setting}: fedhq missed the target {s.target:g} (it ends at "
        f"{s.courses[FEDHQ].end:.3f}, all-QAT at {s.courses[QAT_ARM].end:.3f})"
        for s in exact
        if s.ratios[FEDHQ].kind in "<?"
    ]
    told += [
        f"{s.cell.setting}: fedhq takes longer than all-QAT, {s.ratios[FEDHQ]} x"
        f"{' beyond noise' if s in slower(exact) else ''}"
        for s in exact
        if s.ratios[FEDHQ].kind == "=" and s.ratios[FEDHQ].value < 1
    ]
    told += [
        f"{s.cell.setting}: fedhq is less accurate than all-PTQ in equal time, "
        f"{100 * s.gains[IN_PTQ_TIME].mean:+.1f} points"
        f"{' beyond noise' if s in less_accurate(exact) else ''}"
        for s in exact
        if s.gains[IN_PTQ_TIME].mean < 0
    ]
    told += [
        f"{s.cell.setting}: told accuracy, coarse is slower than without or misses the target, "
        f"{s.over(FOLLOWED, COARSE)} x"
        for s in exact
        if FOLLOWED in s.courses and is_slower(s.over(FOLLOWED, COARSE))
    ]
    told += [
        f"{s.cell.setting}: told accuracy, coarse is less accurate at the end than without, beyond "
        f"noise, {100 * s.lead(FOLLOWED, COARSE).mean:+.1f} points"
        for s in exact
        if FOLLOWED in s.courses and s.lead(FOLLOWED, COARSE).high < 0
    ]
    told += [
        f"{s.cell.setting}: learned takes longer than coarse, {s.over(LEARNED, COARSE)} x"
        for clock in (NOISY, MISTOLD, SLOWING)
        for s in evidence.with_clock(clock)
        if s.over(LEARNED, COARSE).kind != "?" and s.over(LEARNED, COARSE).least < 1
    ]
    return told
