"""What was claimed, judged by the records: reached, missed, or not measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .course import Ratio
from .grid import EXACT, MISTOLD, NOISY, SLOWING
from .oracle import PROGRAM, Regret
from .overhead import Overhead
from .results import FEDHQ, PTQ_ARM, QAT_ARM, Setting

LEARNED = "coarse + learned"

_FASTER, _MEDIAN_FASTER, _OF_CEILING = 2.47, 1.5, 0.8
_SLOW_ENOUGH = 1.5  # of QAT steps over float ones, for the median
_GAIN, _REGRET, _OVERHEAD, _LESS_TIME = 0.1115, 0.05, 0.01, 0.2


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it.

    Args:
        claim: What was to be shown.
        goal: What was asked of it.
        outcome: `reached`, `missed` or `not measured`.
        found: The figure, with its spread and where it holds.
    """

    claim: str
    goal: str
    outcome: str
    found: str


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


def judge(evidence: Evidence) -> list[Verdict]:
    """All goals, in the order in which they were set."""
    exact = evidence.with_clock(EXACT)
    verdicts: list[Verdict] = []
    if exact:
        verdicts += [_somewhere(exact), *_median(exact), _never_slower(exact)]
        verdicts += [_gain(exact), _never_less_accurate(exact)]
    else:
        asked = f"at least {_FASTER} x somewhere, {_MEDIAN_FASTER} x in the median"
        verdicts.append(_unmeasured("time to target, against all-QAT", asked, "no cell is trained"))
    wall = "bench_wall.py measures today's operators"
    verdicts.append(
        _unmeasured("wall-clock, against all-QAT with eager operators", f"{_FASTER} x", wall)
    )
    verdicts.append(
        _unmeasured("rank correlation of the loss model", "at least 0.8", "see the validity study")
    )
    return [*verdicts, _regret(evidence), _overhead(evidence), *_learning(evidence)]


def _unmeasured(claim: str, goal: str, why: str) -> Verdict:
    return Verdict(claim, goal, "not measured", why)


def _outcome(is_reached: bool) -> str:
    return "reached" if is_reached else "missed"


def _somewhere(settings: Sequence[Setting]) -> Verdict:
    arms = [(s, arm) for s in settings for arm in s.ratios if arm.startswith(FEDHQ)]
    # The best of many noisy figures is too good: the one that is surest is picked.
    setting, arm = max(arms, key=lambda pair: _surely(pair[0].ratios[pair[1]]))
    ratio = setting.ratios[arm]
    found = (
        f"{ratio} x by {arm} in {setting.cell.setting} (95 %: {ratio.low:.2f} to {ratio.high:.2f}; "
        f"ceiling there {setting.ceiling:.2f})"
    )
    claim = "time to target, fedhq against all-QAT: best"
    return Verdict(claim, f"at least {_FASTER} x", _outcome(ratio.least >= _FASTER), found)


def _surely(ratio: Ratio) -> tuple[float, float]:
    """Orders ratios by what they are at least."""
    return ratio.low, ratio.least


def _median(settings: Sequence[Setting]) -> list[Verdict]:
    """The median, and how much of the ceiling it is; where fedhq missed the target, 0."""
    slow = [s for s in settings if s.cell.ratio is not None and s.cell.ratio >= _SLOW_ENOUGH]
    if not slow:
        why = f"no cell with r >= {_SLOW_ENOUGH} is trained"
        return [_unmeasured("time to target: median", f"{_MEDIAN_FASTER} x", why)]
    ratios = [s.ratios[FEDHQ] for s in slow]
    median = statistics.median(r.least for r in ratios)
    share = statistics.median(s.ratios[FEDHQ].least / s.ceiling for s in slow)
    ceiling = statistics.median(s.ceiling for s in slow)
    missed = sum(r.kind in "<?" for r in ratios)
    where = f"{len(slow)} settings with r >= {_SLOW_ENOUGH}; {missed} of them with a miss of fedhq"
    return [
        Verdict(
            "time to target: median",
            f"at least {_MEDIAN_FASTER} x",
            _outcome(median >= _MEDIAN_FASTER),
            f"{median:.2f} x over {where}; median ceiling {ceiling:.2f} x",
        ),
        Verdict(
            "time to target: share of the ceiling",
            f"at least {_OF_CEILING:.0%}",
            _outcome(share >= _OF_CEILING),
            f"median {share:.0%} over {where}",
        ),
    ]


def slower(settings: Sequence[Setting]) -> list[Setting]:
    """Where fedhq takes longer than all-QAT beyond the seeds' noise."""
    return [s for s in settings if s.ratios[FEDHQ].high < 1]


def _never_slower(settings: Sequence[Setting]) -> Verdict:
    worse, below = slower(settings), [s for s in settings if s.ratios[FEDHQ].least < 1]
    found = f"{len(worse)} of {len(settings)} settings below 1 beyond noise; {len(below)} below 1"
    return Verdict("time to target: worst", "never below 1", _outcome(not worse), found)


def _gain(settings: Sequence[Setting]) -> Verdict:
    best = max(settings, key=lambda s: (s.gains[FEDHQ].low, s.gains[FEDHQ].mean))
    gain = best.gains[FEDHQ]
    found = (
        f"{100 * gain.mean:+.1f} points in {best.cell.setting} (95 %: {100 * gain.low:+.1f} to "
        f"{100 * gain.high:+.1f}; all-PTQ ends at {best.courses[PTQ_ARM].end:.3f})"
    )
    claim = "accuracy in equal time, fedhq against all-PTQ: best"
    return Verdict(claim, f"more than {100 * _GAIN} points", _outcome(gain.mean > _GAIN), found)


def less_accurate(settings: Sequence[Setting]) -> list[Setting]:
    """Where fedhq is less accurate than all-PTQ in equal time, beyond the seeds' noise."""
    return [s for s in settings if s.gains[FEDHQ].high < 0]


def _never_less_accurate(settings: Sequence[Setting]) -> Verdict:
    worse = less_accurate(settings)
    below = sum(s.gains[FEDHQ].mean < 0 for s in settings)
    found = (
        f"{len(worse)} of {len(settings)} settings worse beyond noise; {below} worse in the mean"
    )
    return Verdict("accuracy in equal time: worst", "never worse", _outcome(not worse), found)


def _regret(evidence: Evidence) -> Verdict:
    claim, goal = "regret to the oracle", f"median under {_REGRET:.0%}"
    mine = [r for r in evidence.regrets if r.arm == PROGRAM]
    if not mine:
        return _unmeasured(claim, goal, "not all allocations of a small fleet are trained")
    judged = statistics.median(r.judged for r in mine)
    optimistic = statistics.median(r.optimistic for r in mine)
    found = (
        f"median {judged:.1%} with the oracle chosen by one training and judged by another, "
        f"{optimistic:.1%} against the best in hindsight; {len(mine)} programs"
    )
    return Verdict(claim, goal, _outcome(judged < _REGRET), found)


def _overhead(evidence: Evidence) -> Verdict:
    claim, goal = "allocation and learning", f"under {_OVERHEAD:.0%} of a round"
    if not evidence.overheads:
        return _unmeasured(claim, goal, "not asked for")
    worst = max(evidence.overheads, key=lambda o: o.share)
    found = (
        f"at most {worst.share:.2%} ({worst.task}: {1000 * worst.own_seconds:.1f} ms of "
        f"{worst.round_seconds:.2f} s)"
    )
    return Verdict(claim, goal, _outcome(worst.share < _OVERHEAD), found)


def _learning(evidence: Evidence) -> list[Verdict]:
    verdicts = []
    for clock, goal in (
        (MISTOLD, f"at least {_LESS_TIME:.0%} less time"),
        (SLOWING, "less time"),
        (NOISY, "no more time beyond noise"),
    ):
        claim = f"learned against coarse, clock {clock}"
        settings = evidence.with_clock(clock)
        if not settings:
            verdicts.append(_unmeasured(claim, goal, "no such cell is trained"))
            continue
        saved = [saved_share(s.over(LEARNED, FEDHQ)) for s in settings]
        worse = sum(s.over(LEARNED, FEDHQ).high < 1 for s in settings)
        median = statistics.median(saved)
        good = {MISTOLD: median >= _LESS_TIME, SLOWING: median > 0, NOISY: not worse}[clock]
        found = (
            f"median {median:.0%} less over {len(settings)} settings, worst {min(saved):.0%}; "
            f"{worse} slower beyond noise"
        )
        verdicts.append(Verdict(claim, goal, _outcome(good), found))
    return verdicts


def saved_share(ratio: Ratio) -> float:
    """The share of another arm's time that an arm saves; minus infinity where it misses."""
    return 1 - 1 / ratio.least if ratio.least > 0 else -float("inf")


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
        f"{100 * s.gains[FEDHQ].mean:+.1f} points"
        f"{' beyond noise' if s in less_accurate(exact) else ''}"
        for s in exact
        if s.gains[FEDHQ].mean < 0
    ]
    told += [
        f"{s.cell.setting}: learned takes longer than coarse, {s.over(LEARNED, FEDHQ)} x"
        for clock in (NOISY, MISTOLD, SLOWING)
        for s in evidence.with_clock(clock)
        if s.over(LEARNED, FEDHQ).least < 1
    ]
    return told
