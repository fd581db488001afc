"""Verdicts and failures on settings whose courses are given."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.studies.headline.arms import COARSE, FINISHED, FOLLOWED, IN_PTQ_TIME, SAME_FINISH
from fedhq.studies.headline.best import held_out
from fedhq.studies.headline.course import Course
from fedhq.studies.headline.failures import LEARNED, Evidence, failures
from fedhq.studies.headline.grid import BOARDS, NOISY, PHONES, Cell, Ground
from fedhq.studies.headline.results import Setting
from fedhq.studies.headline.situation import measured_ratio
from fedhq.studies.headline.verdicts import judge

CELL = Cell(Ground("digits-mlp", 0.3, 0), 0.0, 2.0)
PLAIN = "time to target, fedhq with PTQ and QAT against all-QAT: best"


def course(*round_seconds, end=0.9):
    """A seed a number: all rise alike, each with rounds as long as it says."""
    rise = end * np.minimum(1, np.arange(1, 21) / 10)
    ends = np.array(round_seconds)[:, None] * np.arange(1, 21)
    return Course(ends, np.tile(rise, (len(round_seconds), 1)))


def evidence_of(*, fedhq=(2.0, 2.0, 2.0), **more):
    """All-QAT takes 3 s a round, all-PTQ 1 s and misses the target of .8."""
    count = len(fedhq)
    courses = {
        "all-PTQ": course(*(1.0,) * count, end=0.6),
        "all-QAT": course(*(3.0,) * count),
        FINISHED: course(*fedhq),
        SAME_FINISH: course(*fedhq),
        IN_PTQ_TIME: course(*(1.0,) * count, end=0.7),
        "coarse": course(*(2.0,) * count),
        **more,
    }
    same = dict.fromkeys(courses, 0.0)
    return Evidence([Setting(CELL, 2.0, 0.8, tuple(range(count)), courses, same)], [], [])


def verdict(evidence, claim):
    return next(v for v in judge(evidence) if v.claim == claim)


def test_what_a_wider_menu_gains_is_not_gained_by_ptq_and_qat():
    evidence = evidence_of(**{"coarse + skip": course(1.0, 1.0, 1.0)})
    assert verdict(evidence, PLAIN).outcome == "missed"
    assert "surest of 2 candidates" in verdict(evidence, PLAIN).found
    skip = verdict(evidence, "time to target, coarse + skip against all-QAT: best")
    wire = verdict(evidence, "time to target, coarse + wire bits against all-QAT: best")
    assert (skip.outcome, wire.outcome) == ("reached", "not measured")


def test_coarse_is_a_candidate_as_well():
    found = verdict(evidence_of(coarse=course(1.0, 1.0, 1.0)), PLAIN)
    assert found.outcome == "reached"
    assert "by coarse" in found.found
    assert "surest of 2 candidates" in found.found


def test_fleets_have_medians_of_their_own():
    phones, boards = (evidence_of(fedhq=(seconds,) * 3).settings[0] for seconds in (2.0, 2.5))
    boards = replace(boards, cell=replace(boards.cell, fleet=BOARDS))
    told = Evidence([phones, boards], [], [])
    for fleet, outcome in ((PHONES, "reached"), (BOARDS, "missed")):
        assert verdict(told, f"time to target, {fleet}: median").outcome == outcome
    few = [evidence_of(fedhq=(2.0, 2.0)).settings[0]]
    assert verdict(Evidence(few, [], []), f"time to target, {PHONES}: median").outcome == (
        "not measured"
    )
    alone = Evidence([phones], [], [])
    assert verdict(alone, f"time to target, {BOARDS}: median").outcome == "not measured"


def test_gains_over_all_ptq_are_those_of_what_takes_no_longer():
    claim = "accuracy in equal time, fedhq against all-PTQ: best"
    assert f"+10.0 points by {IN_PTQ_TIME}" in verdict(evidence_of(), claim).found


def test_where_both_miss_learning_did_not_fail():
    evidence = evidence_of(**{LEARNED: course(2.0, 2.0, 2.0, end=0.7)})
    (setting,) = evidence.settings
    noisy = replace(setting, cell=replace(CELL, clock=NOISY))
    late = [line for line in failures(Evidence([noisy], [], [])) if "learned" in line]
    assert len(late) == 1  # coarse gets there, learned does not
    missed = {**noisy.courses, COARSE: course(2.0, 2.0, 2.0, end=0.7)}
    both = Evidence([replace(noisy, courses=missed)], [], [])
    assert not [line for line in failures(both) if "learned" in line]
    claim = "learned against coarse, clock noisy"
    assert verdict(both, claim).outcome == "not measured"
    assert "both miss" in verdict(both, claim).found


def test_the_best_must_be_sure_and_not_lucky():
    assert verdict(evidence_of(fedhq=(1.0, 1.0, 1.0)), PLAIN).outcome == "reached"
    scattered = evidence_of(fedhq=(0.5, 1.0, 1.5))
    assert scattered.settings[0].ratios[FINISHED].value == pytest.approx(3.0)
    assert verdict(scattered, PLAIN).outcome == "missed"
    assert verdict(evidence_of(fedhq=(1.0, 1.0)), PLAIN).outcome == "not measured"


@pytest.mark.parametrize(
    ("followed", "outcome"),
    [
        (course(2.0, 2.0, 2.0), "reached"),
        (course(2.5, 2.5, 2.5), "missed"),
        (course(0.1, 0.1, 0.1, end=0.7), "missed"),  # short rounds that never get there
        (course(2.0, 2.0, 2.0, end=0.88), "missed"),
    ],
)
def test_what_ships_must_not_be_worse_than_coarse(followed, outcome):
    evidence = evidence_of(**{FOLLOWED: followed})
    found = verdict(evidence, f"{FOLLOWED}, against coarse")
    assert found.outcome == outcome
    assert any("told accuracy" in line for line in failures(evidence)) == (outcome == "missed")


def test_what_ships_is_not_judged_where_it_was_not_followed():
    assert verdict(evidence_of(), f"{FOLLOWED}, against coarse").outcome == "not measured"


def test_what_was_lucky_with_one_seed_is_judged_on_the_others():
    """Of two settings each seems the surest where its slow seed is left out."""
    first, second = (
        evidence_of(fedhq=seconds).settings[0] for seconds in ((1.0, 1.0, 3.0), (3.0, 1.0, 1.0))
    )
    found = verdict(Evidence([first, second], [], []), PLAIN)
    assert found.outcome == "missed"
    value = lambda s, arm, k: s.ratios[arm].seeds[k]  # noqa: E731
    worth = lambda s, arm: (s.over(arm, "all-QAT").low, 0.0)  # noqa: E731
    pairs = [(first, FINISHED), (second, FINISHED)]
    assert held_out(pairs, worth, value) == [1.0, 3.0, 1.0]
    assert held_out([(first.without(1).without(2), FINISHED)], worth, value) == []


def test_a_seed_with_which_both_miss_gains_nothing_wherever_it_stands():
    misses = course(1.0, 1.0, 1.0, end=0.5)
    for place in range(3):
        arms = evidence_of(fedhq=(1.0, 1.0, 1.0)).settings[0].courses
        told = {
            name: replace(arms[name], deployed=arms[name].deployed.copy())
            for name in ("all-QAT", FINISHED)
        }
        for arm in told.values():
            arm.deployed[place] = misses.deployed[place]
        setting = evidence_of(**told).settings[0]
        found = held_out(
            [(setting, FINISHED)],
            lambda s, arm: (s.over(arm, "all-QAT").low, 0.0),
            lambda s, arm, k: s.ratios[arm].seeds[k],
        )
        assert found == [0.0 if k == place else 3.0 for k in range(3)]


def test_a_measured_ratio_counts_as_what_it_is():
    """Fast QAT, measured: not among those of the median; slow QAT, measured: there."""
    setting = evidence_of().settings[0]
    claim = f"time to target, {PHONES}: median"
    for ratio, outcome in ((1.2, "not measured"), (2.2, "reached")):
        told = replace(setting, cell=replace(setting.cell, ratio=None), ratio=ratio)
        assert verdict(Evidence([told], [], []), claim).outcome == outcome
    assert 1.1 < measured_ratio("mnist5k-cnn") < measured_ratio("digits-mlp") < 3
