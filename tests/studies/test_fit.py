"""The fit of the loss model: it finds a curve that is known, and returns what the program takes."""

import numpy as np
import pytest

from fedhq.allocator import Coverage
from fedhq.studies.fit import Evidence, Trial, fit_loss
from fedhq.studies.validity.terms import KNOTS, curve_of

POINTS = np.array([(0.0, 0.4), (0.1, 0.2), (0.3, 0.05), (0.6, 0.0)])
SKIP_PRICE, WIRE_PRICE = 0.3, 2.0


def evidence_of(seed, kind, covered, weights, absent, noise):
    loss = weights @ np.interp(covered, *POINTS.T) + SKIP_PRICE * absent + WIRE_PRICE * noise
    accuracy = 0.9 - 0.01 * (seed % 10) - loss
    trial = Trial(seed, kind, ())
    return Evidence(trial, accuracy, tuple(covered), tuple(weights), absent, noise, 1.0)


def synthetic_evidence():
    rng = np.random.default_rng(0)
    found = []
    for seed in (100, 101, 102):
        weights = rng.dirichlet(np.full(10, 5.0))
        found.append(evidence_of(seed, "all-QAT", np.ones(10), weights, 0.0, 0.0))
        for _ in range(40):
            covered = rng.random(10) ** 2
            absent, noise = rng.random() * 0.5, rng.random() * 0.01
            found.append(evidence_of(seed, "mixed", covered, weights, absent, noise))
    return found


def test_a_known_curve_and_known_prices_are_found():
    fitted = fit_loss(synthetic_evidence())
    found = np.array(fitted.loss_curve)
    at = np.linspace(0, 1, 101)
    np.testing.assert_allclose(np.interp(at, *found.T), np.interp(at, *POINTS.T), atol=1e-6)
    assert fitted.skip_price == pytest.approx(SKIP_PRICE, abs=1e-3)
    assert fitted.wire_price == pytest.approx(WIRE_PRICE, abs=1e-3)
    assert "R2 = 1.00, Spearman = 1.00" in fitted.origin


@pytest.mark.parametrize("seed", range(200))
def test_every_fitted_curve_is_one_that_the_program_takes(seed):
    rng = np.random.default_rng(seed)
    weights = rng.exponential(10.0 ** rng.uniform(-4, 0), len(KNOTS))
    weights[rng.random(len(KNOTS)) < rng.random()] = 0.0
    curve = curve_of(weights)
    Coverage([[1]], (0, 1), curve)
    exact = np.maximum(0.0, KNOTS - np.array(curve)[:, :1]) @ weights
    np.testing.assert_allclose(np.array(curve)[:, 1], exact, atol=1e-12)
