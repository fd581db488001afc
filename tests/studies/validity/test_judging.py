"""Models are judged by losses that are known: who is right wins, and noise wins nothing."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Coverage
from fedhq.studies.runs import TrainedRun
from fedhq.studies.validity.analysis import analyse
from fedhq.studies.validity.drawing import Kind
from fedhq.studies.validity.evidence import Lacking, gather
from fedhq.studies.validity.explained import unexplained
from fedhq.studies.validity.findings import findings
from fedhq.studies.validity.grid import Setting, label_counts_of, trials_of
from fedhq.studies.validity.left_out import Fold, predict_left_out
from fedhq.studies.validity.models import ABSENCE, COVERAGE, EXPONENTIAL, LAGGING, SCALES, SHARE
from fedhq.studies.validity.noise import noise_of
from fedhq.studies.validity.ranks import rows_of
from fedhq.studies.validity.record import record
from fedhq.studies.validity.refit import refit
from fedhq.studies.validity.terms import KNOTS

SEEDS = (100, 101)
SETTINGS = tuple(Setting(t, a, 2) for t in ("digits-mlp", "digits-cnn") for a in (0.1, 0.3))
CURVE = np.array([(0.0, 1.0), (0.5, 0.0)])  # bent as no exponential is
GAPS = dict(zip(SETTINGS, (0.1, 0.2, 0.3, 0.2), strict=True))
SKIP_PRICE, NOISE = 0.4, 0.004


def covered(trial):
    counts = label_counts_of(trial.setting, trial.seed)
    does = np.array([d == "qat" for d in trial.drawn.does])
    return does @ counts / counts.sum(axis=0), counts.sum(axis=0) / counts.sum()


def by_coverage(trial):
    coverage, weights = covered(trial)
    return weights @ np.interp(coverage, *CURVE.T)


def by_share(trial):
    coverage, weights = covered(trial)
    return np.interp(weights @ coverage, *CURVE.T)


def by_unevenness(trial):
    coverage, weights = covered(trial)
    share = weights @ coverage
    return 0.5 * by_coverage(trial) + 3 * weights @ np.maximum(0, share - coverage)


class Store:
    """Runs whose losses are known."""

    def __init__(self, loss, noise=NOISE):
        self._loss, self._noise = loss, noise
        self._rng = np.random.default_rng(0)
        self.lacks = set()

    def trained(self, trial):
        if trial in self.lacks:
            return None
        absent = np.mean([d == "skip" for d in trial.drawn.does])
        loss = GAPS[trial.setting] * self._loss(trial) + SKIP_PRICE * absent
        accuracy = 0.9 - loss + self._noise * self._rng.normal()
        curve = (accuracy,) * 3
        return TrainedRun(trial.spec.key, curve, (0.9,) * 3, curve, (0.9,) * 3, 36.0)

    def found(self, batches):
        runs = {t.spec.key: self.trained(t) for batch in batches for t in batch}
        self.find = lambda spec: runs.get(spec.key)
        return gather(self, batches)


@pytest.fixture(scope="module")
def batches():
    return [trials_of(setting, seed) for seed in SEEDS for setting in SETTINGS]


@pytest.fixture(scope="module")
def covering(batches):
    return analyse(*Store(by_coverage).found(batches))


def test_where_coverage_is_true_it_is_kept_and_found_again(covering):
    assert covering.kept.model is COVERAGE
    assert covering.judged_of(COVERAGE).explained.low > 0.9
    assert covering.explains_more.sign == 1
    assert all(n.has_tradeoff and n.ceiling > 0.9 for n in covering.noise)
    fitted = refit(covering)
    at = np.linspace(0, 1, 21)
    height = np.mean(list(GAPS.values()))
    known = height * np.interp(at, *CURVE.T)
    np.testing.assert_allclose(np.interp(at, *np.array(fitted.loss_curve).T), known, atol=0.02)
    assert 0 < fitted.rule_loss <= 0.02
    assert fitted.unevenness_price == 0
    assert "is kept" not in fitted.origin
    Coverage([[1]], (0, 1), fitted.loss_curve)


def test_without_a_gap_of_its_own_a_cell_is_predicted_with_the_height_and_prices_stay(covering):
    predicted = covering.predictions.with_gap(COVERAGE, Fold.SETTING, 0.5)
    trials = [e.trial for cell in covering.cells for e in cell.evidence]
    taught = np.array([by_coverage(trial) for trial in trials])
    absent = np.array([np.mean([d == "skip" for d in trial.drawn.does]) for trial in trials])
    np.testing.assert_allclose(predicted, 0.5 * taught + SKIP_PRICE * absent, atol=0.05)


def test_one_model_of_the_program_is_enough_to_beat_another(covering):
    assert COVERAGE in covering.judged_of(SHARE).beaten_by
    assert all(m.in_program for judged in covering.judged for m in judged.beaten_by)
    beaten = tuple(
        replace(j, beaten_by=(LAGGING,) if j.model is not LAGGING else ()) for j in covering.judged
    )
    assert replace(covering, judged=beaten).kept.model is LAGGING
    none = tuple(replace(j, beaten_by=(j.model,)) for j in covering.judged)
    assert (
        "(coverage, fitted curve; no model is kept)" in refit(replace(covering, judged=none)).origin
    )


def test_an_exponential_that_is_kept_is_what_is_fitted(covering):
    judged = tuple(
        replace(j, beaten_by=() if j.model is EXPONENTIAL else (COVERAGE,)) for j in covering.judged
    )
    fitted = refit(replace(covering, judged=judged))
    coverage, losses = np.array(fitted.loss_curve).T
    np.testing.assert_allclose(coverage, [0, *KNOTS])
    shapes = (np.exp(-coverage / s) - np.exp(-1 / s) for s in SCALES)
    assert min(np.ptp(losses[:-1] / shape[:-1]) for shape in shapes) < 1e-9
    height = np.mean(list(GAPS.values()))
    np.testing.assert_allclose(losses, height * np.interp(coverage, *CURVE.T), atol=0.05)
    Coverage([[1]], (0, 1), fitted.loss_curve)
    assert "is kept" not in fitted.origin


def test_the_gap_matters_to_what_is_explained_and_not_to_ranks(covering):
    judged = covering.judged_of(COVERAGE)
    assert judged.blind.mean < judged.explained.mean
    for fold in (Fold.SETTING, Fold.TASK):
        assert judged.ranks[fold].mean > 0.9
    assert np.isnan(judged.ranks[Fold.DATA].mean)  # one data set: nothing is left to fit to


def test_where_the_share_is_all_nothing_more_is_kept(batches):
    analysis = analyse(*Store(by_share).found(batches))
    assert analysis.kept.model is SHARE
    fitted = refit(analysis)
    assert "share, fitted curve is kept, but not fitted" in fitted.origin
    assert "share, fitted curve is kept, but not fitted" in findings(analysis)[-1]
    assert analysis.explains_more.sign <= 0
    assert analysis.skew.sign == 0


def test_where_lagging_classes_cost_unevenness_is_kept_and_its_price_found_again(batches):
    analysis = analyse(*Store(by_unevenness).found(batches))
    assert analysis.kept.model is LAGGING
    assert LAGGING in analysis.judged_of(COVERAGE).beaten_by
    fitted = refit(analysis)
    height = np.mean(list(GAPS.values()))  # all-QAT is even, and all-PTQ loses half a unit
    assert fitted.unevenness_price == pytest.approx(3 * height, rel=0.1)
    known = 0.5 * height * CURVE[0, 1]
    assert fitted.loss_curve[0][1] == pytest.approx(known, abs=0.02)
    assert f"unevenness costs {fitted.unevenness_price:g} a unit" in findings(analysis)[-1]
    assert max(n.harmed for n in analysis.noise) > 0.1
    assert any("More QAT can hurt" in text for text in findings(analysis))


def test_one_setting_where_qat_hurts_is_named_among_many(covering):
    """What hurts in one of four is lost in their mean; what is chance is not told."""
    few, many = (
        [
            replace(n, mixed=42, harmed=share)
            for n, share in zip(covering.noise, shares, strict=True)
        ]
        for shares in ((2 / 42, 0, 3 / 42, 0), (2 / 42, 0, 12 / 42, 0))
    )
    (calm,) = (t for t in findings(replace(covering, noise=tuple(few))) if "QAT hurt" in t)
    (hurt,) = (t for t in findings(replace(covering, noise=tuple(many))) if "QAT can hurt" in t)
    assert "Nowhere" in calm
    assert f"in {many[2].setting} (29%)" in hurt
    assert str(many[0].setting) not in hurt


def test_noise_is_told_from_tradeoffs(batches, covering):
    cells, _ = Store(lambda trial: 0.0, noise=0.02).found(batches)
    found = [noise_of(setting, cells) for setting in SETTINGS]
    assert np.mean([n.noise for n in found]) == pytest.approx(0.02, rel=0.25)
    assert np.mean([n.ceiling for n in found]) < 0.65
    assert np.mean([n.harmed for n in found]) < 0.1
    assert min(n.ceiling for n in covering.noise) > 0.9


def test_chance_in_the_reference_explains_nothing(batches, covering):
    """Noise of all-QAT raises all losses of a cell and its gap alike."""
    store = Store(by_coverage)
    plain, chance = store.trained, np.random.default_rng(3)
    off = {(t.setting, t.seed): 0.08 * chance.normal() for batch in batches for t in batch}

    def trained(trial):
        run = plain(trial)
        if trial.drawn.kind is not Kind.ALL_QAT:
            return run
        curve = tuple(a + off[trial.setting, trial.seed] for a in run.deployed)
        return replace(run, deployed=curve)

    store.trained = trained
    cells, _ = store.found(batches)
    found, steady = predict_left_out(cells), covering.predictions
    rows = np.concatenate(rows_of(cells))
    assert np.ptp((found.losses - steady.losses)[rows]) > 0.1
    flat = {key: np.full_like(values, 0.1) for key, values in found.predicted.items()}
    gaps = np.array([e.gap for cell in cells for e in cell.evidence])
    flat[SHARE.name, Fold.SETTING, True] = gaps  # who says that everything loses the gap
    level = replace(found, predicted=flat, slopes={(SHARE.name, Fold.SETTING): np.ones(len(gaps))})
    said = unexplained(level, SHARE, True, covering.noise)
    np.testing.assert_allclose(said, 1)


def test_models_are_not_judged_by_a_single_setting(batches):
    cells, _ = Store(by_coverage).found(batches[:1])
    with pytest.raises(ValueError, match="1 of 1 whole settings has one"):
        analyse(cells, ())


def test_a_cell_that_lacks_a_run_is_named_and_does_not_count(batches):
    store = Store(by_coverage)
    store.lacks = {batches[0][3]}
    cells, missing = store.found(batches)
    assert len(cells) == len(batches) - 1
    assert [str(m) for m in missing] == [f"{SETTINGS[0]}, seed 100: 1 of 27"]


def test_the_record_says_what_it_rests_on(covering):
    text = record(covering)
    assert "216 federations in 8 cells" in text
    assert "2.2 core-hours" in text
    assert "*coverage, fitted curve* is the simplest" in text
    missing = (
        Lacking(SETTINGS[0], 102, 3, 27),
        Lacking(Setting("digits-mlp", 1.0, 4), 100, 27, 27),
    )
    partial = record(replace(covering, missing=missing))
    assert "2 cells are not trained" in partial
    assert "nothing is known: digits-mlp, alpha 1, W4A4." in partial


def test_repeats_are_pairs_of_what_was_trained_twice(batches):
    cells, _ = Store(by_coverage, noise=0.0).found(batches)
    assert all(cell.pairs_of().shape == (5, 2) for cell in cells)
    assert all(np.ptp(cell.pairs_of(), axis=1).max() < 1e-12 for cell in cells)
    kinds = {e.trial.drawn.kind for e in cells[0].mixed}
    assert kinds == {Kind.RANDOM, Kind.BIASED}


def test_what_is_absent_by_class_matters_only_where_it_is_absent(covering):
    predictions = covering.predictions
    rows = np.array([e.absent == 0 for cell in covering.cells for e in cell.evidence])
    linear, by_class = (predictions.of(m, Fold.SETTING) for m in (COVERAGE, ABSENCE))
    assert np.abs(linear - by_class)[rows].max() < 0.02
