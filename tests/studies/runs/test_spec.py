"""A run's key: alike where training is alike, another where anything that is trained changes."""

from dataclasses import replace

import pytest

from fedhq.fl_core.settings import (
    AvailabilitySettings,
    FleetSettings,
    ParticipationSettings,
)
from fedhq.studies.runs import TASKS, RunSpec, task_settings

SETTINGS = task_settings("digits-mlp", alpha=0.3, bits=2, seed=0)
MIXED = ("ptq-w2a2",) * 10 + ("qat-w2a2",) * 10


def test_the_clock_is_no_part_of_a_run():
    slow = replace(
        SETTINGS, fleet=FleetSettings(kind="lognormal", skew_correlation=1.0), menu=("fp32",)
    )
    assert (
        RunSpec(slow, (MIXED,)).key
        == RunSpec(replace(slow, profile="mine.json"), (MIXED,) * 20).key
    )
    assert RunSpec(slow, (MIXED,)).key == RunSpec(SETTINGS, (MIXED,)).key


@pytest.mark.parametrize(
    "other",
    [
        RunSpec(SETTINGS, (MIXED[::-1],)),
        RunSpec(SETTINGS, (MIXED,) * 19 + (MIXED[::-1],)),
        RunSpec(SETTINGS, (MIXED[::-1],) + (MIXED,) * 19),
        RunSpec(SETTINGS, (MIXED,), repeat=1),
        RunSpec(replace(SETTINGS, seed=1), (MIXED,)),
        RunSpec(replace(SETTINGS, weight_bits=3), (MIXED,)),
        RunSpec(task_settings("digits-mlp", alpha=0.1, bits=2, seed=0), (MIXED,)),
        RunSpec(replace(SETTINGS, training=replace(SETTINGS.training, momentum=0.8)), (MIXED,)),
    ],
)
def test_whatever_is_trained_otherwise_has_another_key(other):
    assert other.key != RunSpec(SETTINGS, (MIXED,)).key


def test_float_training_is_one_whatever_it_is_called():
    ptq, fp32 = RunSpec(SETTINGS, (("ptq-w2a2",) * 20,)), RunSpec(SETTINGS, (("fp32",) * 20,))
    assert ptq.key == RunSpec(SETTINGS, (("ptq-w4a4",) * 20,)).key
    assert ptq.key != fp32.key == RunSpec(SETTINGS, (("ptq-w2a2-u32",) * 20,)).key


def test_all_tasks_have_settings_of_their_own():
    keys = {
        RunSpec(task_settings(task, alpha=0.3, bits=2, seed=0), (("skip",),)).key for task in TASKS
    }
    assert len(keys) == len(TASKS)


def test_a_plan_of_another_number_of_rounds_is_refused():
    with pytest.raises(ValueError, match="one row of strategies or 20"):
        RunSpec(SETTINGS, (MIXED,) * 3)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SETTINGS, participation=ParticipationSettings(deadline_seconds=9.0)),
        replace(
            SETTINGS,
            fleet=FleetSettings(kind="lognormal", availability=AvailabilitySettings(0.5)),
        ),
    ],
)
def test_settings_that_make_the_clock_matter_are_refused(changed):
    with pytest.raises(ValueError, match="must not depend on the clock"):
        RunSpec(changed, (MIXED,))


def test_a_key_stays_what_it_is():
    """Recorded runs are found by it: a change of keys would lose them all."""
    assert RunSpec(SETTINGS, (MIXED,)).key == "d1b68cbf572f83bd"
