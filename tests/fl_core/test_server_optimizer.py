"""The server's optimizers against the paper's formulas in float64, and torch's where they meet."""

import numpy as np
import pytest
import torch

from fedhq.fl_core.server.optimizer import start_moments, step
from fedhq.fl_core.settings import ServerSettings

START = {
    "w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
    "b": np.array(0.5, np.float32),
}


def changes(count: int):
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {k: np.asarray(rng.normal(size=v.shape) * 0.1, np.float32) for k, v in START.items()}


def moved(settings: ServerSettings, count: int):
    weights, moments = START, start_moments(settings, START)
    for change in changes(count):
        weights, moments = step(settings, weights, change, moments)
    return weights


def test_fedavg_adds_the_change_and_another_rate_scales_it() -> None:
    (change,) = changes(1)
    for rate in (1.0, 0.25):
        got = moved(ServerSettings(learning_rate=rate), 1)
        for name, old in START.items():
            expected = np.asarray(change[name] * np.float32(rate) + old)
            assert (got[name].shape, got[name].tobytes()) == (old.shape, expected.tobytes())


@pytest.mark.parametrize("optimizer", ["fedadam", "fedyogi"])
def test_adaptive_steps_are_those_of_the_paper(optimizer) -> None:
    """Reddi et al., algorithm 2, written out weight by weight."""
    rate, beta1, beta2, tau = 0.02, 0.8, 0.95, 0.01
    settings = ServerSettings(optimizer, rate, beta1, beta2, tau)
    got = moved(settings, 12)
    for name, values in START.items():
        x = values.astype(np.float64)
        m, v = np.zeros(x.shape), np.full(x.shape, tau**2)
        for change in changes(12):
            d = change[name].astype(np.float64)
            m = beta1 * m + (1 - beta1) * d
            if optimizer == "fedadam":
                v = beta2 * v + (1 - beta2) * d**2
            else:
                v = v - (1 - beta2) * d**2 * np.sign(v - d**2)
            x = x + rate * m / (np.sqrt(v) + tau)
        assert (got[name].shape, got[name].dtype) == (values.shape, np.float32)
        np.testing.assert_allclose(got[name], x, rtol=2e-5, atol=1e-6)


def test_fedadam_is_torchs_adam_once_its_correction_of_the_start_is_over() -> None:
    settings = ServerSettings("fedadam", learning_rate=0.05, tau=1e-3)
    got = moved(settings, 10)
    for name, values in START.items():
        parameter = torch.nn.Parameter(torch.from_numpy(values.copy()))
        adam = torch.optim.Adam([parameter], lr=0.05, betas=(0.9, 0.99), eps=1e-3)
        adam.state[parameter] = {
            "step": torch.tensor(1e6),  # beta ** step is 0
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.full_like(parameter, 1e-6),
        }
        for change in changes(10):
            parameter.grad = -torch.from_numpy(change[name])
            adam.step()
        np.testing.assert_allclose(got[name], parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["fedavg", "fedadam", "fedyogi"])
def test_what_is_given_stays_as_it_is(optimizer) -> None:
    settings = ServerSettings(optimizer)
    (change,) = changes(1)
    moments = start_moments(settings, START)
    given = [START, change, *([moments.mean, moments.square] if moments else [])]
    before = [[values.tobytes() for values in one.values()] for one in given]
    step(settings, START, change, moments)
    assert [[values.tobytes() for values in one.values()] for one in given] == before
