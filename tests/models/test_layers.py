import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fedhq.models import FakeQuantLayer, PerGroup, PerTensor, Recipe, prepare_
from fedhq.models.observers import quantize_activation, quantize_weight

# Torch says so once of every LSTM with projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

WEIGHT_BITS, INPUT_BITS = 3, 4


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens() -> torch.Tensor:
    return torch.tensor([[1, 0, 5], [2, 2, 6]])


def on_grid(x: torch.Tensor) -> torch.Tensor:
    return quantize_activation(x, INPUT_BITS)[0]


def by_hand(layer: nn.Module, granularity=None) -> nn.Module:
    """A float copy whose matrices lie on their grids."""
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if "weight" in name:
                shape = (granularity or Recipe(2, 2).granularity).scale_shape(parameter.shape)
                parameter.copy_(quantize_weight(parameter, WEIGHT_BITS, shape)[0])
    return twin


def prepared(layer: nn.Module, **settings) -> nn.Module:
    return prepare_(copy.deepcopy(layer), Recipe(WEIGHT_BITS, INPUT_BITS, **settings))


LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1, groups=1), gaussian(2, 3, 9)),
    "conv1d-circular": (
        lambda: nn.Conv1d(3, 4, 3, 1, 1, padding_mode="circular"),
        gaussian(2, 3, 9),
    ),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, bias=False), gaussian(2, 4, 8, 8)),
    "conv2d-depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, dilation=2), gaussian(2, 4, 8, 8)),
    "linear": (lambda: nn.Linear(7, 5), gaussian(3, 2, 7)),
    "gru": (lambda: nn.GRU(5, 4, 2, bidirectional=True, batch_first=True), gaussian(3, 6, 5)),
    "lstm": (lambda: nn.LSTM(5, 4, 2, bidirectional=True), gaussian(6, 3, 5)),
    "lstm-projected": (lambda: nn.LSTM(5, 4, proj_size=2, bias=False), gaussian(6, 3, 5)),
    "gru-one": (lambda: nn.GRU(5, 4), gaussian(6, 5)),
}


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("granularity", [None, PerTensor(), PerGroup(2)])
def test_a_layer_is_its_float_twin_with_weights_and_input_on_their_grids(kind, granularity):
    torch.manual_seed(0)
    make, x = LAYERS[kind]
    layer = make()
    settings = {} if granularity is None else {"granularity": granularity}
    ours = first(prepared(layer, **settings)(x))
    assert torch.equal(ours, first(by_hand(layer, granularity)(on_grid(x))))
    assert not torch.equal(ours, first(layer(x)))


@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_stay_the_objects_and_keys_that_they_were(kind):
    layer = LAYERS[kind][0]()
    before, keys = list(layer.parameters()), list(layer.state_dict())
    assert prepare_(layer, Recipe(2, 2)) is layer
    assert all(a is b for a, b in zip(before, layer.parameters(), strict=True))
    assert list(layer.state_dict()) == keys
    assert isinstance(layer, FakeQuantLayer)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_every_parameter_and_the_input(kind):
    torch.manual_seed(0)
    make, x = LAYERS[kind]
    layer, x = prepared(make()), x.clone().requires_grad_()
    first(layer(x)).square().sum().backward()
    for gradient in (x.grad, *(parameter.grad for parameter in layer.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if "gru" in kind or "lstm" in kind])
def test_a_recurrent_layer_keeps_its_float_weights_and_can_be_copied(kind):
    make, x = LAYERS[kind]
    layer = prepared(make())
    wanted = first(layer(x))
    assert all(w is p for w, p in zip(layer._flat_weights, layer.parameters(), strict=False))
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
    assert torch.equal(first(twin(x)), wanted)
    assert not torch.equal(first(layer(x)), wanted)


@pytest.mark.parametrize("make", [nn.GRU, nn.LSTM])
def test_packed_sequences_are_quantized_by_their_values_alone(make):
    torch.manual_seed(0)
    layer, x = make(5, 4, batch_first=True), gaussian(3, 6, 5)
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 1]), batch_first=True)
    ours = pad_packed_sequence(prepared(layer)(packed)[0])[0]
    wanted = by_hand(layer)(packed._replace(data=on_grid(packed.data)))[0]
    assert torch.equal(ours, pad_packed_sequence(wanted)[0])


def test_a_start_state_is_handed_on():
    layer = nn.GRU(5, 4)
    x, state = gaussian(6, 3, 5), gaussian(1, 3, 4, seed=1)
    ours, wanted = prepared(layer)(x, state), by_hand(layer)(on_grid(x), state)
    assert torch.equal(ours[0], wanted[0])
    assert torch.equal(ours[1], wanted[1])


def test_an_embedding_has_quantized_vectors_and_takes_indices_as_they_are():
    layer = nn.Embedding(7, 4, padding_idx=0)
    ours = prepared(layer)
    assert torch.equal(ours(tokens()), by_hand(layer)(tokens()))
    assert ours.input_quantizer is None
    ours(tokens()).sum().backward()
    assert ours.weight.grad.abs().sum(dim=1).bool().tolist() == [0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("settings", [{"max_norm": 1.0}, {"sparse": True}])
def test_embeddings_that_cannot_quantize_are_named(settings):
    with pytest.raises(ValueError, match=r"`max_norm` must be None and `sparse` False .*exclude"):
        prepare_(nn.Sequential(nn.Embedding(7, 4, **settings)), Recipe(2, 2))


CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
        {"attn_mask": torch.zeros(5, 5).masked_fill(CAUSAL, -torch.inf)},
        {"key_padding_mask": PADDED, "average_attn_weights": False},
    ],
)
def test_self_attention_is_its_float_twin(batch_first, masks):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=batch_first)
    x = gaussian(2, 5, 6) if batch_first else gaussian(5, 2, 6)
    ours, weights = prepared(layer)(x, x, x, **masks)
    q = on_grid(x)
    wanted, wanted_weights = by_hand(layer)(q, q, q, **masks)
    assert torch.equal(ours, wanted)
    assert weights is wanted_weights is None or torch.equal(weights, wanted_weights)


@pytest.mark.parametrize("settings", [{}, {"kdim": 3, "vdim": 4}, {"add_bias_kv": True}])
def test_attention_to_another_sequence_is_its_float_twin(settings):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, **settings)
    widths = 6, settings.get("kdim", 6), settings.get("vdim", 6)
    q, k, v = (gaussian(4, 2, width, seed=width) for width in widths)
    ours = prepared(layer)(q, k, v)[0]
    assert torch.equal(ours, by_hand(layer)(on_grid(q), on_grid(k), on_grid(v))[0])
    unbatched = prepared(layer)(q[:, 0], k[:, 0], v[:, 0])[0]
    assert unbatched.shape == (4, 6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("padding", [None, PADDED])
def test_encoders_quantize_in_eval_mode_too(padding):
    # Without gradients torch takes a fused way that would read the float weights.
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    model = prepare_(nn.TransformerEncoder(layer, 2), Recipe(2, 2)).eval()
    x = gaussian(2, 5, 6)
    wanted = model(x, src_key_padding_mask=padding)
    with torch.no_grad():
        found = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_subclasses_that_would_stay_float_are_named():
    class Special(nn.Linear):
        pass

    with pytest.raises(ValueError, match="'1' is a Special"):
        prepare_(nn.Sequential(nn.Linear(2, 2), Special(2, 2)), Recipe(2, 2))
    model = prepare_(nn.Sequential(nn.Linear(2, 2), Special(2, 2)), Recipe(2, 2, exclude=("1",)))
    assert type(model[1]) is Special
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="ParametrizedLinear, which would stay float"):
        prepare_(nn.Sequential(parametrized), Recipe(2, 2))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_layer_quantizes_also_right_after_its_parameters_were_replaced(kind):
    torch.manual_seed(0)
    model = prepare_(nn.Sequential(kind(6, 8)), Recipe(2, None))
    x = torch.rand(5, 3, 6)
    wanted = model(x)[0]
    copied = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(copied, assign=True)
    assert torch.equal(model(x)[0], wanted)
    called = torch.func.functional_call(model, {n: v.clone() for n, v in copied.items()}, (x,))
    assert torch.equal(called[0], wanted)
