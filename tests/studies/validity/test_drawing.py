"""Allocations are drawn as the design says, and the grid is trained in balanced parts."""

import numpy as np
import pytest

from fedhq.studies.runs import RunSpec, task_settings
from fedhq.studies.validity.drawing import Kind, draw_allocations
from fedhq.studies.validity.grid import SETTINGS, Setting, trials_of

COUNTS = np.random.default_rng(0).multinomial(
    80, np.random.default_rng(1).dirichlet(np.full(10, 0.1), 20)
)


def test_draws_are_seeded():
    once, again = draw_allocations(COUNTS, (1, 2)), draw_allocations(COUNTS, (1, 2))
    assert once == again
    assert once != draw_allocations(COUNTS, (1, 3))


def test_biased_sets_leave_classes_out_that_random_sets_of_the_size_cover():
    worst = {Kind.RANDOM: [], Kind.BIASED: []}
    for seed in range(40):
        for drawn in draw_allocations(COUNTS, (seed,)):
            does = np.array([d == "qat" for d in drawn.does])
            if drawn.kind in worst and 6 <= does.sum() <= 12:
                coverage = does @ COUNTS / COUNTS.sum(axis=0).clip(min=1)
                worst[drawn.kind].append(coverage.min())
    assert np.mean(worst[Kind.BIASED]) < 0.6 * np.mean(worst[Kind.RANDOM])


def test_every_mixed_set_is_mixed_and_absences_are_of_qat():
    for seed in range(20):
        for drawn in draw_allocations(COUNTS, (seed,)):
            does = set(drawn.does)
            if drawn.kind in (Kind.RANDOM, Kind.BIASED):
                assert does == {"qat", "ptq"}
            if drawn.kind is Kind.ABSENT:
                assert does == {"qat", "skip"}


def test_bits_and_networks_of_a_data_set_have_the_same_allocations():
    settings = Setting("digits-mlp", 0.3, 2), Setting("digits-cnn", 0.3, 3)
    a, b = (trials_of(setting, 100) for setting in settings)
    assert [t.drawn for t in a] == [t.drawn for t in b]
    assert a[0].drawn.does != trials_of(Setting("digits-mlp", 0.1, 2), 100)[2].drawn.does


def test_references_are_the_runs_that_other_studies_ask_for():
    trial = next(
        t for t in trials_of(Setting("digits-mlp", 0.3, 2), 100) if t.drawn.kind is Kind.ALL_QAT
    )
    settings = task_settings("digits-mlp", alpha=0.3, bits=2, seed=100)
    assert trial.spec.key == RunSpec(settings, (("qat-w2a2",) * 20,)).key


def test_every_setting_has_as_many_random_allocations_as_was_asked():
    trials = trials_of(SETTINGS[0], 100)
    mixed = [t for t in trials if t.drawn.kind in (Kind.RANDOM, Kind.BIASED) and not t.repeat]
    assert 3 * len(mixed) >= 40
    assert sum(t.repeat for t in trials) == 5


@pytest.mark.parametrize("setting", SETTINGS[:3], ids=str)
def test_wires_change_uploads_only(setting):
    wires = [t for t in trials_of(setting, 100) if t.drawn.kind is Kind.WIRE]
    assert [t.spec.strategies for t in wires] == [
        (f"{setting.qat}-u2",),
        (f"{setting.qat}-u8",),
    ]
