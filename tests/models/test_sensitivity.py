"""Sensitivities against closed forms, full Hessians, and models quantized by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.fl_core.data.registry import load_dataset
from fedhq.models import (
    Fit,
    LayerBits,
    PerTensor,
    Range,
    Recipe,
    build_model,
    prepare_,
    quantizable_layers,
)
from fedhq.models.observers import quantize_activation, quantize_weight
from fedhq.models.sensitivity import (
    HessianTrace,
    Perturbation,
    Sensitivity,
    layer_sensitivities,
)

MEASURES = [Perturbation(), Perturbation(activations_follow=True), HessianTrace(num_probes=2)]


@pytest.fixture(params=MEASURES, ids=["weights", "both", "hessian"])
def measure(request):
    return request.param


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_model(seed: int = 0) -> nn.Module:
    return build_model("mlp", (1, 4, 4), num_classes=3, seed=seed)


@pytest.fixture(scope="module")
def trained():
    """A CNN that knows its digits, and images to measure with."""
    digits = load_dataset("digits")
    model = build_model("cnn", (1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        rows = torch.randint(1500, (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(digits.inputs[rows]), digits.labels[rows]).backward()
        optimizer.step()
    return model, list(digits.inputs[1500:].split(100))


def divergence(wanted: torch.Tensor, found: torch.Tensor) -> float:
    one, two = (x.detach().double().log_softmax(dim=1) for x in (wanted, found))
    return float((one.exp() * (one - two)).sum(dim=1).mean())


def rounding_error(weight: torch.Tensor, bits: int) -> float:
    quantized = quantize_weight(weight.detach(), bits, (len(weight),), Fit.MSE)[0]
    return float((quantized - weight.detach()).double().square().sum())


# Perturbation


@pytest.mark.parametrize("fit", Fit)
def test_perturbation_is_the_divergence_with_one_weight_rounded(fit) -> None:
    model, batches = small_model(), [numbers(9, 1, 4, 4), numbers(4, 1, 4, 4, seed=1)]
    recipe = Recipe(4, 8, granularity=PerTensor(), weight_fit=fit)
    found = layer_sensitivities(model, recipe, batches, bits=(2, 5))
    for row, name in enumerate(found.layers):
        for column, width in enumerate(found.bits):
            rounded = copy.deepcopy(model)
            weight = rounded.get_submodule(name).weight
            weight.data = quantize_weight(weight.data, width, (), fit)[0]
            examples = torch.cat(batches)
            wanted = divergence(model(examples), rounded(examples))
            assert found.values[row, column] == pytest.approx(wanted, rel=1e-4)


def test_activations_that_follow_are_rounded_too() -> None:
    layer, batch = nn.Linear(6, 3), numbers(20, 6)
    weights, both = (
        layer_sensitivities(layer, Recipe(4, 8), [batch], (3,), Perturbation(follow))
        for follow in (False, True)
    )
    rounded = quantize_weight(layer.weight.detach(), 3, (3,))[0]
    x = quantize_activation(batch, 3)[0]
    for found, seen in ((weights, batch), (both, x)):
        wanted = divergence(layer(batch), nn.functional.linear(seen, rounded, layer.bias))
        assert found.values[0, 0] == pytest.approx(wanted, rel=1e-4)
    assert both.layers == ("",)


def test_inputs_that_the_recipe_leaves_float_do_not_follow() -> None:
    model, batch = small_model(), numbers(9, 1, 4, 4)
    partly = Recipe(4, 8, layers=(LayerBits("linear?", 4, None),))
    for recipe, follows in ((Recipe(4, None), []), (partly, [2]), (Recipe(4, 8), [0, 1, 2])):
        weights, both = (
            layer_sensitivities(model, recipe, [batch], (3,), Perturbation(follow)).values
            for follow in (False, True)
        )
        assert np.flatnonzero(weights != both).tolist() == follows


def test_a_name_with_brackets_is_no_pattern() -> None:
    plain = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    odd = nn.Sequential()
    odd.add_module("x[1]", plain[0])
    odd.add_module("x1", plain[1])
    found, wanted = (
        layer_sensitivities(model, Recipe(4, 8), [numbers(5, 3)], (2, 4)) for model in (odd, plain)
    )
    assert found.layers == ("x[1]", "x1")
    assert np.array_equal(found.values, wanted.values)


# Hessian trace


def test_the_trace_of_a_linear_model_is_its_closed_form() -> None:
    """The Hessian in the weights is the mean of `(diag(p) - p p') kron x x'`."""
    layer, batches = nn.Linear(4, 3), [numbers(5, 4), numbers(3, 4, seed=1)]
    x = torch.cat(batches).double()
    p = layer.double()(x).detach().softmax(dim=1)
    trace = float(((p - p.square()).sum(dim=1) * x.square().sum(dim=1)).mean())
    layer.float()
    found = layer_sensitivities(layer, Recipe(4, 8), batches, (2, 4), HessianTrace(3000))
    for column, width in enumerate((2, 4)):
        wanted = 0.5 * trace / 12 * rounding_error(layer.weight, width)
        assert found.values[0, column] == pytest.approx(wanted, rel=0.03)


def test_traces_of_a_nonlinear_model_are_those_of_its_whole_hessian() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))
    batch = 2 * numbers(6, 3)
    found = layer_sensitivities(model, Recipe(4, 8), [batch], (3,), HessianTrace(3000))
    wanted = model(batch).detach().log_softmax(dim=1)
    for row, name in enumerate(("0", "2")):
        weight = model.get_submodule(name).weight

        def loss(value: torch.Tensor, name: str = name) -> torch.Tensor:
            logits = torch.func.functional_call(model, {f"{name}.weight": value}, (batch,))
            return (wanted.exp() * (wanted - logits.log_softmax(dim=1))).sum(dim=1).mean()

        hessian = torch.autograd.functional.hessian(loss, weight.detach())
        trace = float(hessian.reshape(weight.numel(), -1).trace())
        expected = 0.5 * trace / weight.numel() * rounding_error(weight, 3)
        assert found.values[row, 0] == pytest.approx(expected, rel=0.05)


def test_a_text_is_measured_at_each_of_its_characters() -> None:
    """As many texts of one character each as there are characters have the same trace."""

    class Characters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(x).movedim(-1, 1)

    model, text = Characters(), torch.arange(20).reshape(2, 10) % 5
    whole, single = (
        layer_sensitivities(model, Recipe(4, None), [x], (2,), HessianTrace(2000))
        for x in (text, text.reshape(20, 1))
    )
    assert whole.values[0, 0] == pytest.approx(single.values[0, 0], rel=0.05)
    direct = [
        layer_sensitivities(model, Recipe(4, None), [x], (2,)).values[0, 0]
        for x in (text, text.reshape(20, 1))
    ]
    assert direct[0] == pytest.approx(direct[1], rel=1e-9)


def test_a_trace_does_not_depend_on_which_other_layers_are_measured() -> None:
    model, batch, probes = small_model(), numbers(9, 1, 4, 4), HessianTrace(4, seed=3)
    every = layer_sensitivities(model, Recipe(4, 8), [batch], (3,), probes)
    last = layer_sensitivities(model, Recipe(4, 8, include=("linear",)), [batch], (3,), probes)
    assert last.values[0, 0] == every.values[-1, 0]


def test_the_seed_decides_the_probes() -> None:
    model, batch = small_model(), numbers(9, 1, 4, 4)
    one, same, other = (
        layer_sensitivities(model, Recipe(4, 8), [batch], (3,), HessianTrace(4, seed)).values
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.allclose(one, other, rtol=0.8)


def test_curvature_predicts_what_perturbation_finds(trained) -> None:
    model, batches = trained
    found, predicted = (
        layer_sensitivities(model, Recipe(4, 8), batches, (3, 4, 5, 6), measure).values
        for measure in (Perturbation(), HessianTrace())
    )
    assert np.corrcoef(np.log(found).ravel(), np.log(predicted).ravel())[0, 1] > 0.9
    assert (np.abs(np.log(predicted / found)) < np.log(3)).all()


# Both


def test_more_bits_cost_a_trained_model_less(trained, measure) -> None:
    model, batches = trained
    values = layer_sensitivities(model, Recipe(4, 8), batches, (2, 3, 4, 8), measure).values
    assert (np.diff(values, axis=1) < 0).all()
    assert (values > 0).all()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet8", (1, 8, 8)), ("vit", (1, 4, 4)), ("cnn1d", (2, 8)), ("gru", (2, 8))],
)
def test_every_network_can_be_measured(name, shape, measure) -> None:
    model = build_model(name, shape, num_classes=3, seed=0)
    found = layer_sensitivities(model, Recipe(4, 4), [numbers(6, *shape)], (2, 8), measure)
    assert list(found.layers) == quantizable_layers(model, Recipe(4, 4))
    assert (found.values[:, 0] > 0).all()
    assert found.values[:, 1].sum() < 0.1 * found.values[:, 0].sum()


def test_a_text_model_can_be_measured(measure) -> None:
    model = build_model("charlm", (6,), num_classes=5, seed=0)
    text = torch.arange(18).reshape(3, 6) % 5
    found = layer_sensitivities(model, Recipe(4, 4), [text], (2, 8), measure)
    assert found.layers[0] == "characters"
    assert (found.values[:, 0] > found.values[:, 1]).all()


def test_a_layer_counts_all_its_quantized_weights(measure) -> None:
    model = build_model("gru", (2, 8), num_classes=3, seed=0)
    found = layer_sensitivities(model, Recipe(4, 8), [numbers(3, 2, 8)], (4,), measure)
    assert found.num_weights.tolist() == [3 * 64 * (2 + 64), 64 * 3]


def test_layers_are_those_that_the_recipe_quantizes(measure) -> None:
    model, batch = small_model(), numbers(9, 1, 4, 4)
    recipe = Recipe(4, 8, keep_first=True, exclude=("linear2",))
    assert layer_sensitivities(model, recipe, [batch], (4,), measure).layers == ("linear",)


def test_learned_ranges_and_widths_of_the_recipe_do_not_count(measure) -> None:
    model, batch = small_model(), numbers(9, 1, 4, 4)
    plain = layer_sensitivities(model, Recipe(4, 8), [batch], (3,), measure)
    learned = Recipe(
        2,
        3,
        weight_range=Range.LEARNED,
        activation_range=Range.LEARNED,
        layers=(LayerBits("linear", 8, 2),),
    )
    found = layer_sensitivities(model, learned, [batch], (3,), measure)
    assert np.array_equal(found.values, plain.values)


def test_the_model_is_left_as_it_was_even_if_parts_are_frozen(measure) -> None:
    model, batch = small_model().train(), numbers(9, 1, 4, 4)
    free = layer_sensitivities(model, Recipe(4, 8), [batch], (3,), measure)
    model.linear1.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    found = layer_sensitivities(model, Recipe(4, 8), iter([batch]), (3,), measure)
    assert np.array_equal(found.values, free.values)
    assert model.training
    assert not model.linear1.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_wrong_arguments_are_refused(measure) -> None:
    model, batch = small_model(), numbers(9, 1, 4, 4)
    prepared = prepare_(copy.deepcopy(model), Recipe(4, 8))
    with pytest.raises(ValueError, match="`model` must be a float model"):
        layer_sensitivities(prepared, Recipe(4, 8), [batch], (4,), measure)
    with pytest.raises(ValueError, match="at least one example"):
        layer_sensitivities(model, Recipe(4, 8), iter(()), (4,), measure)
    with pytest.raises(ValueError, match="`2 <= bits <= 8` must hold"):
        layer_sensitivities(model, Recipe(4, 8), [batch], (1, 4), measure)
    with pytest.raises(ValueError, match=r"ascending, but got \(4, 2\)"):
        layer_sensitivities(model, Recipe(4, 8), [batch], (4, 2), measure)
    with pytest.raises(ValueError, match="at least one width"):
        layer_sensitivities(model, Recipe(4, 8), [batch], (), measure)


def test_layers_that_share_a_weight_are_refused(measure) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="must not share a weight, but '0' and '1' do"):
        layer_sensitivities(model, Recipe(4, 8), [numbers(2, 3)], (4,), measure)
    recipe = Recipe(4, 8, exclude=("1",))
    assert layer_sensitivities(model, recipe, [numbers(2, 3)], (4,), measure).layers == ("0",)


def test_sensitivities_are_checked_and_read_only() -> None:
    found = Sensitivity(("a",), (2, 4), [[1.0, 0.5]], [3], Perturbation())
    for array in (found.values, found.num_weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(ValueError, match=r"`values` must have shape \(1, 2\)"):
        Sensitivity(("a",), (2, 4), [[1.0]], [3], Perturbation())
    with pytest.raises(ValueError, match="finite and >= 0"):
        Sensitivity(("a",), (2, 4), [[1.0, -0.5]], [3], Perturbation())
    with pytest.raises(ValueError, match="every layer must have weights"):
        Sensitivity(("a",), (2, 4), [[1.0, 0.5]], [0], Perturbation())
    with pytest.raises(ValueError, match=r"`num_probes >= 1` must hold, but got 0"):
        HessianTrace(num_probes=0)
