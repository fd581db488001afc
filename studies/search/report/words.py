"""What the report of a search says in words: verdicts, how to read its figures, its own style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ....allocator.explain.quantities import POINTS, SECONDS, Unit, number
from ..record import MOST_POINTS, SOURCES, Lost, StudyRecord, TrialRecord
from .regret import EXCESS, LEAST_GAP, MISSING, Course, Unclaimed, find_regret
from .view import ACCURACY_LOSS, ROUND_SECONDS, TARGET_SECONDS, State, StudyView

STYLE = """
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,290px),1fr));gap:16px;
margin:0 0 20px}
.pick{display:flex;flex-direction:column;padding:16px 18px;border:1px solid var(--line);
border-radius:12px;background:var(--card)}
.pick h4{margin:0 0 2px;font-size:15px} .pick p{margin:0;color:var(--soft);font-size:13.5px}
.pick .big{margin:6px 0 4px;color:var(--ink);font-size:22px;font-weight:650;line-height:1.25;
letter-spacing:-.01em}
.pick .big small{color:var(--soft);font-size:14px;font-weight:500}
.pick dl,.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 12px;
margin:10px 0 0;font-size:13.5px} dt{color:var(--soft)} dd{margin:0;overflow-wrap:anywhere}
.pick pre{margin:auto 0 0;padding:8px 10px;font-size:12px;white-space:pre-wrap;
overflow-wrap:anywhere;background:var(--page)} .pick dl{margin-bottom:12px}
h3.part{margin:28px 0 12px} .verdict{max-width:88ch;margin:0 0 18px}
.facts{margin:0 0 14px;gap:6px 18px;font-size:14px}
tbody th{min-width:0;white-space:nowrap} td.text{text-align:left}
details{margin:0 0 12px;font-size:14px} summary{cursor:pointer;color:var(--soft)}
details pre{max-height:420px;overflow:auto}
@media (max-width:640px){.facts{grid-template-columns:1fr;gap:0} .facts dd{margin-bottom:8px}}
"""

LEAD = """A search tries <b>policies</b>: how a fleet is to decide which client skips, trains in
floats, or trains for low precision. Each trial below is one policy, measured {how}. A trial is
<b>feasible</b> if it keeps every limit; the <b>front</b> are the feasible trials that no other
beats in all of {traded}."""
HOW = {
    "model": "in the allocation program's own predictions",
    "training": "by training a federation with it, on a simulated clock",
}
READ_FRONTIER = """<b>How to read.</b> Further left and lower is better. Filled marks keep every
limit, hollow ones do not; the symbol says who proposed the trial. The line joins the
front.{rest}{exact} Click a name to hide it; drag to zoom, double-click to see all."""
READ_EXACT = """ Dotted: what is provably best at each round time{gap}, for the fleet and menu of
the configuration{thinned}; otherwise a trial lies below it only with another menu or other bits."""
READ_REST = """ Not drawn is {others}, which is minimised, too: trials of the front may lie off the
line, which joins those that no other beats in the two measures drawn."""
READ_REGRET = """<b>How to read.</b> {what} after each trial: 0 reaches {best}. The dashed line
counts only what the sampler found itself, without the trials that it was given."""
REGRETS = {
    EXCESS: "How far the best objective lay above the optimum",
    MISSING: "Which share of the frontier's hypervolume no trial had reached",
}
READ_PROGRESS = """<b>How to read.</b> How the search came to its own best. {why}"""
READ_ALLOCATION = """<b>How to read.</b> One column a trial of the front, {first} on the left; one
row a client, {order}. What they did in the first round of the trial's first seed, as it was
recorded; a gap where a client was not in its cohort."""
READ_WATERFALL = """<b>How to read.</b> One bar a client: how long the program expects its round to
take. The slowest sets the round time, the dashed line; the room above a bar is waiting.{again}"""
AGREE = " Planned again by the installed version; every client does what was recorded."
DIFFER = """ Planned again by the installed version; in trials {trials} some clients do other than
was recorded, as another version or a tie may have it."""
READ_MIX = """<b>How to read.</b> Who does what when a unit of loss is worth more and more seconds:
the program of trial {trial}, solved anew at {count} trade-offs."""
READ_PRICES = """<b>How to read.</b> By how many seconds the objective (round time + trade-off *
loss) would fall if a limit were a bit wider: 1 % more of a budget, or one more point of a class's
examples with clients that teach the deployed precision. The same solutions as above."""
READ_IMPORTANCE = """<b>How to read.</b> Which parameters decide whether a trial is among the best
tenth, by objective (PED-ANOVA). Near 0: its range hardly matters, or is too narrow to."""
TRACE = """<p>Every number comes from a trial's record in the study, which names its seeds, its
versions and its commit; <code>--trial</code> prints one and plans it again.</p>"""


_NAMES = {ROUND_SECONDS: "round time", TARGET_SECONDS: "time to the target"}
_BEST = {
    ROUND_SECONDS: "the fastest",
    TARGET_SECONDS: "the soonest at the target",
    ACCURACY_LOSS: "the most accurate",
}
_REPEATED: dict[Lost | None, str] = {
    Lost.DIED: "whose worker died",
    Lost.STOPPED: "whose worker was stopped",
    Lost.SPARE: "that was one too many",
}
_NO_SPREAD = 1e-6  # relative: rounding


def verdict(view: StudyView) -> str:
    """What came of a study, in some sentences."""
    if not view.trials:
        return "No trial has been started yet."
    feasible = int(view.feasible.sum())
    broke = sum(bool(t.broken) for t in view.trials)
    pruned = sum(t.state is State.PRUNED and not t.broken for t in view.trials)
    others = {
        "broke a limit": broke,
        "were given up early": pruned,
        "failed": len(view.failures),
        "are not finished": view.count(State.RUNNING) + view.count(State.WAITING),
    }
    rest = "".join(f", {n} {what}" for what, n in others.items() if n)
    counted = f"Of {len(view.trials) - len(view.set_aside)} trials {feasible} are feasible{rest}. "
    if not feasible:
        return counted + broken(view)
    return counted + _front(view) + _regret(view) + _seeds(view)


def broken(view: StudyView) -> str:
    """Which limits are broken how often."""
    names = Counter(name for t in view.trials for name in t.broken)
    if not names:
        return "No trial was measured to its end."
    often = ", ".join(f"{name} (in {n} trials)" for name, n in names.most_common())
    return f"Broken limits: {often}. Widen a limit, or let the search vary more."


def repeats(lost: Lost | None) -> str:
    """What was the matter with a trial that another repeats."""
    return _REPEATED.get(lost, "that failed")


def _front(view: StudyView) -> str:
    fast, best = (view.points[k] for k in (view.drawn_front[0], view.drawn_front[-1]))
    if len(view.front) == 1:
        return f"One beats all others: {said(view, fast)}. "
    return (
        f"{len(view.front)} of them are on the front, from {said(view, fast)} to "
        f"{said(view, best)}. "
    )


def said(view: StudyView, point: np.ndarray) -> str:
    """A point in words."""
    time, loss = map(float, point)
    return f"{unit_of(view.axes[0]).text(time)} with {_loss_words(view, loss)}"


def _loss_words(view: StudyView, loss: float) -> str:
    if view.axes[1] != ACCURACY_LOSS:
        return f"{name_of(view.axes[1])} {unit_of(view.axes[1]).text(loss)}"
    if view.evaluated == "model":
        return f"{POINTS.text(loss)} of predicted loss"
    return f"{100 * (1 - loss):.1f} % deployed accuracy"


def _regret(view: StudyView) -> str:
    regret = find_regret(view)
    if isinstance(regret, Unclaimed):
        return f"{regret.reason} "
    alone = find_regret(view, SOURCES[:1])
    given = {t.source for t in view.trials} - {SOURCES[0]}
    sampler = ""
    if given and not isinstance(alone, Unclaimed):
        sampler = f" (the sampler alone: {_percent(alone.last)})"
    known, most = regret.last, regret.at_most(regret.last)
    if regret.measure == EXCESS:
        told = f"The best is {_percent(known)} above the {{}} optimum{sampler}"
    else:
        told = f"{_percent(known)} of the {{}} frontier's hypervolume is missing{sampler}"
    if most - known <= LEAST_GAP:
        return told.format("exact") + ". "
    return (
        told.format("known")
        + f", and at most {_percent(most)} if that can be better as far as is proven. "
    )


def of_exact(records: Sequence[StudyRecord]) -> str:
    """What is to be known of the exact frontiers in a figure; nothing where there are none."""
    if not records:
        return ""
    gap = max(record.frontier_gap for record in records)
    most = max(len(record.frontier) for record in records)
    proven = f", proven but for {gap:.2g} of loss" if gap > LEAST_GAP else ""
    thinned = f", at {most} of its points, between which it may be lower"
    return READ_EXACT.format(gap=proven, thinned=thinned if most >= MOST_POINTS else "")


def of_regret(courses: Sequence[Course]) -> str:
    """How to read the regrets in a figure."""
    slack = max(course.at_most(0.0) for course in courses)
    best = "what is provably best"
    if slack > LEAST_GAP:
        best = f"the best that is known, which is proven but for {_percent(slack)}"
    return READ_REGRET.format(what=REGRETS[courses[0].measure], best=best)


def _percent(share: float) -> str:
    return "no feasible trial" if np.isnan(share) else f"{number(100 * round(share, 6))} %"


def _seeds(view: StudyView) -> str:
    """How sure the numbers are."""
    if view.evaluated == "model":
        return ""
    counts = {len(t.record.seeds) for t in view.trials if t.record is not None}
    if counts == {1}:
        return "One seed a trial: differences of a few hundredths may be chance."
    return "Means over seeds; do not tell apart trials that lie within each other's ±."


def spread(record: TrialRecord, measure: str) -> float | None:
    """Standard deviation of a measure over a trial's seeds; None for one seed."""
    values = [own[measure] for own in record.per_seed if measure in own]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def measure_text(record: TrialRecord, name: str) -> str:
    """What a trial measured, with its unit and the spread over seeds; see `shown_name`."""
    value, deviation = record.measures[name], spread(record, name)
    if name != ACCURACY_LOSS:
        return censored(record, name) or _with_spread(unit_of(name), value, deviation)
    if record.evaluated == "model":
        return f"{100 * value:.2f}"
    spread_text = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * (1 - value):.1f}{spread_text} %"


def _with_spread(unit: Unit, value: float, deviation: float | None) -> str:
    if deviation is None or deviation < _NO_SPREAD * abs(value):
        return unit.text(value)
    digits = float(f"{deviation:.2g}")
    if len(unit.prefixes) == 1:  # one unit behind both
        return f"{number(value)} ± {unit.text(digits)}"
    return f"{unit.text(value)} ± {unit.text(digits)}"


def shown_name(view: StudyView, name: str) -> str:
    """What `measure_text` shows of a measure: of a loss that was trained, the accuracy."""
    if name != ACCURACY_LOSS:
        return name_of(name)
    return "points of predicted loss" if view.evaluated == "model" else "deployed accuracy"


def unit_of(measure: str) -> Unit:
    """What a measure is counted in.

    Example:
        >>> unit_of("seconds_to_target").text(2.5), unit_of("uplink_bytes").text(2500)
        ('2.5 s', '2.5 kB')
    """
    return SECONDS if measure == TARGET_SECONDS else Unit.of(measure)


def name_of(measure: str) -> str:
    """A measure in words.

    Example:
        >>> name_of("round_seconds"), name_of("uplink_bytes")
        ('round time', 'uplink bytes')
    """
    return _NAMES.get(measure, measure.replace("_", " "))


def least_of(measure: str) -> str:
    """Who has the least of a measure.

    Example:
        >>> least_of("round_seconds"), least_of("accuracy_loss"), least_of("energy_joules")
        ('the fastest', 'the most accurate', 'the least energy joules')
    """
    return _BEST.get(measure, f"the least {name_of(measure)}")


def censored(record: TrialRecord, name: str) -> str:
    """That a time to the target is none, as it was not reached; empty for other measures."""
    if name != TARGET_SECONDS or not record.missed:
        return ""
    seeds = len(record.per_seed)
    often = f" with {record.missed} of {seeds} seeds" if seeds > 1 else ""
    return f"not reached{often}"


def value_text(value: object) -> str:
    """A parameter as text: few digits where they do not matter."""
    return number(value) if isinstance(value, float) else str(value)
