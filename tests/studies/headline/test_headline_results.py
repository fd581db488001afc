"""Targets, settings, regrets, verdicts and pages of invented runs."""

import json
from dataclasses import replace
from itertools import pairwise, product
from typing import ClassVar

import numpy as np
import pytest
from invented_runs import InventedStore, qat_share

from fedhq.studies.headline import command
from fedhq.studies.headline.arms import FINISHED, FOLLOWED
from fedhq.studies.headline.content import left_out, sections, seeds_told
from fedhq.studies.headline.course import Ratio
from fedhq.studies.headline.decisions import Decisions, decide
from fedhq.studies.headline.failures import Evidence, failures, is_slower
from fedhq.studies.headline.grid import NOISY, Cell, Grid, Ground, OracleGrid
from fedhq.studies.headline.markdown import markdown
from fedhq.studies.headline.oracle import PRICES, Regret, by_table, regrets
from fedhq.studies.headline.overhead import Overhead
from fedhq.studies.headline.results import lacking, read_settings
from fedhq.studies.headline.tables import arms_section
from fedhq.studies.headline.targets import TARGETS_FILE, preset_targets
from fedhq.studies.headline.verdicts import judge
from fedhq.studies.headline.wanted import batches

PLACE = ("digits-mlp", 0.3)
GRID = Grid(
    tasks=("digits-mlp",),
    alphas=(0.3,),
    correlations=(0.0,),
    ratios=(2.0,),
    seeds=(0, 1, 2),
    apart_alphas=(),
    apart_ratios=(),
    oracle=OracleGrid((PLACE,), seeds=(0,), repeats=2),
)


@pytest.fixture(scope="module")
def decisions(tmp_path_factory):
    kept = Decisions(tmp_path_factory.mktemp("decisions"))
    for ground in GRID.grounds(GRID.seeds):
        kept.keep(decide(GRID, ground))
    return kept


def some_is_enough(spec):
    """Any hybrid is as accurate as all-QAT."""
    return 0.9 if qat_share(spec) > 0 else 0.6


def evidence_of(decisions, end, folder):
    store = InventedStore(end)
    targets = preset_targets(GRID, store, folder)
    settings = read_settings(GRID, decisions, store, targets)
    return Evidence(settings, [], [Overhead("digits-mlp", 0.001, 1.0)]), targets


def outcomes(evidence):
    return {v.claim: v.outcome for v in judge(evidence)}


def test_targets_are_rounded_down_and_stay_whatever_is_trained_later(tmp_path):
    assert preset_targets(GRID, InventedStore(lambda _: None), tmp_path) == {}
    assert preset_targets(GRID, InventedStore(lambda _: 0.8999), tmp_path) == {PLACE: 0.87}
    assert preset_targets(GRID, InventedStore(lambda _: 0.5), tmp_path) == {PLACE: 0.87}
    assert json.loads((tmp_path / TARGETS_FILE).read_text()) == {"digits-mlp": {"0.3": 0.87}}


def test_hybrids_as_accurate_as_all_qat_reach_their_ceiling(decisions, tmp_path):
    evidence, targets = evidence_of(decisions, some_is_enough, tmp_path)
    (setting,) = evidence.settings
    hardware = setting.ratios["hardware-only"]
    assert hardware.value == pytest.approx(setting.ceiling)
    assert setting.ratios["all-QAT"].value == 1.0
    assert setting.ratios["all-PTQ"].kind == "<"
    assert setting.gains["hardware-only"].mean == pytest.approx(0.3)
    assert failures(evidence) == []
    assert outcomes(evidence)["time to target, phones: share of the ceiling"] == "reached"
    assert outcomes(evidence)["accuracy in equal time, fedhq against all-PTQ: best"] == "reached"
    text = markdown("T", "made up", sections(evidence, targets, judge(evidence)))
    assert "## Where it fails (0)" in text
    assert f"of {setting.ceiling:.2f}" in text


def test_a_miss_of_fedhq_is_told_and_counts(decisions, tmp_path):
    end = lambda spec: 0.9 if qat_share(spec) == 1 else 0.6  # noqa: E731
    evidence, _ = evidence_of(decisions, end, tmp_path)
    assert evidence.settings[0].ratios[FINISHED].kind == "<"
    assert outcomes(evidence)["time to target, phones: median"] == "missed"
    assert outcomes(evidence)["time to target: worst"] == "missed"
    assert any("missed the target" in line for line in failures(evidence))


def test_harm_beyond_noise_is_found(decisions, tmp_path):
    """Hybrids that are worse than all-PTQ, in each seed alike."""
    end = lambda spec: {0.0: 0.7, 1.0: 0.9}.get(qat_share(spec), 0.5)  # noqa: E731
    evidence, _ = evidence_of(decisions, end, tmp_path)
    assert outcomes(evidence)["accuracy in equal time: worst"] == "missed"
    assert any("less accurate than all-PTQ" in line for line in failures(evidence))


def test_a_miss_in_short_rounds_is_slower_though_its_bound_is_above_1():
    assert is_slower(Ratio(1.3, "<", 0.0, 1.4, (0.0, 0.0, 0.0)))
    assert not is_slower(Ratio(0.9, "=", 0.8, 1.1, (0.9, 0.9, 0.9)))


def test_where_both_miss_nothing_is_shown(decisions, tmp_path):
    evidence, _ = evidence_of(decisions, lambda _: 0.6, tmp_path)
    (setting,) = evidence.settings
    lost = Evidence([replace(setting, target=0.9)], [], [])
    assert outcomes(lost)["time to target: worst"] == "not measured"


def test_what_holds_everywhere_is_not_shown_by_two_seeds(decisions, tmp_path):
    def end(spec):
        is_new = spec.settings.seed == 2
        return None if is_new else some_is_enough(spec)

    whole, _ = evidence_of(decisions, some_is_enough, tmp_path)
    part, _ = evidence_of(decisions, end, tmp_path)
    for claim in ("time to target: worst", "accuracy in equal time: worst"):
        assert outcomes(whole)[claim] == "reached"
        assert outcomes(part)[claim] == "not measured"


def test_a_seed_that_is_not_wholly_trained_does_not_count(decisions, tmp_path):
    def end(spec):
        return None if spec.settings.seed == 1 and qat_share(spec) == 0 else some_is_enough(spec)

    evidence, _ = evidence_of(decisions, end, tmp_path)
    assert [s.seeds for s in evidence.settings] == [(0, 2)]


def test_seeds_that_lack_an_arm_do_not_count_and_the_record_says_so(decisions, tmp_path):
    """Seed 0 is trained but for all-PTQ; seed 1 not at all."""
    lacks = {
        decisions.find(Cell(Ground(*PLACE, 0), 0.0, 2.0), "all-PTQ").spec(Ground(*PLACE, 0)).key
    }

    def end(spec):
        return None if spec.key in lacks or spec.settings.seed == 1 else 0.9

    store = InventedStore(end)
    (setting,) = read_settings(GRID, decisions, store, {PLACE: 0.8})
    assert setting.seeds == (2,)
    assert seeds_told([setting]) == "1 of digits-mlp"
    assert lacking(GRID, decisions, store) == {"all-PTQ": 1}
    assert "all-PTQ in 1 cells" in left_out(lacking(GRID, decisions, store))
    assert left_out(lacking(GRID, decisions, InventedStore(lambda _: 0.9))) == ""


def test_a_curve_that_misses_in_many_settings_is_one_curve(decisions, tmp_path):
    targets = {PLACE: 0.95}
    (setting,) = read_settings(GRID, decisions, InventedStore(some_is_enough), targets)
    two = [setting, replace(setting, cell=replace(setting.cell, fleet="boards"))]
    rows = {row[0]: row for row in arms_section(two).table.rows}
    assert rows["all-QAT"][4:6] == ("2 of 2", "1 of 1")


def test_nothing_trained_is_not_measured(tmp_path):
    verdicts = judge(Evidence([], [], []))
    assert {v.outcome for v in verdicts} == {"not measured", "elsewhere"}
    text = markdown("T", "", sections(Evidence([], [], []), {}, verdicts))
    assert "not measured" in text


def test_regret_is_none_to_oneself_and_noise_flatters_the_oracle():
    """Accuracy is the share of QAT, and noise: as in training, another one each time."""

    def end(spec):
        row = spec.plan[0]
        noise = np.random.default_rng([spec.repeat, *(t == "qat-w2a2" for t in row)])
        return 0.5 + 0.3 * min(1.0, 2 * qat_share(spec)) + 0.02 * noise.standard_normal()

    found = regrets(GRID, InventedStore(end))
    assert len(found) == len(PRICES) * len({r.arm for r in found})
    assert all(r.optimistic >= 0 for r in found)
    by_arm = {(r.arm, r.price): r for r in found}
    dear = max(PRICES)
    assert by_arm["all-PTQ", dear].judged > by_arm["fedhq", dear].judged
    optimistic, judged = (
        np.mean([getattr(r, kind) for r in found if r.arm != "all-PTQ"])
        for kind in ("optimistic", "judged")
    )
    assert optimistic > judged
    verdict = next(v for v in judge(Evidence([], found, [])) if v.claim == "regret to the oracle")
    assert "of 1 trained tables" in verdict.found
    mine = [r for r in found if r.arm == "fedhq"]
    assert f"in {sum(r.has_price for r in mine)} of {len(PRICES)} programs" in verdict.found
    needed = regrets(GRID, InventedStore(lambda spec: 0.9 if qat_share(spec) == 1 else 0.3))
    assert all(r.has_price for r in needed if r.price == dear)


def test_programs_of_one_table_count_once():
    ground = Ground("digits-mlp", 0.3, 0)
    cells = [Cell(ground, tie, 2.0) for tie in (-1.0, 0.0, 1.0)]
    cells.append(Cell(replace(ground, seed=1), 0.0, 2.0))
    judged = [0.0, 0.0, 0.03, 0.2]

    def made(flattery):
        return [
            Regret(cell, 10.0, arm, j + flattery, j, True)
            for cell, j in zip(cells, judged, strict=True)
            for arm in ("fedhq", "hardware-only")
        ]

    def verdict(found):
        claims = judge(Evidence([], found, []))
        return next(v for v in claims if v.claim == "regret to the oracle")

    assert by_table(made(0.0), "fedhq", lambda r: r.judged) == pytest.approx([0.0, 0.2])
    assert verdict(made(0.1)).outcome == "missed"
    assert "between 10.0% and 20.0% in the median of 2 trained tables" in verdict(made(0.1)).found
    one = [r for r in made(0.1) if r.cell.ground.seed == 0]
    assert verdict(one).outcome == "not shown"  # 0 % by one oracle, 10 % by the other
    assert verdict([r for r in made(0.01) if r.cell.ground.seed == 0]).outcome == "reached"


def test_the_oracle_itself_has_no_regret():
    """Where accuracy says nothing, the fastest is best: all-PTQ, with nothing to learn."""
    found = regrets(GRID, InventedStore(lambda _: 0.8))
    for regret, price in product(found, PRICES):
        assert not regret.has_price
        if regret.arm in ("all-PTQ", "hardware-only") and regret.price == price:
            assert (regret.optimistic, regret.judged) == pytest.approx((0, 0))
    assert min(r.judged for r in found if r.arm == "all-QAT") > 0.1


def test_a_cell_says_what_it_is():
    cell = Cell(Ground("digits-mlp", 0.1, 3), -1.0, 1.5, NOISY)
    assert cell.name == "digits-mlp alpha 0.1, phones, tie -1, r 1.5, noisy, seed 3"


def test_the_command_reports_on_what_is_there_and_refuses_what_cannot_be(
    tmp_path, monkeypatch, capsys
):
    from fedhq.studies.entry import main
    from fedhq.studies.headline import grid, overhead

    small = Grid(GRID.tasks, GRID.alphas, (0.0,), (2.0,), (0,), (), (), None)
    monkeypatch.setitem(grid.GRIDS, "small", small)
    monkeypatch.setattr(overhead, "measure_overheads", lambda _: [])
    kept = Decisions(tmp_path)
    kept.keep(decide(small, small.grounds([0])[0]))
    asked = ["study", "headline", "--out", str(tmp_path), "--quiet"]
    assert main([*asked, "--dry-run"]) == 0
    assert "core-hours to train" in capsys.readouterr().out
    assert main([*asked, "--no-training"]) == 0
    assert "not measured: time to target" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Where it fails" in page
    assert "<code>studies/wall.md</code>" in page
    assert "0 trained runs, 0.0 core-hours; seeds: none." in page
    assert main([*asked, "--no-training", "--recorded"]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    distinct = {spec.key for batch in batches(small, kept) for spec in batch.specs}
    told = (
        f"1 settings, {len(distinct)} trained runs, 0.0 core-hours; seeds: 1 of digits-mlp. Written"
    )
    assert told in page  # all ship
    assert main([*asked, "--workers", "0"]) == 2
    assert "--workers >= 1" in capsys.readouterr().err
    assert main([*asked, "--train-only", "--no-training"]) == 2
    assert main(["study", "headline", "--out", str(tmp_path / "report.html")]) == 2
    assert command.run.__doc__


def test_following_asks_for_the_runs_of_its_own_decisions_and_resumes(tmp_path):
    """Quantization hurts far more than was fitted: more QAT is bought, from runs that did so."""
    from fedhq.studies.headline.following import follow, follow_trained

    class Store(InventedStore):
        asked: ClassVar[list] = []

        def train(self, specs, workers):
            self.asked.extend(specs)
            return [self.find(spec) for spec in specs]

    def end(spec):
        return 0.9 if qat_share(spec) > 0.9 else 0.3

    cell = Cell(Ground("digits-mlp", 0.3, 0), 0.0, 2.0)
    kept = Decisions(tmp_path)
    kept.keep(decide(GRID, cell.ground))
    store = Store(end, in_float=0.95)
    follow([cell], kept, store, workers=1)
    plan, coarse = kept.find(cell, FOLLOWED), kept.find(cell, "coarse")
    assert store.asked[0].key == coarse.key
    assert store.asked[-1].key == plan.key
    changes = sum(a != b for a, b in pairwise(plan.plan)) if len(plan.plan) > 1 else 0
    assert len(store.asked) == 1 + changes
    counts = [row.count("qat-w2a2") for row in plan.plan]
    assert counts[-1] > counts[0] == coarse.plan[0].count("qat-w2a2")
    before = len(store.asked)
    follow([cell], Decisions(tmp_path), store, workers=1)
    assert len(store.asked) == before

    trained = {spec.key for spec in store.asked}
    others = Decisions(tmp_path / "others")
    follow_trained(
        [cell], others, Store(lambda spec: end(spec) if spec.key in trained else None, 0.95)
    )
    assert others.find(cell, FOLLOWED) == plan
    assert len(store.asked) == before
    part = Decisions(tmp_path / "part")
    follow_trained(
        [cell], part, Store(lambda spec: end(spec) if spec.key == coarse.key else None, 0.95)
    )
    assert part.find(cell, FOLLOWED) is None
