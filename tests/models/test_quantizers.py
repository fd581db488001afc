"""Ranges that training finds: averaged and learned ones, and bfloat16 beside them."""

import copy

import pytest
import torch
from torch import nn

from fedhq.models import (
    Fit,
    InputQuantizer,
    Range,
    Recipe,
    calibrate_,
    convert_,
    deploy,
    fake_quantize,
    fit_activation_range,
    prepare_,
    shadow_,
)

LEARNED = Recipe(3, 4, weight_range=Range.LEARNED, activation_range=Range.LEARNED)
AVERAGED = Recipe(3, 4, activation_range=Range.AVERAGED)


def batch(seed: int, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(seed)) * spread


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, steps: int, rate: float = 0.05, dtype=None) -> list[float]:
    """Losses of a task that the first three inputs decide."""
    optimizer, losses = torch.optim.SGD(model.parameters(), rate, momentum=0.9), []
    for step in range(steps):
        x = batch(step)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = nn.functional.cross_entropy(model(x), x[:, :3].argmax(dim=1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_an_average_begins_with_the_first_batch_and_then_lags_by_one():
    layer = prepare_(nn.Sequential(nn.Linear(6, 2)), AVERAGED)[0]
    quantizer = layer.input_quantizer
    asked = [fit_activation_range(batch(k, 1 + k), 4) for k in range(4)]
    assert torch.equal(
        layer.quantized_input(batch(0, 1)), fake_quantize(batch(0, 1), *asked[0], 0, 15)
    )
    assert torch.equal(quantizer.scale, asked[0][0])
    for k in range(1, 4):
        before = quantizer.scale, quantizer.zero_point
        x = batch(k, 1 + k)
        assert torch.equal(layer.quantized_input(x), fake_quantize(x, *before, 0, 15))
        # The first ten batches share alike.
        mean = torch.stack([scale for scale, _ in asked[: k + 1]]).mean()
        torch.testing.assert_close(quantizer.scale, mean)


def test_an_average_is_used_and_left_alone_in_eval_mode_and_ships():
    model = prepare_(network(), AVERAGED)
    model(batch(0))
    model(batch(1))
    quantizer = model.eval()[0].input_quantizer
    kept = quantizer.scale, quantizer.zero_point
    x = batch(2, 9.0)
    assert torch.equal(model[0].quantized_input(x), fake_quantize(x, *kept, 0, 15))
    wanted = model(x)
    shipped = convert_(calibrate_(model, [batch(3)]))
    assert torch.equal(quantizer.scale, kept[0])
    assert torch.equal(shipped(x), wanted)


@pytest.mark.parametrize("recipe", [AVERAGED, LEARNED])
def test_ranges_that_no_training_has_found_are_calibrated(recipe):
    model, plain = network(), Recipe(3, 4)
    shipped = deploy(model, recipe, [batch(0)])
    assert torch.equal(shipped(batch(1)), deploy(model, plain, [batch(0)])(batch(1)))


def test_learned_ranges_begin_with_the_fitted_ones():
    model, plain = prepare_(network(), LEARNED), prepare_(network(), Recipe(3, 4))
    assert torch.equal(model(batch(0)), plain(batch(0)))


def test_gradients_reach_the_learned_scales_and_training_moves_them():
    model = prepare_(network(), LEARNED)
    model(batch(0)).square().sum().backward()
    scales = {n: p for n, p in model.named_parameters() if n.endswith("scale")}
    before = {name: scale.detach().clone() for name, scale in scales.items()}
    assert len(scales) == 4
    for layer in (model[0], model[2]):
        for gradient in (
            layer.weight_quantizers.get_submodule("weight").scale.grad,
            layer.input_quantizer.scale.grad,
        ):
            assert gradient.isfinite().all()
            assert gradient.abs().sum() > 0
    losses = train(model, 60)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    # An optimizer made before the first batch has them, too.
    assert all(not torch.equal(scale, before[name]) for name, scale in scales.items())


def test_the_learned_gradient_is_damped_by_the_number_of_values():
    model = prepare_(
        nn.Sequential(nn.Linear(6, 2, bias=False)), Recipe(8, 4, activation_range=Range.LEARNED)
    )
    x = batch(0)
    weight = model[0].quantized_weight().detach()
    model(x).sum().backward()
    scale = model[0].input_quantizer.scale.detach().clone().requires_grad_()
    zero_point = model[0].input_quantizer.zero_point
    nn.functional.linear(fake_quantize(x, scale, zero_point, 0, 15), weight).sum().backward()
    damped = scale.grad / (x.numel() * 15) ** 0.5
    torch.testing.assert_close(model[0].input_quantizer.scale.grad, damped)


def test_a_state_dict_keeps_learned_ranges_and_their_zero_points():
    model = prepare_(network(), LEARNED)
    train(model, 5)
    other = prepare_(network(), LEARNED)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    # The first batch that the other sees is all positive.
    x = batch(9).abs()
    assert torch.equal(other(x), model(x))
    assert torch.equal(other(-x), model(-x))
    assert model[0].input_quantizer.zero_point > 0


def test_learned_ranges_ship_as_they_were_trained():
    model = prepare_(network(), LEARNED)
    train(model, 10)
    learned = model[2].input_quantizer.scale.detach().abs().clone()
    wanted = model.eval()(batch(50))
    shipped = convert_(calibrate_(copy.deepcopy(model), [batch(51, 5.0)]))
    assert torch.equal(shipped[2].input_quantizer.scale, learned)
    assert torch.equal(shipped(batch(50)), wanted)
    assert not list(shipped[0].input_quantizer.parameters())
    codes = shipped[0].weight / shipped[0].weight_quantizers.weight.scale[:, None]
    assert set(codes.round().unique().tolist()) <= {-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    torch.testing.assert_close(codes, codes.round())


def test_a_scale_that_steps_below_zero_does_not_turn_the_grid():
    model = prepare_(nn.Sequential(nn.Linear(6, 2)), LEARNED)
    wanted = model(batch(0))
    with torch.no_grad():
        model[0].input_quantizer.scale.neg_()
        model[0].weight_quantizers.weight.scale.neg_()
    assert torch.equal(model(batch(0)), wanted)


@pytest.mark.parametrize(
    "recipe", [Recipe(3, 4), AVERAGED, LEARNED, Recipe(3, 8, weight_fit=Fit.ABSMAX)]
)
@pytest.mark.parametrize("has_shadow", [True, False])
def test_training_goes_on_under_bfloat16_autocast(recipe, has_shadow):
    model = shadow_(prepare_(network(), recipe), on=has_shadow)
    losses = train(model, 60, dtype=torch.bfloat16)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch(0)).dtype == torch.bfloat16


def test_a_bfloat16_model_is_quantized_as_it_is():
    model = prepare_(network().bfloat16(), Recipe(4, 8))
    model(batch(0).bfloat16()).float().square().sum().backward()
    assert all(parameter.grad.dtype == torch.bfloat16 for parameter in model.parameters())
    assert model[0].quantized_weight().dtype == torch.bfloat16


def test_a_batch_that_is_not_finite_does_not_count_in_an_average():
    quantizer = InputQuantizer(4, Fit.MSE, Range.AVERAGED)
    quantizer(torch.rand(50))
    before = quantizer.scale.clone()
    quantizer(torch.full((50,), torch.nan))
    assert torch.equal(quantizer.scale, before)


def test_a_learned_range_starts_where_it_can_be_learned_and_never_ends_at_zero():
    quantizer = InputQuantizer(4, Fit.MSE, Range.LEARNED)
    quantizer(torch.zeros(50))
    assert quantizer.scale.item() == 1.0
    with torch.no_grad():
        quantizer.scale.zero_()
    x = torch.rand(50)
    x[0] = 0
    assert torch.isfinite(quantizer(x)).all()


@pytest.mark.parametrize("range_", [Range.DYNAMIC, Range.AVERAGED])
def test_an_empty_batch_passes(range_):
    assert InputQuantizer(4, Fit.MSE, range_)(torch.zeros(0, 3)).shape == (0, 3)
