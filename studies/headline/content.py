"""What the report holds, as sections of text and tables: its page and record draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .arms import ARMS
from .failures import Evidence, failures
from .grid import EXACT
from .results import Setting
from .situation import measured_ratio
from .tables import (
    EFFECTS,
    Section,
    Table,
    arms_section,
    effects_section,
    gains_section,
    learning_sections,
    overheads_section,
    ratios_section,
    regrets_section,
    times_section,
)
from .targets import Targets
from .verdicts import Verdict
from .wanted import TARGET_SEEDS

GOALS = "Goals"
"""Title of the first section."""


def sections(evidence: Evidence, targets: Targets, verdicts: Sequence[Verdict]) -> list[Section]:
    """The whole report in its order; parts of which nothing is trained are left out."""
    exact, apart = evidence.with_clock(EXACT), _apart(evidence)
    parts = [_goals(verdicts), _setup(targets)]
    if exact:
        parts += [
            times_section(exact),
            gains_section(exact),
            arms_section(exact),
            ratios_section(exact),
        ]
    if apart:
        parts.append(effects_section(apart))
    parts += learning_sections(evidence)
    if evidence.regrets:
        parts.append(regrets_section(evidence))
    if evidence.overheads:
        parts.append(overheads_section(evidence))
    return [*parts, _failures(evidence)]


def seeds_told(settings: Sequence[Setting]) -> str:
    """How many seeds the settings of each task have, in words."""
    by_task: dict[str, set[int]] = {}
    for setting in settings:
        by_task.setdefault(setting.cell.ground.task, set()).add(len(setting.seeds))
    told = (
        f"{' or '.join(map(str, sorted(counts)))} of {task}" for task, counts in by_task.items()
    )
    return ", ".join(told) or "none"


def left_out(lacking: Mapping[str, int]) -> str:
    """What is not counted since arms are not trained there: a sentence, or nothing."""
    if not lacking:
        return ""
    arms = ", ".join(f"{arm} in {count} cells" for arm, count in lacking.items())
    return f"Not trained, so that the cell does not count: {arms}. "


def _apart(evidence: Evidence) -> list[Setting]:
    return [s for s in evidence.with_clock(EXACT) if EFFECTS.keys() & s.courses.keys()]


def _goals(verdicts: Sequence[Verdict]) -> Section:
    rows = tuple((v.claim, v.goal, v.outcome, v.found) for v in verdicts)
    return Section(GOALS, "", Table(("claim", "goal", "outcome", "found"), rows))


def _setup(targets: Targets) -> Section:
    text = (
        "Twenty clients, deployed at W2A2. Phones: thirds of the fleet are 5, 10 and 20 times "
        "slower than the machine of the step profile. Boards: five times as slow as that with the "
        "same links, so that their time is computing rather than sending. r is the time of a QAT "
        f"step over a float step's; measured, it is {_measured(targets)}. Tie +1 gives the slowest "
        "devices to those who hold the rarest classes, -1 the fastest. The target of a task and "
        "alpha is all-QAT's accuracy at the end with the seeds "
        f"{', '.join(map(str, TARGET_SEEDS))}, less .02, rounded down. That "
        "fedhq finishes, and for about how long, was chosen on runs of these seeds, and the loss "
        "model was fitted to others of them on the same tasks (`fedhq study validity`); nothing "
        "was chosen on the study's own seeds.\n\n"
        "Not everything is crossed with everything. Tasks, alphas, ties and r are; boards, arms "
        "that differ in one thing and clocks that are told wrongly are compared at one alpha "
        "only, the latter two on phones and at two r (in the small grid at one); the oracle's "
        "fleets are of MLPs.\n\n"
        "Times are simulated. Curves are averaged over the seeds round by round; the time to the "
        "target is that of the first round after which the mean of the last three is there. < and "
        "> stand at bounds, where an arm never gets there; a miss of fedhq counts as 0 in medians, "
        "and where learned and coarse both miss, that shows nothing of learning and is left out. "
        "Ranges of ratios hold 95 % of draws of the seeds with replacement: with five seeds they "
        "reach about as far as the seeds do, and the true figure is outside of more than 5 % of "
        "them. Those of differences are Student's t over the paired seeds. Beyond noise means "
        "outside of such a range. The best of many is picked by the low end of its range; the same "
        "figure is therefore also told of seeds that had no part in picking it. Training does not "
        "know of clocks, so that settings share runs, most of all those of all-QAT: what misses in "
        "one of them misses in all.\n\n" + "\n".join(f"- {arm.name}: {arm.says}" for arm in ARMS)
    )
    rows = tuple((task, f"{alpha:g}", f"{value:g}") for (task, alpha), value in targets.items())
    return Section("Setup", text, Table(("task", "alpha", "target"), rows))


def _measured(targets: Targets) -> str:
    tasks = dict.fromkeys(task for task, _ in targets)
    return ", ".join(f"{measured_ratio(task):.2f} ({task})" for task in tasks) or "not known here"


def _failures(evidence: Evidence) -> Section:
    told = failures(evidence)
    text = "\n".join(f"- {line}" for line in told) or "Nothing of the kind was found."
    return Section(f"Where it fails ({len(told)})", text)
