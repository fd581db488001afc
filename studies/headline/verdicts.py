"""What was claimed, judged by the records: reached, missed, or not measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .arms import COARSE, FOLLOWED, IN_PTQ_TIME, SAME_FINISH, SCHEDULED
from .best import held_out
from .course import Difference
from .failures import LEARNED, Evidence, is_slower, less_accurate, saved_share, say_saved, slower
from .grid import EXACT, MISTOLD, NOISY, SLOWING
from .oracle import HARDWARE_ONLY, PROGRAM, by_table
from .results import FEDHQ, PTQ_ARM, QAT_ARM, Setting
from .situation import FLEETS

_PLAIN = (FEDHQ, COARSE, SCHEDULED, "coarse, nothing given up", FOLLOWED)
"""What gives each client PTQ or QAT at the same bits, and nothing else."""

_MORE = ("scheduled + rests", "coarse + skip", "coarse + wire bits")
"""What has more on the menu: each an effect of its own."""

_FASTER, _MEDIAN_FASTER, _OF_CEILING = 2.47, 1.5, 0.8
_FEWEST = 3  # seeds, of what is to hold everywhere
_SLOW_ENOUGH = 1.5  # of QAT steps over float ones, for the median
_GAIN, _REGRET, _OVERHEAD, _LESS_TIME = 0.1115, 0.05, 0.01, 0.2


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it.

    Args:
        claim: What was to be shown.
        goal: What was asked of it.
        outcome: `reached`, `missed`, `not measured`, `not shown` where what was measured allows
            both, or `elsewhere` where another study judges it.
        found: The figure, with its spread and where it holds.
    """

    claim: str
    goal: str
    outcome: str
    found: str


_ELSEWHERE = (
    Verdict(
        "wall-clock, against all-QAT with eager operators",
        f"at least {_FASTER} x",
        "elsewhere",
        "`python -m fedhq.studies.bench_wall`, recorded in `studies/wall.md`",
    ),
    Verdict(
        "rank correlation of the loss model",
        "at least 0.8",
        "elsewhere",
        "`fedhq study validity`, recorded in `studies/validity.md`",
    ),
)


def judge(evidence: Evidence) -> list[Verdict]:
    """All goals, in the order in which they were set."""
    exact = evidence.with_clock(EXACT)
    verdicts: list[Verdict] = []
    if exact:
        verdicts.append(_somewhere(exact, _PLAIN, "fedhq with PTQ and QAT"))
        verdicts += [_somewhere(exact, [arm], arm) for arm in _MORE]
        verdicts += [verdict for fleet in FLEETS for verdict in _median(exact, fleet)]
        verdicts.append(_never_slower(exact))
        verdicts += [_gain(exact), _never_less_accurate(exact)]
        verdicts.append(_never_worse_than_coarse(exact))
    else:
        asked = f"at least {_FASTER} x somewhere, {_MEDIAN_FASTER} x in the median"
        verdicts.append(_unmeasured("time to target, against all-QAT", asked, "no cell is trained"))
    verdicts += _ELSEWHERE
    return [*verdicts, _regret(evidence), _overhead(evidence), *_learning(evidence)]


def _unmeasured(claim: str, goal: str, why: str) -> Verdict:
    return Verdict(claim, goal, "not measured", why)


def _outcome(is_reached: bool) -> str:
    return "reached" if is_reached else "missed"


def _somewhere(settings: Sequence[Setting], arms: Sequence[str], by: str) -> Verdict:
    """The best of many noisy figures is too good: the one that is surest is picked, and judged."""
    claim, goal = f"time to target, {by} against all-QAT: best", f"surely at least {_FASTER} x"
    pairs = [(s, arm) for s in settings for arm in arms if arm in s.ratios]
    sure = [pair for pair in pairs if len(pair[0].seeds) >= _FEWEST]
    if not sure:
        return _unmeasured(claim, goal, f"nothing of it is trained with {_FEWEST} seeds")
    setting, arm = max(sure, key=lambda pair: _surely(*pair))
    ratio = setting.ratios[arm]
    others = held_out(sure, _surely, lambda s, a, k: s.ratios[a].seeds[k])
    found = (
        f"{ratio} x by {arm} in {setting.cell.setting} (range {ratio.low:.2f} to "
        f"{ratio.high:.2f}; ceiling there {setting.ceiling:.2f}); the surest of {len(sure)} "
        f"candidates. Picked on all seeds but one and judged on that: median "
        f"{statistics.median(others):.2f} x ({min(others):.2f} to {max(others):.2f})"
    )
    is_reached = min(ratio.low, statistics.median(others)) >= _FASTER
    return Verdict(claim, goal, _outcome(is_reached), found)


def _surely(setting: Setting, arm: str) -> tuple[float, float]:
    """Orders arms by how much faster than all-QAT they are at least."""
    ratio = setting.over(arm, QAT_ARM)
    return ratio.low, ratio.least


def _median(settings: Sequence[Setting], fleet: str) -> list[Verdict]:
    """The median, and how much of the ceiling it is; where fedhq missed the target, 0."""
    slow = [s for s in settings if s.cell.fleet == fleet and s.ratio >= _SLOW_ENOUGH]
    if not slow:
        why = f"no cell with r >= {_SLOW_ENOUGH} is trained"
        return [_unmeasured(f"time to target, {fleet}: median", f"{_MEDIAN_FASTER} x", why)]
    ratios = [s.ratios[FEDHQ] for s in slow]
    median = statistics.median(r.least for r in ratios)
    share = statistics.median(s.ratios[FEDHQ].least / s.ceiling for s in slow)
    ceiling = statistics.median(s.ceiling for s in slow)
    plain = statistics.median(s.ratios[SAME_FINISH].least for s in slow)
    told = [r.least for r in ratios if r.kind != "?"]
    missed, open_ = sum(r.kind == "<" for r in ratios), len(ratios) - len(told)
    where = (
        f"{len(slow)} settings with r >= {_SLOW_ENOUGH}; fedhq alone missed in {missed}, both in "
        f"{open_}, which count as 0"
    )
    without = f" ({statistics.median(told):.2f} x without these)" if open_ and told else ""
    return [
        _of_seeds(
            slow,
            f"time to target, {fleet}: median",
            f"at least {_MEDIAN_FASTER} x",
            median >= _MEDIAN_FASTER,
            f"{median:.2f} x{without} over {where}; median ceiling {ceiling:.2f} x; {SAME_FINISH}, "
            f"{plain:.2f} x",
        ),
        _of_seeds(
            slow,
            f"time to target, {fleet}: share of the ceiling",
            f"at least {_OF_CEILING:.0%}",
            share >= _OF_CEILING,
            f"median {share:.0%} over {where}",
        ),
    ]


def _of_seeds(
    settings: Sequence[Setting], claim: str, goal: str, is_reached: bool, found: str
) -> Verdict:
    """A verdict on medians over settings: one or two seeds of each are too few."""
    fewest = min(len(s.seeds) for s in settings)
    if fewest < _FEWEST:
        return _unmeasured(claim, goal, f"{_too_few(fewest)}; {found}")
    return Verdict(claim, goal, _outcome(is_reached), found)


def _too_few(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds > 1)}, at least {_FEWEST} are needed"


def _never(claim: str, goal: str, settings: Sequence[Setting], worse: int, found: str) -> Verdict:
    """That nothing is worse beyond noise: a few seeds cannot show it, however they come out."""
    fewest = min(len(s.seeds) for s in settings)
    if fewest < _FEWEST and not worse:
        return _unmeasured(claim, goal, f"{_too_few(fewest)}; {found}")
    return Verdict(claim, goal, _outcome(not worse), found)


def _never_slower(settings: Sequence[Setting]) -> Verdict:
    claim, goal = "time to target: worst", "never below 1"
    worse, ratios = slower(settings), [s.ratios[FEDHQ] for s in settings]
    below, open_ = (sum(r.kind in kinds and r.least < 1 for r in ratios) for kinds in ("=<>", "?"))
    found = (
        f"{len(worse)} of {len(settings)} settings below 1 beyond noise or by a miss of fedhq; "
        f"{below} below 1; {open_} where both missed, which shows nothing"
    )
    if open_ and not worse:
        return _unmeasured(claim, goal, found)
    return _never(claim, goal, settings, len(worse), found)


def _gain(settings: Sequence[Setting]) -> Verdict:
    claim = "accuracy in equal time, fedhq against all-PTQ: best"
    goal = f"surely more than {100 * _GAIN} points"
    sure = [s for s in settings if len(s.seeds) >= _FEWEST]
    if not sure:
        return _unmeasured(claim, goal, f"nothing is trained with {_FEWEST} seeds")
    best, greatest = max(sure, key=_surely_gains), max(sure, key=lambda s: _gain_of(s).mean)
    pairs = [(s, IN_PTQ_TIME) for s in sure]
    others = held_out(pairs, lambda s, _: _surely_gains(s), lambda s, _, k: _gain_of(s).seeds[k])
    found = (
        f"{_say_gain(best)}; the surest of {len(sure)} candidates. Picked on all seeds but one and "
        f"judged on that: mean {100 * statistics.fmean(others):+.1f} ({100 * min(others):+.1f} to "
        f"{100 * max(others):+.1f})"
    )
    if greatest is not best:
        found += f". The greatest mean: {_say_gain(greatest)}"
    is_reached = min(_gain_of(best).low, statistics.fmean(others)) > _GAIN
    return Verdict(claim, goal, _outcome(is_reached), found)


def _gain_of(setting: Setting) -> Difference:
    return setting.gains[IN_PTQ_TIME]


def _surely_gains(setting: Setting) -> tuple[float, float]:
    """Orders settings by how much more accurate than all-PTQ fedhq is at least."""
    return _gain_of(setting).low, _gain_of(setting).mean


def _say_gain(setting: Setting) -> str:
    gain, end = _gain_of(setting), setting.courses[PTQ_ARM].end
    return (
        f"{100 * gain.mean:+.1f} points by {IN_PTQ_TIME} in {setting.cell.setting} (95 %: "
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}; all-PTQ ends at {end:.3f})"
    )


def _never_less_accurate(settings: Sequence[Setting]) -> Verdict:
    worse = less_accurate(settings)
    below = sum(s.gains[IN_PTQ_TIME].mean < 0 for s in settings)
    found = (
        f"{len(worse)} of {len(settings)} settings worse beyond noise; {below} worse in the mean"
    )
    return _never("accuracy in equal time: worst", "never worse", settings, len(worse), found)


def _never_worse_than_coarse(settings: Sequence[Setting]) -> Verdict:
    """Told accuracy it learns, and so may do worse than if it did not."""
    claim, goal = f"{FOLLOWED}, against {COARSE}", "never worse by more than noise"
    mine = [s for s in settings if FOLLOWED in s.courses]
    if not mine:
        return _unmeasured(claim, goal, "no such cell is trained")
    ratios = [s.over(FOLLOWED, COARSE) for s in mine]
    late, lost = sum(map(is_slower, ratios)), sum(s.lead(FOLLOWED, COARSE).high < 0 for s in mine)
    median = statistics.median(r.least for r in ratios)
    found = (
        f"{late} of {len(mine)} settings slower to the target beyond noise or by a miss of its "
        f"own, {lost} less accurate at the end; median {median:.2f} x"
    )
    return _never(claim, goal, mine, late + lost, found)


def _regret(evidence: Evidence) -> Verdict:
    """By the tables that were trained: the programs that share one are no more evidence.

    The oracle of one training is not the best there is, so its regret is too small; that of the
    best in hindsight is too large. Between them nothing is shown.
    """
    claim, goal = "regret to the oracle", f"median under {_REGRET:.0%}"
    mine = [r for r in evidence.regrets if r.arm == PROGRAM]
    if not mine:
        return _unmeasured(claim, goal, "not all allocations of a small fleet are trained")
    mine_by, rival = (_bounds(evidence, arm) for arm in (PROGRAM, HARDWARE_ONLY))
    found = (
        f"between {mine_by[0]:.1%} and {mine_by[1]:.1%} in the median of {mine_by[2]} trained "
        f"tables, {HARDWARE_ONLY} {rival[0]:.1%} and {rival[1]:.1%}: to an oracle chosen by one "
        "training and judged by another, and to the best in hindsight; in "
        f"{sum(r.has_price for r in mine)} of "
        f"{len(mine)} programs it takes longer than all-PTQ"
    )
    if mine_by[0] < _REGRET <= mine_by[1]:
        return Verdict(claim, goal, "not shown", found)
    return Verdict(claim, goal, _outcome(mine_by[1] < _REGRET), found)


def _bounds(evidence: Evidence, arm: str) -> tuple[float, float, int]:
    """The median regret over trained tables by both oracles, and how many tables there are."""
    judged = by_table(evidence.regrets, arm, lambda r: r.judged)
    hindsight = by_table(evidence.regrets, arm, lambda r: r.optimistic)
    return statistics.median(judged), statistics.median(hindsight), len(judged)


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
        (SLOWING, "less time, and nowhere more beyond noise"),
        (NOISY, "no more time beyond noise"),
    ):
        claim = f"learned against coarse, clock {clock}"
        settings = evidence.with_clock(clock)
        if not settings:
            verdicts.append(_unmeasured(claim, goal, "no such cell is trained"))
            continue
        ratios = [s.over(LEARNED, COARSE) for s in settings]
        saved = [saved_share(ratio) for ratio in ratios if ratio.kind != "?"]
        if not saved:
            verdicts.append(_unmeasured(claim, goal, "both miss the target everywhere"))
            continue
        worse = sum(map(is_slower, ratios))
        median = statistics.median(saved)
        found = (
            f"median {say_saved(median)} less over {len(saved)} settings, worst "
            f"{say_saved(min(saved))}; {worse} slower beyond noise or by a miss; "
            f"{len(settings) - len(saved)} where both missed, which shows nothing"
        )
        if clock == NOISY:
            verdicts.append(_never(claim, goal, settings, worse, found))
        else:
            is_good = median >= _LESS_TIME if clock == MISTOLD else median > 0 and not worse
            verdicts.append(_of_seeds(settings, claim, goal, is_good, found))
    return verdicts
