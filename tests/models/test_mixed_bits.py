"""Mixed widths: against enumeration, and what models ship with them."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.fl_core.data.datasets import split_dataset
from fedhq.fl_core.data.registry import load_dataset
from fedhq.models import (
    LayerBits,
    Recipe,
    build_model,
    deploy,
    fake_quant_layers,
    quantizable_layers,
)
from fedhq.models.mixed_bits import MixedBits, allocate_bits, with_bits
from fedhq.models.ptq import output_divergence
from fedhq.models.sensitivity import (
    HessianTrace,
    Perturbation,
    Sensitivity,
    layer_sensitivities,
)


def random_sensitivity(seed: int, num_layers: int, bits: tuple[int, ...]) -> Sensitivity:
    """Sensitivities that fall with the bits over several orders of magnitude, noise included."""
    rng = np.random.default_rng(seed)
    size = num_layers, len(bits)
    falling = 4.0 ** -np.array(bits) * 10.0 ** rng.uniform(-2, 2, (num_layers, 1))
    values = falling * rng.uniform(0.3, 3.0, size)
    counts = rng.integers(1, 5000, num_layers)
    names = [f"layer{k}" for k in range(num_layers)]
    return Sensitivity(names, bits, values, counts, Perturbation())


def least_sum(found: Sensitivity, mean_bits: float) -> float:
    """The optimum by trying everything."""
    limit = mean_bits * found.num_weights.sum() * (1 + 1e-9)
    rows = np.arange(len(found.layers))
    choices = np.array(list(itertools.product(range(len(found.bits)), repeat=len(rows))))
    used = (np.array(found.bits)[choices] * found.num_weights).sum(axis=1)
    return float(found.values[rows, choices].sum(axis=1)[used <= limit].min())


def least_sum_by_table(found: Sensitivity, mean_bits: float) -> float:
    """The optimum by dynamic programming over the bits used, for few weights a layer."""
    limit = int(mean_bits * found.num_weights.sum() + 1e-6)
    best = np.full(limit + 1, np.inf)
    best[0] = 0.0
    for values, count in zip(found.values, found.num_weights, strict=True):
        after = np.full(limit + 1, np.inf)
        for value, width in zip(values, found.bits, strict=True):
            used = int(width * count)
            if used <= limit:
                after[used:] = np.minimum(after[used:], best[: limit + 1 - used] + value)
        best = after
    return float(best.min())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mean_bits", [2, 2.3, 3, 4, 5.7, 8])
def test_the_choice_is_the_best_of_all(seed, mean_bits) -> None:
    found = random_sensitivity(seed, num_layers=6, bits=(2, 3, 4, 8))
    mixed = allocate_bits(found, mean_bits)
    assert mixed.sensitivity == pytest.approx(least_sum(found, mean_bits), rel=2e-6)
    assert mixed.mean_bits <= mean_bits * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_with_many_layers(seed) -> None:
    found = random_sensitivity(seed, num_layers=40, bits=(2, 3, 4, 5, 6, 7, 8))
    few = np.random.default_rng(seed).integers(1, 40, 40)
    found = Sensitivity(found.layers, found.bits, found.values, few, found.measure)
    wanted = least_sum_by_table(found, 3.5)
    assert allocate_bits(found, 3.5).sensitivity == pytest.approx(wanted, rel=2e-6)


def test_what_is_reported_is_what_the_choice_takes() -> None:
    found = random_sensitivity(0, num_layers=6, bits=(2, 4, 8))
    mixed = allocate_bits(found, 4.5)
    columns = [found.bits.index(width) for width in mixed.bits]
    assert mixed.layers == found.layers
    assert mixed.sensitivity == pytest.approx(found.values[np.arange(6), columns].sum())
    mean = np.average(mixed.bits, weights=found.num_weights)
    assert mixed.mean_bits == pytest.approx(mean)


def test_a_layer_of_many_weights_pays_for_one_of_few() -> None:
    values = [[1.0, 0.5, 0.1], [1.0, 0.5, 0.1]]
    found = Sensitivity(("small", "large"), (2, 4, 8), values, [1, 100], Perturbation())
    assert allocate_bits(found, 4.0).bits == (4, 4)
    assert allocate_bits(found, 4.05).bits == (8, 4)


def test_a_larger_budget_never_costs_more() -> None:
    found = random_sensitivity(5, num_layers=10, bits=(2, 3, 4, 6, 8))
    sums = [allocate_bits(found, mean_bits).sensitivity for mean_bits in np.linspace(2, 8, 13)]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(sums))


def test_without_a_limit_every_layer_has_the_width_it_likes_best() -> None:
    values = [[0.3, 0.1, 0.2], [0.3, 0.2, 0.1]]
    found = Sensitivity(("a", "b"), (2, 4, 8), values, [10, 20], Perturbation())
    assert allocate_bits(found, 8).bits == (4, 8)
    assert allocate_bits(found, float("inf")).bits == (4, 8)


def test_values_of_zero_are_no_obstacle() -> None:
    found = Sensitivity(("a", "b"), (2, 4), np.zeros((2, 2)), [10, 20], Perturbation())
    assert allocate_bits(found, 3).sensitivity == 0


@pytest.mark.parametrize("mean_bits", [1.9, 0, -1, float("nan")])
def test_a_budget_below_the_smallest_width_is_refused(mean_bits) -> None:
    found = random_sensitivity(0, num_layers=3, bits=(2, 4))
    with pytest.raises(ValueError, match=r"`mean_bits >= 2` must hold.*Measure smaller widths"):
        allocate_bits(found, mean_bits)


# Recipes


def test_the_recipe_gives_each_layer_its_width_above_what_stood_there() -> None:
    recipe = Recipe(4, 8, exclude=("out",), layers=(LayerBits("a*", 3, 5), LayerBits("c", 6, None)))
    mixed = MixedBits(("a1", "b", "c"), (2, 7, 5), 4.0, 0.1)
    stays, follows = with_bits(recipe, mixed), with_bits(recipe, mixed, activations_follow=True)
    assert [stays.bits_of(name) for name in ("a1", "a2", "b", "c")] == [
        (2, 5),
        (3, 5),
        (7, 8),
        (5, None),
    ]
    assert [follows.bits_of(name) for name in ("a1", "a2", "b", "c")] == [
        (2, 2),
        (3, 5),
        (7, 7),
        (5, None),
    ]
    assert stays.exclude == ("out",)


def test_a_name_with_brackets_is_no_pattern() -> None:
    recipe = with_bits(Recipe(4, 8), MixedBits(("x1", "x[1]"), (2, 8), 5.0, 0.0))
    assert [recipe.bits_of(name)[0] for name in ("x1", "x[1]")] == [2, 8]


@pytest.mark.parametrize("name", ["cnn", "gru"])
def test_a_model_ships_with_the_widths_chosen(name) -> None:
    shape = {"cnn": (1, 8, 8), "gru": (3, 8)}[name]
    model = build_model(name, shape, num_classes=4, seed=0)
    batches = [torch.rand(20, *shape, generator=torch.Generator().manual_seed(0))]
    recipe = Recipe(4, 8, keep_last=True)
    layers = tuple(quantizable_layers(model, recipe))
    mixed = MixedBits(layers, (3, 5)[: len(layers)], 4.0, 0.0)
    shipped = deploy(model, with_bits(recipe, mixed, activations_follow=True), batches)
    for (layer_name, layer), width in zip(fake_quant_layers(shipped), mixed.bits, strict=True):
        assert layer_name in layers
        assert {quantizer.bits for quantizer in layer.weight_quantizers.values()} == {width}
        assert layer.input_quantizer.bits == width


@pytest.fixture(scope="module")
def trained():
    """A ResNet that knows its digits, and the images to calibrate and to test with."""
    digits = split_dataset(load_dataset("digits"), 400, 100, np.random.default_rng(0))
    model = build_model("resnet8", (1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        rows = torch.randint(len(digits.train), (64,), generator=generator)
        optimizer.zero_grad()
        logits = model(digits.train.inputs[rows])
        nn.functional.cross_entropy(logits, digits.train.labels[rows]).backward()
        optimizer.step()
    return model, digits


@pytest.mark.parametrize("measure", [Perturbation(), HessianTrace(8)], ids=["direct", "hessian"])
@pytest.mark.parametrize("mean_bits", [3, 4])
def test_mixed_widths_ship_a_better_model_of_the_same_size(trained, measure, mean_bits) -> None:
    model, digits = trained
    recipe, calibration = Recipe(mean_bits, 8), [digits.calibration.inputs]
    found = layer_sensitivities(model, recipe, calibration, measure=measure)
    mixed = allocate_bits(found, mean_bits)
    assert mixed.sensitivity < 0.5 * found.values[:, found.bits.index(mean_bits)].sum()
    uniform, better = (
        output_divergence(model, deploy(model, r, calibration), [digits.test.inputs])
        for r in (recipe, with_bits(recipe, mixed))
    )
    assert better < 0.7 * uniform
