"""Cells, arms and what they decide, on real data of the cheapest task."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import fitted_loss
from fedhq.studies.headline import decisions as decisions_module
from fedhq.studies.headline import situation as situations
from fedhq.studies.headline.arms import ARMS, FINISHED, IN_PTQ_TIME, SAME_FINISH, UNSURE_ARMS
from fedhq.studies.headline.decisions import DECISIONS_FILE, Decision, Decisions, decide
from fedhq.studies.headline.grid import (
    BOARDS,
    EXACT,
    MISTOLD,
    NOISY,
    SLOWING,
    SMALL,
    WHOLE,
    Cell,
    Grid,
    Ground,
)
from fedhq.studies.headline.plans import (
    PTQ,
    QAT,
    coarse,
    constant,
    hardware_only,
    learned,
    round_seconds,
)
from fedhq.studies.headline.situation import Situation
from fedhq.studies.headline.wanted import TARGET_SEEDS, batches
from fedhq.studies.runs import RunSpec
from fedhq.studies.runs.training import train_run

GROUND = Ground("digits-mlp", 0.3, 0)
TINY = Grid(
    tasks=("digits-mlp",),
    alphas=(0.3,),
    correlations=(1.0,),
    ratios=(2.0,),
    seeds=(0, 1),
    apart_alphas=(),
    apart_ratios=(),
    oracle=None,
)


def arm(name):
    return next(a for a in ARMS if a.name == name)


def mean_round(situation, plan, **more):
    return float(np.mean(round_seconds(situation, plan, **more)))


@pytest.fixture(scope="module")
def told():
    return Situation.of(Cell(GROUND, 1.0, 3.0))


def test_no_arm_of_ptq_and_qat_beats_the_ceiling(told):
    least, most = (mean_round(told, constant(s)(told)) for s in (PTQ, QAT))
    assert most / least > 1.3
    for name in ("coarse", "random hybrid", "hardware-only", "late QAT, half", "data-only, rare"):
        assert least - 1e-12 <= mean_round(told, arm(name).decide(told)) <= most + 1e-12


def test_hardware_only_delays_nobody_and_trains_all_that_it_can_with_qat(told):
    plan = arm("hardware-only").decide(told)
    least = mean_round(told, constant(PTQ)(told))
    assert mean_round(told, plan) == pytest.approx(least)
    for i, text in enumerate(plan[0]):
        more = (*plan[0][:i], QAT, *plan[0][i + 1 :])
        assert text == QAT or mean_round(told, (more,)) > least


def test_a_finish_is_all_qat_after_rounds_that_qat_does_not_delay(told):
    plan, fast = arm(FINISHED).decide(told), mean_round(told, constant(PTQ)(told))
    late = round(0.25 * told.rounds)
    assert set(plan[-late:]) == {(QAT,) * 20}
    assert len(set(plan[:-late])) == 1
    assert 0 < plan[0].count(QAT) < 20
    assert plan[0] == hardware_only(told)[0]  # so the report says
    assert round_seconds(told, plan)[0] == pytest.approx(fast)
    same = arm(SAME_FINISH).decide(told)
    assert round_seconds(told, same) == pytest.approx(round_seconds(told, plan))


def test_what_fits_into_all_ptqs_time_takes_no_longer_and_trains_with_qat(told):
    plan = arm(IN_PTQ_TIME).decide(told)
    limit = sum(round_seconds(told, constant(PTQ)(told)))
    assert sum(round_seconds(told, plan)) <= limit * (1 + 1e-9)
    assert set(plan) == set(hardware_only(told))  # so the report says


def test_fewer_rounds_are_a_federation_of_their_own(told):
    short = told.shortened(0.7)
    plan = arm("all-QAT, fewer rounds").decide(short)
    seconds = round_seconds(short, plan)
    assert len(seconds) == short.rounds == round(0.7 * told.rounds)
    decision = Decision.of(told.cell, "any", plan, seconds)
    assert decision.spec(GROUND).settings.training.rounds == short.rounds
    assert decision.key != Decision.of(told.cell, "any", plan, round_seconds(told, plan)).key


def test_boards_compute_five_times_slower_and_send_as_phones_do(told):
    boards = Situation.of(replace(told.cell, fleet=BOARDS))
    by_bits = [str(s) for s in situations.MENU]
    two, four = by_bits.index("ptq-w2a2-u2"), by_bits.index(PTQ)
    sending = told.told.seconds[:, four] - told.told.seconds[:, two]
    assert boards.told.seconds[:, four] - boards.told.seconds[:, two] == pytest.approx(sending)
    qat = by_bits.index(QAT)
    slower = (boards.told.seconds - told.told.seconds)[:, qat]
    steps = (told.told.seconds[:, qat] - told.told.seconds[:, four]) / 2  # of 3 float steps
    assert slower == pytest.approx(4 * 3 * steps, rel=1e-6)


def test_rivals_have_as_many_qat_clients_as_coarse(told):
    count = coarse(told)[0].count(QAT)
    assert 0 < count < 20
    for name in ("random hybrid", "data-only, common", "data-only, rare"):
        assert arm(name).decide(told)[0].count(QAT) == count


def test_the_ratio_is_that_of_qat_steps_to_float_steps():
    slow, measured = (Situation.of(Cell(GROUND, 0.0, r)) for r in (3.0, None))
    table = {str(s): k for k, s in enumerate(situations.MENU)}
    for one in (slow, measured):  # transfers are alike, so that differences are steps alone
        assert one.told.seconds[:, table[PTQ]] == pytest.approx(slow.told.seconds[:, table[PTQ]])
    steps = slow.told.seconds[:, table[QAT]] - slow.told.seconds[:, table[PTQ]]
    twice = Situation.of(Cell(GROUND, 0.0, 2.0))
    half = twice.told.seconds[:, table[QAT]] - twice.told.seconds[:, table[PTQ]]
    assert steps == pytest.approx(2 * half)


def test_bits_by_speed_makes_steps_alike_on_devices_with_low_bit_units(told):
    plan = arm("bits by speed").decide(told)
    by_class = dict(zip(told.device_classes, plan[0], strict=True))
    assert by_class == {"fast": "qat-w8a8", "medium": "qat-w4a4", "slow": QAT}
    assert mean_round(told, plan, low_bit=True) < mean_round(told, constant(PTQ)(told))
    assert mean_round(told, plan) == pytest.approx(mean_round(told, constant(QAT)(told)), rel=0.01)


def test_learning_changes_nothing_where_all_is_as_told(told):
    assert set(learned(told)) == set(coarse(told))


def test_mistold_classes_are_told_the_slowest_for_the_fastest():
    mistold = Situation.of(Cell(GROUND, 0.0, 2.0, MISTOLD))
    is_slow = np.array(mistold.device_classes) == "slow"
    ptq = [str(s) for s in situations.MENU].index(PTQ)
    order = np.argsort(mistold.told.seconds[:, ptq] / mistold.real.seconds[:, ptq])
    assert set(order[: is_slow.sum()]) == set(np.flatnonzero(is_slow))
    by_coarse, by_learned = (round_seconds(mistold, plan(mistold)) for plan in (coarse, learned))
    assert by_learned[0] == by_coarse[0]  # nothing is known yet
    assert np.mean(by_learned[5:]) < np.mean(by_coarse[5:])


def test_slowing_devices_take_longer_from_their_round_on_and_are_found_out():
    slowing = Situation.of(Cell(GROUND, 0.0, 2.0, SLOWING))
    before, after = slowing.turns_at - 1, slowing.turns_at
    scatter = Situation.of(Cell(GROUND, 0.0, 2.0, NOISY))
    column = [str(s) for s in situations.MENU].index(QAT)
    slower, alike = (
        s.seconds(after)[:, column] / s.seconds(before)[:, column] for s in (slowing, scatter)
    )
    is_medium = np.array(slowing.device_classes) == "medium"
    assert (slower[is_medium] / alike[is_medium] > 1.3).all()
    assert slower[~is_medium] == pytest.approx(alike[~is_medium])
    late = slice(after + 3, None)
    by_coarse, by_learned = (round_seconds(slowing, plan(slowing)) for plan in (coarse, learned))
    assert np.mean(by_learned[late]) < np.mean(by_coarse[late])


def test_a_decision_tells_its_plan_and_trains_the_run_of_its_key(told):
    for plan in (coarse(told), arm("late QAT, half").decide(told)):
        decision = Decision.of(told.cell, "any", plan, round_seconds(told, plan))
        rounds = [decision.plan[0 if len(decision.plan) == 1 else k] for k in range(20)]
        assert rounds == [plan[0 if len(plan) == 1 else k] for k in range(20)]
        assert decision.spec(GROUND).key == decision.key


def test_deciding_resumes_after_a_torn_line_and_repeats_itself(tmp_path, monkeypatch):
    made = decide(TINY, GROUND)
    assert decide(TINY, GROUND) == made
    assert [d.arm for d in made] == [a.name for a in ARMS if a.kind == "main"]
    decisions = Decisions(tmp_path)
    decisions.keep(made)
    path = tmp_path / DECISIONS_FILE
    path.write_bytes(path.read_bytes()[:-40])
    again = Decisions(tmp_path)
    known = again.of(Cell(GROUND, 1.0, 2.0))
    assert known == made[:-1]
    missing = decide(TINY, GROUND, frozenset((d.cell, d.arm) for d in known))
    assert missing == made[-1:]
    again.keep(missing)  # after the torn line, which is left where it is
    assert Decisions(tmp_path).of(Cell(GROUND, 1.0, 2.0)) == made


def test_decisions_by_another_fitted_loss_do_not_count(tmp_path, monkeypatch):
    kept = Decisions(tmp_path)
    kept.keep(decide(TINY, GROUND))
    cell = Cell(GROUND, 1.0, 2.0)
    assert Decisions(tmp_path).of(cell)
    told = replace(fitted_loss(), origin="told otherwise")  # the same loss
    monkeypatch.setattr(decisions_module, "fitted_loss", lambda: told)
    assert Decisions(tmp_path).of(cell)
    path = tmp_path / DECISIONS_FILE
    older = {"cell": cell.name, "arm": "coarse", "version": "0-of-yore"}
    path.write_text(path.read_text("utf-8") + json.dumps(older) + "\n", "utf-8")
    assert Decisions(tmp_path).of(cell)
    other = replace(fitted_loss(), rule_loss=0.02)
    monkeypatch.setattr(decisions_module, "fitted_loss", lambda: other)
    assert not Decisions(tmp_path).of(cell)


def test_runs_are_trained_seed_by_seed_and_targets_by_other_seeds(tmp_path):
    decisions = Decisions(tmp_path)
    for seed in TINY.seeds:
        decisions.keep(decide(TINY, replace(GROUND, seed=seed)))
    wanted = batches(TINY, decisions)
    by_seed = [f"digits-mlp, seed {seed}" for seed in TINY.seeds]
    assert [b.name for b in wanted] == ["targets, digits-mlp", *by_seed]
    keys = [spec.key for batch in wanted for spec in batch.specs]
    assert len(keys) == len(set(keys))
    assert [s.settings.seed for s in wanted[0].specs] == list(TARGET_SEEDS)
    assert not set(TARGET_SEEDS) & set(WHOLE.seeds)


def test_cells_of_a_grid_are_named_apart():
    for grid in (SMALL, WHOLE):
        names = [c.name for g in grid.grounds(grid.seeds) for c in grid.cells(g)]
        assert len(names) == len(set(names))
    clocks = {c.clock for c in SMALL.cells(GROUND)}
    assert clocks == {EXACT, NOISY, MISTOLD, SLOWING}
    assert set(UNSURE_ARMS) <= {a.name for a in ARMS}


def test_rounds_train_by_what_was_decided_before_them_alone():
    """What `following` rests on: another plan from round 3 on leaves rounds 1 and 2 as they are."""
    whole = situations.ground_settings(GROUND)
    short = replace(whole, training=replace(whole.training, rounds=4, local_epochs=1))
    mixed = (PTQ, QAT) * 10
    first, second = (
        train_run(RunSpec(short, (mixed, mixed, row, row)))
        for row in ((QAT,) * 20, ("qat-w2a2-u2",) * 20)
    )
    for name in ("deployed", "in_float", "server_deployed", "server_in_float"):
        one, other = getattr(first, name), getattr(second, name)
        assert one[:2] == other[:2]
    assert first.deployed[2:] != second.deployed[2:]
