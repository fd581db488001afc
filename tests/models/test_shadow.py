import copy

import pytest
import torch
from torch import nn

from fedhq.models import (
    Fit,
    PerGroup,
    Range,
    Recipe,
    WeightQuantizer,
    calibrate_,
    convert_,
    prepare_,
    shadow_,
)

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=0.01),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.1),
    "foreach": lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9, foreach=True),
    "fused": lambda parameters: torch.optim.Adam(parameters, 0.01, fused=True),
}


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(recipe: Recipe | None = None) -> tuple[nn.Module, nn.Module]:
    """The same model twice: plain, and shadowed."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    plain = prepare_(model, recipe or Recipe(2, 4))
    return plain, shadow_(copy.deepcopy(plain))


def backward(model: nn.Module, seed: int = 0) -> torch.Tensor:
    output = model(gaussian(5, 2, 6, 6, seed=seed))
    nn.functional.cross_entropy(output, torch.arange(5) % 3).backward()
    return output.detach()


def assert_same(plain: nn.Module, shadowed: nn.Module) -> None:
    for one, other in zip(plain.parameters(), shadowed.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is other.grad is None or torch.equal(one.grad, other.grad)


def quantizers(model: nn.Module) -> list[WeightQuantizer]:
    return [module for module in model.modules() if isinstance(module, WeightQuantizer)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_that_of_the_unshadowed_model(name):
    models = pair()
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    before = copy.deepcopy(models[0])
    for step in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert torch.equal(*(backward(model, step) for model in models))
        assert_same(*models)
        for optimizer in optimizers:
            optimizer.step()
    assert not torch.equal(before[0].weight, models[0][0].weight)


def test_steps_by_hand_are_seen_although_torch_does_not_count_them():
    models = pair()
    for step in range(3):
        assert torch.equal(*(backward(model, step) for model in models))
        for parameter in (p for model in models for p in model.parameters()):
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    assert_same(*models)


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("group", [None, 3])
def test_every_fit_and_granularity_has_the_same_shadow(fit, group):
    settings = {} if group is None else {"granularity": PerGroup(group)}
    models = pair(Recipe(3, 4, weight_fit=fit, **settings))
    assert torch.equal(*(backward(model) for model in models))
    assert_same(*models)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_accumulate(set_to_none):
    models = pair()
    for model in models:
        for seed in range(3):
            backward(model, seed)
    assert_same(*models)
    for model in models:
        model.zero_grad(set_to_none)
        backward(model)
    assert_same(*models)


def test_a_weight_is_quantized_once_until_it_changes():
    _, shadowed = pair()
    layer = shadowed[3]
    first = layer.quantized_weight()
    kept = first.detach().clone()
    assert layer.quantized_weight() is first
    with torch.no_grad():
        layer.weight.mul_(3)
    assert torch.equal(layer.quantized_weight(), 3 * kept)


def test_a_received_model_is_seen():
    plain, shadowed = pair()
    backward(shadowed)
    other = {name: gaussian(*v.shape, seed=5) for name, v in plain.state_dict().items()}
    for model in (plain, shadowed):
        model.zero_grad()
        model.load_state_dict(other)
    assert torch.equal(backward(plain), backward(shadowed))
    assert_same(plain, shadowed)


@pytest.mark.parametrize("assigns", [True, False])
def test_replaced_values_are_seen_wherever_they_come_to_lie(assigns):
    plain, shadowed = pair()
    for k in range(12):
        # The memory of the second may be that of the first.
        for seed in (2 * k, 2 * k + 1):
            values = {n: gaussian(*v.shape, seed=seed) for n, v in plain.state_dict().items()}
            if assigns:
                shadowed.load_state_dict(values, assign=True)
            else:
                for name, parameter in shadowed.named_parameters():
                    parameter.data = values[name]
            del values
        plain.load_state_dict(shadowed.state_dict())
        x = gaussian(2, 2, 6, 6)
        assert torch.equal(plain(x), shadowed(x))


def test_a_copy_has_shadows_of_its_own():
    plain, shadowed = pair()
    backward(shadowed)
    twin = copy.deepcopy(shadowed)
    twin.zero_grad()
    shadowed.zero_grad()
    assert torch.equal(backward(twin), backward(plain))
    assert_same(plain, twin)
    assert all(parameter.grad is None for parameter in shadowed.parameters())


def test_frozen_weights_get_no_gradient_and_thawed_ones_do():
    plain, shadowed = pair()
    for is_trained in (False, True, False):
        for model in (plain, shadowed):
            model.zero_grad()
            model[3].weight.requires_grad_(is_trained)
            backward(model)
        assert (shadowed[3].weight.grad is not None) == is_trained
        assert_same(plain, shadowed)


def test_layers_may_share_a_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    plain = prepare_(model, Recipe(3, 4))
    shadowed = shadow_(copy.deepcopy(plain))
    assert shadowed[2].weight is shadowed[0].weight
    for model in (plain, shadowed):
        model(gaussian(4, 6)).square().sum().backward()
    assert_same(plain, shadowed)


def test_a_layer_may_be_used_twice():
    plain, shadowed = pair()
    for model in (plain, shadowed):
        layer = model[5]
        (layer(gaussian(4, 8)).sum() + layer(gaussian(4, 8, seed=1)).square().sum()).backward()
    assert_same(plain, shadowed)


@pytest.mark.parametrize("make", [lambda: nn.GRU(3, 4, 2), lambda: nn.MultiheadAttention(4, 2)])
def test_layers_of_several_weights_have_several_shadows(make):
    torch.manual_seed(0)
    plain = prepare_(make(), Recipe(3, 4))
    shadowed = shadow_(copy.deepcopy(plain))
    for model in (plain, shadowed):
        inputs = [gaussian(5, 2, 3)] if isinstance(model, nn.GRU) else [gaussian(5, 2, 4)] * 3
        model(*inputs)[0].square().sum().backward()
    assert_same(plain, shadowed)
    assert len(quantizers(shadowed)) > 1


def test_learned_weights_cast_no_shadow():
    models = pair(Recipe(3, 4, weight_range=Range.LEARNED))
    assert torch.equal(*(backward(model) for model in models))
    assert_same(*models)


def test_shadows_can_be_taken_off_and_converted():
    plain, shadowed = pair()
    backward(shadowed)
    shadow_(shadowed, on=False)
    shadowed.zero_grad()
    assert torch.equal(backward(plain), backward(shadowed))
    assert_same(plain, shadowed)
    shadow_(shadowed)
    batches = [gaussian(4, 2, 6, 6)]
    x = gaussian(3, 2, 6, 6, seed=1)
    shipped = [convert_(calibrate_(model, batches))(x) for model in (plain, shadowed)]
    assert torch.equal(*shipped)


def test_evaluation_without_gradients_does_not_disturb_training():
    plain, shadowed = pair()
    with torch.no_grad():
        shadowed(gaussian(2, 2, 6, 6))
    assert torch.equal(backward(plain), backward(shadowed))
    assert_same(plain, shadowed)


def test_only_prepared_models_have_shadows():
    with pytest.raises(ValueError, match="`shadow_` needs a prepared model"):
        shadow_(nn.Linear(2, 2))
    model = convert_(prepare_(nn.Sequential(nn.Linear(2, 2)), Recipe(2, None)))
    with pytest.raises(ValueError, match="converted already"):
        shadow_(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_shadow_follows_its_weight_to_another_type(dtype):
    models = pair()
    x = gaussian(5, 2, 6, 6)
    for model in models:
        model(x)
        model.to(dtype)
    assert torch.equal(*(model(x.to(dtype)) for model in models))


def test_a_shadow_made_in_inference_mode_is_not_trained_with():
    models = pair()
    x = gaussian(5, 2, 6, 6)
    with torch.inference_mode():
        assert torch.equal(*(model(x) for model in models))
    assert torch.equal(*(backward(model) for model in models))
    assert_same(*models)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_evaluation_between_backward_and_step_changes_nothing(name):
    models = pair()
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    for step in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            backward(model, step)
            with torch.no_grad():
                model(gaussian(5, 2, 6, 6))
            optimizer.step()
        assert_same(*models)
        assert torch.equal(*(model(gaussian(5, 2, 6, 6)) for model in models))
