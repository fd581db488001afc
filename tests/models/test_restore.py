"""`restore_` gives back the float model: the very objects, whatever was done in between."""

import copy

import pytest
import torch
from torch import nn

from fedhq.models import (
    FakeQuantLayer,
    LayerBits,
    Range,
    Recipe,
    build_model,
    calibrate_,
    convert_,
    prepare_,
    restore_,
    shadow_,
)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.apart = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)

    def forward(self, x):
        x = self.encoder(x)
        return self.apart(x, x[..., :4], x[..., :4])[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 6, batch_first=True, bidirectional=True)
        self.lstm = nn.LSTM(12, 5, batch_first=True)

    def forward(self, x):
        return self.lstm(self.gru(x)[0])[0]


def small(shape, num_classes=3):
    return build_model("cnn", shape, num_classes=num_classes, seed=0)


MODELS = {
    "cnn": (lambda: small((1, 8, 8)), (4, 1, 8, 8)),
    "norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)),
        (4, 1, 8, 8),
    ),
    "attention": (Attention, (4, 5, 8)),
    "recurrent": (Recurrent, (4, 5, 8)),
}
RECIPES = {
    "dynamic": Recipe(2, 2),
    "learned": Recipe(4, 4, weight_range=Range.LEARNED, activation_range=Range.LEARNED),
    "averaged": Recipe(4, 8, activation_range=Range.AVERAGED, keep_first=True),
    "weights": Recipe(2, None),
}


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(0)
    make, shape = MODELS[request.param]
    return make(), torch.rand(shape)


def objects(model):
    """All that a model is made of, and the state of each part but for its tensors."""
    parts = [*model.named_modules(), *model.named_parameters(), *model.named_buffers()]
    attributes = {
        name: sorted(key for key in module.__dict__ if key != "_flat_weight_refs")
        for name, module in model.named_modules()
    }
    fused = [getattr(m, "activation_relu_or_gelu", None) for m in model.modules()]
    nested = [getattr(m, "use_nested_tensor", None) for m in model.modules()]
    kinds = [(name, type(part)) for name, part in parts]
    return [(name, id(part)) for name, part in parts], kinds, attributes, fused, nested


def step(model, inputs):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.train()(inputs).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_float_model_is_back_with_what_it_learned(case, recipe):
    model, inputs = case
    before, keys = objects(model), list(model.state_dict())
    prepare_(model, recipe)
    step(model, inputs)
    trained = {name: value.clone() for name, value in model.state_dict().items() if name in keys}
    assert restore_(model) is model
    assert objects(model) == before
    assert list(model.state_dict()) == keys
    assert all((value == trained[name]).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_it_computes_and_trains_as_if_never_prepared(case, recipe):
    model, inputs = case
    plain = copy.deepcopy(model)
    prepare_(model, recipe)
    if recipe.weight_range is Range.DYNAMIC:
        shadow_(model)
    model.eval()(inputs)
    restore_(model)
    for _ in range(2):
        step(model, inputs)
        step(plain, inputs)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert (one == other).all()
    with torch.no_grad():  # the fused path of encoders, too
        assert (model.eval()(inputs) == plain.eval()(inputs)).all()


def test_an_optimizer_made_before_trains_through_both_changes():
    model, inputs = small((1, 8, 8)), torch.rand(4, 1, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    values = [p.detach().clone() for p in model.parameters()]
    for change in (lambda m: prepare_(m, Recipe(2, 2)), restore_):
        change(model)
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = [p.detach().clone() for p in model.parameters()]
        assert all((a != b).any() for a, b in zip(values, moved, strict=True))
        values = moved


def test_a_model_can_be_prepared_again_at_other_bits():
    model, inputs = small((1, 8, 8)), torch.rand(4, 1, 8, 8)
    fresh = prepare_(copy.deepcopy(model), Recipe(4, 4))
    restore_(prepare_(model, Recipe(2, 2)))
    assert (prepare_(model, Recipe(4, 4))(inputs) == fresh(inputs)).all()


def test_a_float_or_converted_model_cannot_be_restored():
    model, inputs = small((1, 8, 8)), torch.rand(4, 1, 8, 8)
    with pytest.raises(ValueError, match="`restore_` needs a prepared model"):
        restore_(model)
    convert_(calibrate_(prepare_(model, Recipe(2, 2)), [inputs]))
    with pytest.raises(ValueError, match="it is converted already"):
        restore_(model)


def test_what_prepare_refuses_in_the_middle_stays_a_float_model():
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    tied[1].weight = tied[0].weight
    before = objects(tied)
    with pytest.raises(ValueError, match="share a weight"):
        prepare_(tied, Recipe(2, 2, layers=(LayerBits("1", 4, 4),)))
    assert objects(tied) == before
    assert not any(isinstance(module, FakeQuantLayer) for module in tied.modules())
