"""Calibration fits as `deploy` honours them, the divergence of outputs, and bias correction."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.fl_core.data.datasets import split_dataset
from fedhq.fl_core.data.registry import load_dataset
from fedhq.models import (
    Fit,
    Recipe,
    build_model,
    deploy,
    fake_quant_layers,
    fit_activation_range,
    fit_weight_range,
    prepare_,
)
from fedhq.models.export_codes import layer_codes
from fedhq.models.ptq import correct_bias_, divergences, output_divergence

SHAPES = {"cnn": (1, 8, 8), "mlp": (1, 8, 8), "resnet8": (1, 8, 8), "vit": (1, 8, 8)}
SHAPES |= {"cnn1d": (3, 24), "gru": (3, 24)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits():
    return split_dataset(load_dataset("digits"), 400, 100, np.random.default_rng(0))


@pytest.fixture(scope="module", params=["cnn", "mlp"])
def trained(request, digits):
    """A float model that knows its digits."""
    model = build_model(request.param, (1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        rows = torch.randint(len(digits.train), (64,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(digits.train.inputs[rows]), digits.train.labels[rows]
        )
        loss.backward()
        optimizer.step()
    return model


def inputs(name: str, count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPES[name], generator=torch.Generator().manual_seed(seed))


def outputs_of(model: nn.Module, batches: list[torch.Tensor], kinds: tuple) -> dict:
    """Everything that layers of some kinds say to the batches, by name."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, y, n=name: seen.setdefault(n, []).append(y))
        for name, layer in model.named_modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        for batch in batches:
            model.eval()(batch)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(values).double() for name, values in seen.items()}


# Calibration


@pytest.mark.parametrize("weight_fit", Fit)
@pytest.mark.parametrize("activation_fit", Fit)
def test_each_fit_finds_the_ranges_that_ship(weight_fit, activation_fit) -> None:
    layer = nn.Linear(1100, 3)
    batches = [torch.randn(6, 1100, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    recipe = Recipe(4, 5, weight_fit=weight_fit, activation_fit=activation_fit)
    shipped = deploy(layer, recipe, batches)
    wanted = fit_weight_range(layer.weight, 4, (3,), weight_fit)[0]
    assert torch.equal(shipped.weight_quantizers.weight.scale, wanted)
    scales = [fit_activation_range(batch, 5, activation_fit)[0] for batch in batches]
    assert torch.equal(shipped.input_quantizer.scale, torch.stack(scales).mean())


def test_the_three_fits_ship_three_models() -> None:
    layer = nn.Linear(1100, 3)
    batch = torch.randn(6, 1100, generator=torch.Generator().manual_seed(0))
    for field in ("weight_fit", "activation_fit"):
        shipped = [deploy(layer, Recipe(4, 4, **{field: fit}), [batch])(batch) for fit in Fit]
        assert not any(torch.equal(shipped[k], shipped[k - 1]) for k in range(3))


def test_where_nothing_stands_out_squared_error_beats_limits_at_few_bits(trained, digits) -> None:
    calibration, test = [digits.calibration.inputs], [digits.test.inputs]
    mse, absmax = (
        output_divergence(trained, deploy(trained, Recipe(2, 2, **fits), calibration), test)
        for fits in (
            {"weight_fit": Fit.MSE, "activation_fit": Fit.MSE},
            {"weight_fit": Fit.ABSMAX, "activation_fit": Fit.ABSMAX},
        )
    )
    assert mse < absmax


def test_hot_pixels_spoil_limits_most_and_percentiles_least(trained, digits) -> None:
    spoiled = digits.calibration.inputs.clone()
    spoiled.view(-1)[[100, 3000, 6000]] = 20.0  # of 6400 pixels in [0, 1]
    recipes = {fit: Recipe(8, 4, activation_fit=fit) for fit in Fit}
    found = {
        fit: output_divergence(trained, deploy(trained, recipe, [spoiled]), [digits.test.inputs])
        for fit, recipe in recipes.items()
    }
    assert 3 * found[Fit.PERCENTILE] < found[Fit.MSE] < found[Fit.ABSMAX]


# Divergence


def test_divergences_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 6, 4, 5, generator=generator)
    wanted = nn.functional.kl_div(
        two.double().log_softmax(1), one.double().log_softmax(1), reduction="none", log_target=True
    ).sum(dim=1)
    found = divergences(one, two)
    assert found.shape == (6, 5)
    assert torch.allclose(found, wanted, rtol=1e-12)
    assert torch.equal(divergences(one, one), torch.zeros(6, 5, dtype=torch.float64))


def test_rounding_makes_no_divergence_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1000, 10, generator=generator, dtype=torch.float64)
    noise = torch.randn(1000, 10, generator=generator, dtype=torch.float64)
    assert divergences(one, one + 1e-10 * noise).min() >= 0


def test_the_divergence_of_a_model_weighs_all_examples_alike() -> None:
    one, two = nn.Linear(3, 4), nn.Linear(3, 4)
    batch = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    whole = output_divergence(one, two, [batch])
    assert whole > 0
    assert output_divergence(one, two, batch.split(4)) == pytest.approx(whole, rel=1e-6)
    assert one.training
    assert two.training


# Bias correction


def test_the_bias_of_a_linear_layer_takes_back_just_the_mean_shift() -> None:
    layer = nn.Linear(12, 5)
    batches = [torch.rand(9, 12, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    shipped = deploy(layer, Recipe(2, 2), batches)
    examples = torch.cat(batches)
    shift = (layer(examples) - shipped(examples)).mean(dim=0).detach()
    assert shift.abs().min() > 1e-4
    before = shipped.bias.clone()
    assert correct_bias_(shipped, layer, iter(batches)) is shipped
    assert torch.allclose(shipped.bias - before, shift, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_every_mean_output_is_the_float_models_afterwards(name) -> None:
    model = build_model(name, SHAPES[name], num_classes=4, seed=0)
    batches = [inputs(name, 20), inputs(name, 7, seed=1)]
    shipped = deploy(model, Recipe(3, 3), batches)
    dims = {nn.Conv1d: 1, nn.Conv2d: 1, nn.GroupNorm: 1, nn.Linear: -1, nn.LayerNorm: -1}
    wanted = outputs_of(model, batches, tuple(dims))
    before = outputs_of(shipped, batches, tuple(dims))
    after = outputs_of(correct_bias_(shipped, model, batches), batches, tuple(dims))
    corrected = 0
    for layer_name, layer in model.named_modules():
        if isinstance(layer, tuple(dims)) and layer.bias is not None:
            dim = next(dim for kind, dim in dims.items() if isinstance(layer, kind))
            means = [
                seen[layer_name].movedim(dim, -1).flatten(0, -2).mean(dim=0)
                for seen in (wanted, before, after)
            ]
            assert (means[1] - means[0]).norm() > 1e-3
            assert (means[2] - means[0]).abs().max() < 1e-5
            corrected += 1
    assert corrected


def test_outputs_come_closer_on_images_not_seen(trained, digits) -> None:
    calibration, test = [digits.calibration.inputs], digits.test.inputs
    shipped = deploy(trained, Recipe(3, 3), calibration)
    corrected = correct_bias_(copy.deepcopy(shipped), trained, calibration)
    assert output_divergence(trained, corrected, [test]) < output_divergence(
        trained, shipped, [test]
    )
    with torch.no_grad():
        shifts = [(m(test) - trained.eval()(test)).mean(dim=0).norm() for m in (shipped, corrected)]
    assert shifts[1] < 0.5 * shifts[0]


def test_biases_alone_change_and_weights_stay_on_their_grids(trained, digits) -> None:
    calibration = [digits.calibration.inputs]
    shipped = deploy(trained, Recipe(3, 3), calibration)
    before = copy.deepcopy(shipped.state_dict())
    correct_bias_(shipped, trained, calibration)
    after = shipped.state_dict()
    assert before.keys() == after.keys() == trained.state_dict().keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.endswith("bias")}
    for name, layer in fake_quant_layers(shipped):
        assert len(list(layer_codes(name, layer))) == 1
    assert not any(parameter.requires_grad for parameter in shipped.parameters())


def test_a_second_correction_has_nothing_left_to_do(trained, digits) -> None:
    calibration = [digits.calibration.inputs]
    shipped = correct_bias_(deploy(trained, Recipe(3, 3), calibration), trained, calibration)
    before = copy.deepcopy(shipped.state_dict())
    correct_bias_(shipped, trained, calibration)
    for key, value in shipped.state_dict().items():
        assert torch.allclose(value, before[key], atol=1e-5)


def test_layers_are_corrected_in_the_order_in_which_they_run() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(6, 3)
            self.first = nn.Linear(4, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x).relu())

    model, batch = Reversed(), torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    shipped = correct_bias_(deploy(model, Recipe(2, 2), [batch]), model, [batch])
    assert torch.allclose(shipped(batch).mean(dim=0), model(batch).mean(dim=0), atol=1e-6)


def test_batch_normalisation_takes_back_what_a_layer_without_bias_shifts() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    batch = inputs("cnn", 20)
    model.train()(batch)
    statistics = model[1].running_mean.clone()
    shipped = deploy(model.eval(), Recipe(2, 2), [batch])
    correct_bias_(shipped, model, [batch])
    found, wanted = (m[:2](batch).mean(dim=(0, 2, 3)) for m in (shipped, model))
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(shipped[1].running_mean, statistics)


def test_a_layer_without_a_bias_gets_none() -> None:
    model, batch = nn.Sequential(nn.Linear(4, 3, bias=False)), torch.rand(5, 4)
    shipped = deploy(model, Recipe(2, 2), [batch])
    before = copy.deepcopy(shipped.state_dict())
    correct_bias_(shipped, model, [batch])
    assert shipped[0].bias is None
    assert torch.equal(shipped.state_dict()["0.weight"], before["0.weight"])


def test_the_float_model_is_left_as_it_was(trained, digits) -> None:
    before = copy.deepcopy(trained.state_dict())
    trained.train()
    shipped = deploy(trained, Recipe(3, 3), [digits.calibration.inputs])
    correct_bias_(shipped, trained, [digits.calibration.inputs])
    assert trained.training
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert not any(m._forward_hooks for model in (trained, shipped) for m in model.modules())


def test_models_that_do_not_belong_together_are_refused() -> None:
    model, batch = nn.Sequential(nn.Linear(4, 3)), torch.rand(5, 4)
    shipped = deploy(model, Recipe(2, 2), [batch])
    with pytest.raises(ValueError, match="`model` must be converted"):
        correct_bias_(copy.deepcopy(model), model, [batch])
    with pytest.raises(ValueError, match="`model` must be converted"):
        correct_bias_(prepare_(copy.deepcopy(model), Recipe(2, 2)), model, [batch])
    with pytest.raises(ValueError, match="`float_model` must be a float model"):
        correct_bias_(shipped, shipped, [batch])
    with pytest.raises(ValueError, match=r"differ in \['0.bias', '0.weight'\]"):
        correct_bias_(shipped, nn.Sequential(nn.Linear(4, 2)), [batch])


def test_correction_and_divergence_need_examples() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    shipped = deploy(model, Recipe(2, 2), [torch.rand(5, 4)])
    for batches in ([], iter(()), [torch.zeros(0, 4)]):
        with pytest.raises(ValueError, match="at least one example"):
            correct_bias_(shipped, model, batches)
        with pytest.raises(ValueError, match="at least one example"):
            output_divergence(model, shipped, batches)
    before = shipped[0].bias.clone()
    with pytest.raises(ValueError, match="those of '0' are not"):
        correct_bias_(shipped, model, [torch.full((1, 4), torch.inf)])
    assert torch.equal(shipped[0].bias, before)
