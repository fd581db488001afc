import pytest
from torch import nn

from fedhq.models import (
    Fit,
    LayerBits,
    PerAxis,
    PerGroup,
    PerTensor,
    Range,
    Recipe,
    fake_quant_layers,
    prepare_,
    quantizable_layers,
)


def network() -> nn.Module:
    return nn.ModuleDict(
        {
            "stem": nn.Conv2d(1, 2, 3),
            "blocks": nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)),
            "attention": nn.MultiheadAttention(4, 2),
            "head": nn.Linear(4, 2),
        }
    )


ALL = ["stem", "blocks.0", "blocks.2", "attention", "head"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ALL),
        ({"include": ("blocks.*",)}, ["blocks.0", "blocks.2"]),
        ({"include": ("blocks.*", "head")}, ["blocks.0", "blocks.2", "head"]),
        ({"exclude": ("*.2", "stem")}, ["blocks.0", "attention", "head"]),
        ({"include": ("blocks.?",), "exclude": ("blocks.[01]",)}, ["blocks.2"]),
        ({"keep_first": True}, ALL[1:]),
        ({"keep_last": True}, ALL[:-1]),
        ({"keep_first": True, "keep_last": True, "exclude": ("head",)}, ["blocks.0", "blocks.2"]),
        ({"exclude": ("attention",)}, ["stem", "blocks.0", "blocks.2", "head"]),
        ({"include": ("STEM", "head")}, ["head"]),
    ],
)
def test_patterns_name_the_layers_that_quantize(settings, names):
    recipe = Recipe(4, 4, **settings)
    model = network()
    assert quantizable_layers(model, recipe) == names
    assert [name for name, _ in fake_quant_layers(prepare_(model, recipe))] == names


def test_of_several_bits_that_fit_the_last_counts():
    layers = (LayerBits("blocks.*", 8, 8), LayerBits("blocks.2", 3, None), LayerBits("h*", 2, 5))
    model = prepare_(network(), Recipe(4, 6, layers=layers))
    bits = {
        name: (
            next(iter(layer.weight_quantizers.values())).bits,
            layer.input_quantizer and layer.input_quantizer.bits,
        )
        for name, layer in fake_quant_layers(model)
    }
    assert bits == {
        "stem": (4, 6),
        "blocks.0": (8, 8),
        "blocks.2": (3, None),
        "attention": (4, 6),
        "head": (2, 5),
    }


def test_a_pattern_that_fits_no_layer_is_named():
    for pattern in ("block.*", "blocks.1"):
        recipe = Recipe(4, 4, layers=(LayerBits(pattern, 4, 4),))
        with pytest.raises(ValueError, match=f"'{pattern}' fits none of"):
            prepare_(network(), recipe)


@pytest.mark.parametrize("bits", [1, 9])
def test_the_bits_must_lie_in_two_to_eight(bits):
    for make in (Recipe, lambda w, a: LayerBits("*", w, a)):
        with pytest.raises(ValueError, match=f"`2 <= weight_bits <= 8` .* weight_bits={bits}"):
            make(bits, 4)
        with pytest.raises(ValueError, match=f"`2 <= activation_bits <= 8` .*={bits}"):
            make(4, bits)


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match="`weight_range` must be dynamic or learned"):
        Recipe(4, 4, weight_range=Range.AVERAGED)
    with pytest.raises(ValueError, match="`include` must hold at least one pattern"):
        Recipe(4, 4, include=())
    with pytest.raises(ValueError, match="`exclude` must be a tuple of patterns, but got 'head'"):
        Recipe(4, 4, exclude="head")
    with pytest.raises(ValueError, match="`group_size >= 1` must hold, but got 0"):
        PerGroup(0)


def test_granularities_say_which_values_share_a_scale():
    shape = (8, 3, 3, 3)
    assert PerTensor().scale_shape(shape) == ()
    assert PerAxis().scale_shape(shape) == (8,)
    assert PerGroup(9).scale_shape(shape) == (8, 3)
    assert PerGroup(32).scale_shape(shape) == (8,)  # 27 is no multiple of 32
    assert PerGroup(1).scale_shape((8,)) == (8, 1)


def test_choices_may_be_given_by_name_and_bits_must_be_whole():
    recipe = Recipe(4, 8, weight_fit="absmax", activation_range="learned")
    assert recipe.weight_fit is Fit.ABSMAX
    assert recipe.activation_range is Range.LEARNED
    with pytest.raises(ValueError, match="'median' is not a valid Fit"):
        Recipe(4, 8, weight_fit="median")
    with pytest.raises(ValueError, match="averaged: a weight is known"):
        Recipe(4, 8, weight_range="averaged")
    for bad in (4.0, "4", None, True):
        with pytest.raises(ValueError, match="`weight_bits` must be a whole number"):
            Recipe(bad, 8)
