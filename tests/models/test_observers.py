import pytest
import torch

from fedhq.models import (
    Fit,
    activation_range,
    fake_quantize,
    fit_activation_range,
    fit_range,
    fit_weight_range,
    weight_range,
)
from fedhq.models.observers import quantize_activation, quantize_weight

BITS = range(2, 9)
NAN = float("nan")


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", BITS)
def test_both_ranges_have_all_codes(bits):
    for low, high in (weight_range(bits), activation_range(bits)):
        assert high - low + 1 == 2**bits
        assert low <= 0 < high


@pytest.mark.parametrize("bits", BITS)
def test_the_scale_is_the_best_of_nine(bits):
    rows, codes = gaussian(5, 100), weight_range(bits)

    def error(row, scale):
        return float((fake_quantize(row, scale, 0, *codes) - row).double().square().sum())

    scales, zeros = fit_range(rows, *codes, True, (5,))
    assert not zeros.any()
    for row, chosen in zip(rows, scales, strict=True):
        candidates = [row.abs().max() * k / 10 / codes[1] for k in range(2, 11)]
        best = min(error(row, candidate) for candidate in candidates)
        assert error(row, chosen) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("side", [28, 14, 7])
def test_activations_are_judged_by_values_from_all_over_the_image(side):
    x = gaussian(32, 8, side, side).abs() * torch.linspace(0.1, 3.0, side)
    candidates = [x.amax() * k / 30 for k in range(2, 11)]
    best = min(float((fake_quantize(x, scale, 0, 0, 3) - x).norm()) for scale in candidates)
    assert float((quantize_activation(x, 2)[0] - x).norm()) <= 1.05 * best


# Relative error of the best such grid for a Gaussian, found numerically.
OPTIMAL_ERRORS = (0.3866, 0.2016, 0.1089, 0.0594, 0.0323, 0.0175, 0.0094)


@pytest.mark.parametrize(("bits", "optimum"), list(zip(BITS, OPTIMAL_ERRORS, strict=True)))
def test_weight_errors_come_close_to_the_optimum_for_gaussians(bits, optimum):
    weight = gaussian(16, 8, 3, 3)
    quantized, _, _ = quantize_weight(weight, bits, (16,))
    assert (quantized - weight).norm() / weight.norm() < 1.15 * optimum


@pytest.mark.parametrize("offset", [-3.0, -0.5, 0.0, 2.0])
@pytest.mark.parametrize("bits", BITS)
def test_activations_inside_the_range_are_off_by_half_a_step_at_most(bits, offset):
    x = torch.rand(32, 50, generator=torch.Generator().manual_seed(0)) + offset
    y, scale, zero_point = quantize_activation(x, bits)
    steps = x / scale + zero_point
    inside = (steps > -0.5) & (steps < 2**bits - 0.5)
    assert ((y - x).abs()[inside] <= scale * 0.5001).all()
    assert inside.float().mean() > 0.6


def test_zero_has_a_code_of_its_own_whatever_the_signs():
    for x in (gaussian(500), gaussian(500).abs(), -gaussian(500).abs()):
        x[7] = 0.0
        for fit in Fit:
            y, _, zero_point = quantize_activation(x, 4, fit)
            assert y[7] == 0.0
            assert 0 <= zero_point <= 15
    assert fit_activation_range(gaussian(500).abs(), 4)[1] == 0
    assert fit_activation_range(-gaussian(500).abs(), 4)[1] == 15


def test_absmax_clips_nothing_and_percentile_the_outermost_thousandth():
    x = gaussian(1, 5000)
    x[0, :3] = torch.tensor([100.0, -200.0, 50.0])
    assert fit_range(x, -7, 7, True, (1,), Fit.ABSMAX)[0] == pytest.approx(200 / 7)
    ranked = x.abs().flatten().sort().values
    assert fit_range(x, -7, 7, True, (1,), Fit.PERCENTILE)[0] == ranked[4994] / 7
    scale, _ = fit_range(x, 0, 15, False, (1,), Fit.PERCENTILE)
    ends = x.flatten().sort().values
    assert scale == pytest.approx(float(ends[4994] - ends[5]) / 15)


@pytest.mark.parametrize("bits", BITS)
def test_quantized_weights_have_few_values_per_channel(bits):
    quantized, scale, _ = quantize_weight(gaussian(4, 3000), bits, (4,))
    assert all(len(channel.unique()) <= 2**bits for channel in quantized)
    codes = quantized / scale[:, None]
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)


def test_scaling_the_weight_scales_the_scale():
    weight = gaussian(4, 72)
    scales = [fit_weight_range(w, 2, (4,))[0] for w in (weight, weight * 4)]
    assert torch.equal(scales[1], scales[0] * 4)


def test_channels_do_not_see_each_other():
    weight = gaussian(4, 72)
    alone = torch.cat([fit_weight_range(channel[None], 3, (1,))[0] for channel in weight])
    assert torch.equal(fit_weight_range(weight, 3, (4,))[0], alone)


@pytest.mark.parametrize("fit", Fit)
def test_zeros_stay_zeros(fit):
    weight = torch.zeros(2, 9)
    weight[1, 0] = 1.0
    quantized, scale, _ = quantize_weight(weight, 2, (2,), fit)
    assert torch.equal(quantized[0], torch.zeros(9))
    assert quantized.isfinite().all()
    assert (scale > 0).all()
    assert torch.equal(quantize_activation(torch.zeros(4, 9), 2, fit)[0], torch.zeros(4, 9))


@pytest.mark.parametrize("fit", Fit)
def test_nan_spoils_its_own_channel_and_is_not_hidden(fit):
    weight = gaussian(3, 3000)
    weight[1, 7] = NAN
    quantized, scale, _ = quantize_weight(weight, 2, (3,), fit)
    assert quantized.isnan().any(dim=1).tolist() == [False, True, False]
    assert scale.isnan().tolist() == [False, True, False]
    assert fit_activation_range(weight[1, :9], 2, fit)[0].isnan()


def test_a_stride_judges_by_fewer_values_but_takes_the_limits_from_all():
    x = torch.zeros(1, 100)
    x[0, 0], x[0, 1] = 1.0, 10.0  # a stride of two sees the first, and not the second
    scale, _ = fit_range(x, -1, 1, True, (1,), stride=2)
    assert scale == pytest.approx(2.0)  # the least ratio of 10: nearest to the 1 that is seen
    assert fit_range(x, -1, 1, True, (1,))[0] == pytest.approx(10.0)


def test_missing_activations_are_refused_and_missing_weights_are_nothing():
    for function in (fit_activation_range, quantize_activation):
        with pytest.raises(ValueError, match=r"must not be empty, but got shape \(0, 3\)"):
            function(torch.zeros(0, 3), 2)
    for fit in Fit:
        assert quantize_weight(torch.zeros(0, 3), 2, (0,), fit)[0].shape == (0, 3)


def test_a_fit_may_be_given_by_its_name_without_spoiling_the_others():
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    for name in ("absmax", "mse", "percentile"):
        assert torch.equal(
            quantize_weight(weight, 2, (4,), name)[1],
            quantize_weight(weight, 2, (4,), Fit(name))[1],
        )
    assert not torch.equal(
        *(quantize_weight(weight, 2, (4,), fit)[1] for fit in (Fit.MSE, Fit.ABSMAX))
    )
