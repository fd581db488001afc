import pytest
import torch

from fedhq.models import (
    activation_range,
    fit_activation_scale,
    fit_scale,
    fit_weight_scale,
    quantize_activation,
    quantize_weight,
    weight_range,
)

BITS = range(2, 9)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", BITS)
def test_both_ranges_have_all_codes(bits):
    for low, high in (weight_range(bits), activation_range(bits)):
        assert high - low + 1 == 2**bits
        assert low <= 0 < high


@pytest.mark.parametrize("bits", BITS)
def test_the_scale_is_the_best_of_the_grid(bits):
    rows = gaussian(5, 100)
    low, high = weight_range(bits)

    def error(row, scale):
        return float(((row / scale).round().clamp(low, high) * scale - row).square().sum())

    for row, chosen in zip(rows, fit_scale(rows, rows.abs().amax(dim=1), low, high), strict=True):
        candidates = [float(row.abs().max()) * k / 10 / high for k in range(2, 11)]
        best = min(error(row, candidate) for candidate in candidates)
        assert error(row, float(chosen)) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("side", [28, 14, 7])
def test_activations_are_judged_by_values_from_all_over_the_image(side):
    x = gaussian(32, 8, side, side).abs() * torch.linspace(0.1, 3.0, side)
    candidates = [x.amax() * k / 30 for k in range(2, 11)]
    best = min(float((quantize_activation(x, scale, 2) - x).norm()) for scale in candidates)
    chosen = fit_activation_scale(x, 2)
    assert float((quantize_activation(x, chosen, 2) - x).norm()) <= 1.05 * best


# Relative error of the best such grid for a Gaussian, found numerically.
OPTIMAL_ERRORS = (0.3866, 0.2016, 0.1089, 0.0594, 0.0323, 0.0175, 0.0094)


@pytest.mark.parametrize(("bits", "optimum"), list(zip(BITS, OPTIMAL_ERRORS, strict=True)))
def test_weight_errors_come_close_to_the_optimum_for_gaussians(bits, optimum):
    weight = gaussian(16, 8, 3, 3)
    quantized = quantize_weight(weight, fit_weight_scale(weight, bits), bits)
    assert (quantized - weight).norm() / weight.norm() < 1.15 * optimum


@pytest.mark.parametrize("bits", BITS)
def test_activations_inside_the_range_are_off_by_half_a_step_at_most(bits):
    x = gaussian(32, 8, 14, 14).relu()
    scale = fit_activation_scale(x, bits)
    inside = x < scale * (2**bits - 0.5)
    error = (quantize_activation(x, scale, bits) - x).abs()[inside]
    assert error.max() <= scale * 0.5001
    assert inside.float().mean() > 0.85


@pytest.mark.parametrize("bits", BITS)
def test_quantized_weights_have_few_values_per_channel(bits):
    weight = gaussian(4, 3000)
    quantized = quantize_weight(weight, fit_weight_scale(weight, bits), bits)
    assert all(len(channel.unique()) <= 2**bits for channel in quantized)


def test_scaling_the_weight_scales_the_scale():
    weight = gaussian(4, 72)
    assert torch.equal(fit_weight_scale(weight * 4, 2), fit_weight_scale(weight, 2) * 4)


def test_channels_do_not_see_each_other():
    weight = gaussian(4, 72)
    alone = torch.cat([fit_weight_scale(channel[None], 3) for channel in weight])
    assert torch.equal(fit_weight_scale(weight, 3), alone)


def test_zeros_stay_zeros():
    weight = torch.zeros(2, 9)
    weight[1, 0] = 1.0
    quantized = quantize_weight(weight, fit_weight_scale(weight, 2), 2)
    assert torch.equal(quantized[0], torch.zeros(9))
    assert quantized.isfinite().all()
    images = torch.zeros(4, 9)
    assert torch.equal(quantize_activation(images, fit_activation_scale(images, 2), 2), images)


def test_nan_spoils_its_own_channel_and_is_not_hidden():
    weight = gaussian(3, 50)
    weight[1, 7] = float("nan")
    quantized = quantize_weight(weight, fit_weight_scale(weight, 2), 2)
    assert quantized.isnan().any(dim=1).tolist() == [False, True, False]
    assert quantize_activation(weight, fit_activation_scale(weight.abs(), 2), 2).isnan().any()


def test_negative_and_missing_activations_are_refused():
    with pytest.raises(ValueError, match=r"activations must be >= 0, .* Put a ReLU"):
        fit_activation_scale(torch.tensor([1.0, -0.5]), 2)
    with pytest.raises(ValueError, match="must not be empty"):
        fit_activation_scale(torch.zeros(0, 3), 2)
