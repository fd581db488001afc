"""The terms of the loss models: what is fitted is a curve that the program takes."""

import numpy as np
import pytest

from fedhq.allocator import Coverage
from fedhq.studies.validity.terms import KNOTS, curve_of, exponential_curve


@pytest.mark.parametrize("seed", range(200))
def test_every_fitted_curve_is_one_that_the_program_takes(seed):
    rng = np.random.default_rng(seed)
    weights = rng.exponential(10.0 ** rng.uniform(-4, 0), len(KNOTS))
    weights[rng.random(len(KNOTS)) < rng.random()] = 0.0
    curve = curve_of(weights)
    Coverage([[1]], (0, 1), curve)
    exact = np.maximum(0.0, KNOTS - np.array(curve)[:, :1]) @ weights
    np.testing.assert_allclose(np.array(curve)[:, 1], exact, atol=1e-12)


@pytest.mark.parametrize("scale", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("weight", [1e-4, 0.1, 0.9])
def test_every_exponential_is_one_too(scale, weight):
    Coverage([[1]], (0, 1), exponential_curve(weight, scale))
