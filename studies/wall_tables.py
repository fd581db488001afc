"""Tables of the wall-clock benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..allocator.arrays import FloatArray
from .goals import Goal
from .headline.course import TAIL, rounds_to
from .wall_runs import Course

_GOAL_TIMES = 2.47


@dataclass(frozen=True)
class Reached:
    """When a curve came to a target.

    Args:
        seconds: When; of one that never did, all its seconds.
        rounds: After how many rounds; of one that never did, all.
        is_there: Whether it did.
    """

    seconds: float
    rounds: int
    is_there: bool

    def __str__(self) -> str:
        return f"{'' if self.is_there else '> '}{self.seconds:.3g} s ({self.rounds})"


@dataclass(frozen=True)
class Ratio:
    """How many times as long a rival takes.

    Args:
        times: The quotient; not a number where neither gets there.
        bound: `>=` where the rival never gets there, `<=` where fedhq does not, else empty.
    """

    times: float
    bound: str

    def __str__(self) -> str:
        return "neither" if np.isnan(self.times) else f"{self.bound}{self.times:.2f}"


def reach(round_seconds: float, accuracy: FloatArray, target: float) -> Reached:
    """When a curve first settles at a target, as `rounds_to` has it.

    Args:
        round_seconds: Of a round.
        accuracy: `(rounds,)` after each.
        target: To reach.

    Example:
        >>> print(reach(1.5, np.array([0.2, 0.6, 0.7]), 0.5))
        4.5 s (3)
        >>> print(reach(1.5, np.array([0.2, 0.4]), 0.5))
        > 3 s (2)
    """
    rounds = rounds_to(accuracy, target)
    waited = len(accuracy) if rounds is None else rounds
    return Reached(waited * round_seconds, waited, rounds is not None)


def over(rival: Reached, ours: Reached) -> Ratio:
    """The ratio of two times, as a bound where one of them never got there.

    Neither: nothing is known, and the ratio is none.

    Example:
        >>> print(over(Reached(4.0, 4, False), Reached(2.0, 3, True)))
        >=2.00
    """
    if not (rival.is_there or ours.is_there):
        return Ratio(np.nan, "")
    bound = "" if rival.is_there and ours.is_there else ">=" if ours.is_there else "<="
    return Ratio(rival.seconds / ours.seconds, bound)


def mean_reach(course: Course, target: float) -> Reached:
    """When the curve averaged over the seeds comes to a target."""
    return reach(float(np.median(course.seconds)), course.deployed.mean(0), target)


def seed_ratios(rival: Course, ours: Course, target: float) -> list[Ratio]:
    """`(seeds,)` the ratios of the seeds' own curves."""
    return [
        over(theirs, own)
        for theirs, own in zip(
            *(_seed_reaches(course, target) for course in (rival, ours)), strict=True
        )
    ]


def _seed_reaches(course: Course, target: float) -> list[Reached]:
    medians = np.median(course.seconds, axis=1).tolist()
    return [reach(m, curve, target) for m, curve in zip(medians, course.deployed, strict=True)]


def find_course(courses: Sequence[Course], name: str) -> Course | None:
    """The course of a contestant, if it ran."""
    return next((course for course in courses if course.contestant.name == name), None)


def _ours_of(courses: Sequence[Course], name: str) -> Course:
    course = find_course(courses, name)
    assert course is not None
    return course


def _complete(courses: Sequence[Course]) -> list[Course]:
    """Those that trained all rounds."""
    most = max(course.seconds.shape[1] for course in courses)
    return [course for course in courses if course.seconds.shape[1] == most]


def targets_table(courses: Sequence[Course], targets: Sequence[float], ours: str) -> str:
    """Seconds (and rounds) to every target, and over fedhq's.

    Args:
        courses: Of a cell.
        targets: Deployed accuracies.
        ours: The contestant that ratios are over.
    """
    own = _ours_of(courses, ours)
    head = [part for t in targets for part in (f"to {t:.0%}", "over fedhq")]
    lines = [f"| contestant | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]
    for course in _complete(courses):
        cells = []
        for target in targets:
            ratio = "1" if course is own else _with_spread(course, own, target)
            cells += [str(mean_reach(course, target)), ratio]
        lines.append(f"| {course.contestant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_spread(course: Course, own: Course, target: float) -> str:
    ratio = over(mean_reach(course, target), mean_reach(own, target))
    seeds = [r for r in seed_ratios(course, own, target) if not np.isnan(r.times)]
    if not seeds:
        return str(ratio)
    low, high = (f(seeds, key=lambda r: r.times) for f in (min, max))
    return f"{ratio} [{low} ... {high}]"


def rounds_table(courses: Sequence[Course], ours: str) -> str:
    """Seconds of a round here and on the fleet, and accuracies at the end.

    Of who trained fewer rounds only the ratio is told, over those that both trained.

    Args:
        courses: Of a cell.
        ours: The contestant that ratios are over.
    """
    own = _ours_of(courses, ours)
    head = (
        "contestant", "s a round", "over fedhq", "slowest device, s", "over fedhq",
        "deployed at the end", "shipped by fedhq", "clients on QAT",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for course in courses:
        whole = course.seconds.shape == own.seconds.shape
        cells = [
            f"{np.median(course.seconds):.3g}" if whole else "",
            f"{_paired(course, own):.2f}",
            f"{course.slowest_seconds.mean():.3g}" if whole else "",
            f"{(course.slowest_seconds / own.slowest_seconds).mean():.2f}" if whole else "",
            _accuracy(course.deployed) if whole else "",
            _accuracy(course.shipped) if whole else "",
            f"{course.qat_share.mean():.0%}",
        ]
        lines.append(f"| {course.contestant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _paired(course: Course, other: Course) -> float:
    """The median over rounds that both trained of the ratio of their seconds."""
    rounds = min(course.seconds.shape[1], other.seconds.shape[1])
    return float(np.median(course.seconds[:, :rounds] / other.seconds[:, :rounds]))


def _accuracy(accuracies: FloatArray) -> str:
    """Mean over the last rounds; mean and standard deviation over the seeds."""
    ends = accuracies[:, -TAIL:].mean(1)
    spread = f" ± {ends.std(ddof=1):.3f}" if len(ends) > 1 else ""
    return f"{ends.mean():.3f}{spread}"


def effects_table(courses: Sequence[Course], names: Sequence[str], one_by_one: str) -> str:
    """What makes a round of fedhq faster than the first rival's, each effect by itself.

    Args:
        courses: Of a cell.
        names: The rival; it with fedhq's pools (may be missing); fedhq all-QAT; fedhq.
        one_by_one: What follows the names of fedhq where clients are not stacked.
    """
    rival, pools, qat, hybrid = (
        find_course(courses, name + one_by_one) or find_course(courses, name) for name in names
    )
    stacked = find_course(courses, names[-1])
    chain = [
        ("max pooling", rival, pools),
        ("fake quantization, optimizer and loop", pools or rival, qat),
        ("allocation: fewer clients on QAT", qat, hybrid),
        ("clients stacked", hybrid, None if stacked is hybrid else stacked),
        ("all", rival, stacked),
    ]
    lines = ["| effect on the seconds of a round | times faster |", "|---|---:|"]
    for name, before, after in chain:
        if before is not None and after is not None:
            lines.append(f"| {name} | {_paired(before, after):.2f} |")
    return "\n".join(lines)


def goal_lines(cells: Mapping[str, tuple[Sequence[float], Sequence[Course]]], ours: str) -> str:
    """Whether each rival takes as many times as long as is asked, over cells and targets.

    Args:
        cells: Title to targets and courses.
        ours: The contestant that ratios are over.
    """
    lines = ["| rival | asked | best | median | worst | outcome |", "|---|---|---:|---:|---:|---|"]
    rivals = {
        course.contestant.name: None
        for _, courses in cells.values()
        for course in courses
        if course.contestant.is_rival
    }
    for name in rivals:
        goal = Goal(f"wall-clock of {name} over fedhq", _GOAL_TIMES, "x", at_least=True)
        figures = list(_figures(cells, name, ours))
        if figures:
            verdict = goal.judge(*figures)
            cells_ = goal.ask, goal.say(max(figures)), goal.say(verdict.median)
            rest = goal.say(verdict.worst), f"**{verdict.outcome}**"
            lines.append(f"| {name} | {' | '.join([*cells_, *rest])} |")
    return "\n".join(lines)


def _figures(
    cells: Mapping[str, tuple[Sequence[float], Sequence[Course]]], name: str, ours: str
) -> Iterator[float]:
    for targets, courses in cells.values():
        rival, own = find_course(courses, name), _ours_of(courses, ours)
        for target in targets if rival is not None else ():
            assert rival is not None
            ratio = over(mean_reach(rival, target), mean_reach(own, target))
            # Where fedhq fails it is no faster, whatever becomes of the rival.
            yield 0.0 if ratio.bound == "<=" or np.isnan(ratio.times) else ratio.times
