"""The file says in integers what the model computes: same codes, same predictions, any batch."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from fedhq.fl_core.data.registry import load_dataset
from fedhq.models import (
    InputQuantizer,
    LayerBits,
    PerGroup,
    Recipe,
    accuracy,
    build_model,
    deploy,
    prepare_,
)
from fedhq.models.export import OnnxModel, export_onnx
from fedhq.models.prepare import fake_quant_layers

W2A2, W4A8, W8A8 = Recipe(2, 2), Recipe(4, 8), Recipe(8, 8)
SLOW = pytest.mark.slow
MODELS = [
    ("cnn", (1, 8, 8), W2A2),
    pytest.param("mlp", (1, 8, 8), W8A8, marks=SLOW),
    pytest.param("cnn1d", (6, 20), W4A8, marks=SLOW),
    pytest.param("cnn", (1, 8, 8), W4A8, marks=SLOW),
    pytest.param("resnet8", (3, 8, 8), W2A2, marks=SLOW),
    pytest.param("vit", (1, 8, 8), W4A8, marks=SLOW),
    pytest.param("gru", (6, 8), W2A2, marks=SLOW),
    pytest.param("charlm", (12,), W2A2, marks=SLOW),
]


def examples(name, shape, count=64):
    rng = torch.Generator().manual_seed(0)
    if name == "charlm":
        return torch.randint(7, (count, *shape), generator=rng)
    return torch.randn(count, *shape, generator=rng)


def logits(model, inputs):
    with torch.no_grad():
        return model(inputs)


def assert_same_predictions(ours, theirs):
    """But for near ties: another order of sums can move an input to the next code."""
    scale = ours.abs().max()
    assert (ours - theirs).abs().max() < 0.02 * scale
    assert (ours - theirs).abs().median() < 1e-5 * scale
    best, second = ours.movedim(1, -1).topk(2).values.unbind(-1)
    decided = best - second > 0.04 * scale
    assert decided.double().mean() > 0.5
    assert torch.equal(ours.argmax(1)[decided], theirs.argmax(1)[decided])


def stored(path):
    """Every initializer by name."""
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        return self.linear(self.attention(x, x, x)[0].mean(dim=1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        return self.linear(self.lstm(x)[0].mean(dim=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 16)
        self.linear = nn.Linear(16, 7, bias=False)
        self.linear.weight = self.embedding.weight

    def forward(self, tokens):
        return self.linear(torch.tanh(self.embedding(tokens))).transpose(1, 2)


@pytest.mark.parametrize(("name", "shape", "recipe"), MODELS)
def test_networks_predict_in_onnxruntime_what_they_predict_here(name, shape, recipe, tmp_path):
    inputs = examples(name, shape)
    model = deploy(build_model(name, shape, 7, seed=0), recipe, [inputs])
    path = tmp_path / "model.onnx"
    export_onnx(model, inputs[:1], path)

    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    layers = [layer for _, layer in fake_quant_layers(model)]
    # Query, key and value have one input and one range: it is quantized once.
    shared = 2 * sum(name.endswith(".query") for name, _ in fake_quant_layers(model))
    quantized_inputs = sum(layer.input_quantizer is not None for layer in layers) - shared
    nodes = Counter(node.op_type for node in file.graph.node)
    assert nodes["QuantizeLinear"] == quantized_inputs
    weights = sum(len(layer.weight_quantizers) for layer in layers)
    assert nodes["DequantizeLinear"] == quantized_inputs + weights
    assert nodes["GRU"] == (name == "gru")

    runs = OnnxModel(path)
    assert_same_predictions(logits(model, inputs), runs(inputs))
    for count in (1, 5):
        assert torch.allclose(runs(inputs[:count]), runs(inputs)[:count], rtol=0.02, atol=0.02)


def test_weights_are_stored_as_their_codes(tmp_path):
    inputs = examples("cnn1d", (6, 20))
    hidden = [nn.Flatten(), *(nn.Linear(144 if k == 0 else 16, 16) for k in range(4))]
    float_model = nn.Sequential(nn.Conv1d(6, 8, 3), *hidden)
    bits = {"0": 2, "2": 3, "3": 4, "4": 5, "5": 8}
    recipe = Recipe(2, 8, layers=tuple(LayerBits(name, b, 8) for name, b in bits.items()))
    model = deploy(float_model, recipe, [inputs])
    export_onnx(model, inputs, tmp_path / "model.onnx")
    held = stored(tmp_path / "model.onnx")
    for layer, b in bits.items():
        name = f"{layer}.weight"
        kind = TensorProto.INT4 if b <= 4 else TensorProto.INT8
        assert held[f"{name}.codes"].data_type == kind
        codes = numpy_helper.to_array(held[f"{name}.codes"]).astype(np.float32)
        assert np.abs(codes).max() > 2 ** (b - 2) - 1
        scale = numpy_helper.to_array(held[f"{name}.scale"])
        weight = model.get_parameter(name).numpy()
        assert np.array_equal(codes * scale.reshape(-1, *[1] * (weight.ndim - 1)), weight)
    floats = [t for t in held.values() if t.data_type == TensorProto.FLOAT]
    assert max(np.prod(t.dims) for t in floats) <= 16  # scales and biases, but no weight


@pytest.mark.parametrize("bits", [3, 8])
def test_only_codes_of_the_range_occur_however_large_the_inputs(bits, tmp_path):
    model = deploy(nn.Sequential(nn.Linear(4, 3)), Recipe(8, bits), [torch.randn(64, 4)])
    path = tmp_path / "model.onnx"
    export_onnx(model, torch.zeros(1, 4), path)
    file = onnx.load(path)
    (node,) = (node for node in file.graph.node if node.op_type == "QuantizeLinear")
    file.graph.output.append(
        onnx.helper.make_tensor_value_info(node.output[0], TensorProto.UINT8, None)
    )
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = np.linspace(-1e6, 1e6, 4 * 999, dtype=np.float32).reshape(-1, 4)
    (codes,) = session.run([node.output[0]], {"input": inputs})
    assert (codes.min(), codes.max()) == (0, 2**bits - 1)
    assert torch.allclose(
        OnnxModel(path)(torch.from_numpy(inputs)),
        logits(model, torch.from_numpy(inputs)),
        atol=1e-5,
    )


def test_exact_halves_round_as_in_the_model(tmp_path):
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    scale = np.float32(0.8) / np.float32(3)
    by_division = np.round(pixels / scale)
    by_reciprocal = np.round(pixels * (np.float32(1) / scale))
    assert (by_division != by_reciprocal).any(), "the case must tell the two apart"
    inputs = torch.from_numpy(pixels)[:, None]
    model = deploy(nn.Sequential(nn.Linear(1, 1)), Recipe(8, 2), [inputs])
    model[0].input_quantizer.fix(torch.tensor(scale), torch.tensor(0, dtype=torch.int32))
    export_onnx(model, inputs, tmp_path / "model.onnx")
    assert torch.allclose(
        OnnxModel(tmp_path / "model.onnx")(inputs), logits(model, inputs), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("recipe", [W2A2, pytest.param(W4A8, marks=SLOW)])
def test_accuracy_on_real_images_is_the_fake_quantized_one(recipe, tmp_path):
    data = load_dataset("digits")
    model = build_model("cnn", data.input_shape, data.num_classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for rows in torch.arange(960).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.inputs[rows]), data.labels[rows]).backward()
        optimizer.step()
    shipped = deploy(model, recipe, data.inputs[:200].split(50))
    export_onnx(shipped, data.inputs, tmp_path / "model.onnx")
    runs = OnnxModel(tmp_path / "model.onnx")
    test = data.inputs[960:], data.labels[960:]
    assert accuracy(shipped, *test, 500) == accuracy(runs, *test, 300) > 0.3
    assert_same_predictions(logits(shipped, test[0]), runs(test[0]))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        pytest.param(
            nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 7)),
            torch.randn(16, 32),
            marks=SLOW,
        ),
        pytest.param(
            nn.Sequential(nn.Conv2d(4, 8, 2), nn.Flatten(), nn.Linear(8, 7)),
            torch.randn(16, 4, 2, 2),
            marks=SLOW,
        ),
        (Tied(), torch.randint(7, (16, 5))),
    ],
)
def test_groups_of_columns_keep_their_scales(model, inputs, tmp_path):
    shipped = deploy(model, Recipe(3, None, granularity=PerGroup(8)), [inputs])
    path = tmp_path / "model.onnx"
    export_onnx(shipped, inputs, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    nodes = [n for n in onnx.load(path).graph.node if n.op_type == "DequantizeLinear"]
    sizes = [a.i for n in nodes for a in n.attribute if a.name == "block_size"]
    assert set(sizes) == {8}
    assert torch.allclose(OnnxModel(path)(inputs), logits(shipped, inputs), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shape"), [(Attention(), (5, 16)), (Recurrent(), (9, 6))])
@pytest.mark.parametrize("recipe", [W2A2, W8A8])
def test_attention_and_recurrent_layers_of_torch_go_over(model, shape, recipe, tmp_path):
    inputs = examples("", shape)
    shipped = deploy(model, recipe, [inputs])
    export_onnx(shipped, inputs, tmp_path / "model.onnx")
    assert_same_predictions(logits(shipped, inputs), OnnxModel(tmp_path / "model.onnx")(inputs))


def test_a_shared_weight_is_stored_once(tmp_path):
    inputs = torch.randint(7, (16, 5))
    export_onnx(deploy(Tied(), W4A8, [inputs]), inputs, tmp_path / "model.onnx")
    integers = [t for t in stored(tmp_path / "model.onnx").values() if list(t.dims) == [7, 16]]
    assert [t.data_type for t in integers] == [TensorProto.INT4]


def test_float_inputs_stay_float(tmp_path):
    tokens = torch.randn(16, 5, 64)  # three axes: onnxruntime would round these to 8 bits
    float_model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 7))
    model = deploy(float_model, Recipe(8, None), [tokens])
    export_onnx(model, tokens, tmp_path / "model.onnx")
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert nodes["QuantizeLinear"] == 0
    runs = OnnxModel(tmp_path / "model.onnx")
    assert torch.allclose(runs(tokens), logits(model, tokens), atol=1e-5)


def test_the_file_says_who_wrote_it_and_equal_models_give_equal_bytes(tmp_path):
    inputs = torch.randn(16, 4)
    model = deploy(nn.Sequential(nn.Linear(4, 3)), Recipe(3, 5), [inputs])
    before = logits(model, inputs)
    for name in ("one", "other"):
        export_onnx(model, inputs, tmp_path / name)
    assert torch.equal(logits(model, inputs), before)
    assert isinstance(model[0].input_quantizer, InputQuantizer)
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "other").read_bytes()
    assert b".py" not in content
    file = onnx.load_from_string(content)
    assert file.producer_name == "fedhq"
    told = {entry.key: entry.value for entry in file.metadata_props}
    assert told == {
        "fedhq_version": file.producer_version,
        "weight_bits": "3",
        "activation_bits": "5",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other"]


def test_wrong_arguments_are_named_and_leave_no_file(tmp_path):
    path, inputs = tmp_path / "model.onnx", torch.randn(8, 4)
    float_model = nn.Sequential(nn.Linear(4, 3))
    model = deploy(float_model, W4A8, [inputs])
    for unfit in (float_model, prepare_(nn.Sequential(nn.Linear(4, 3)), W4A8)):
        with pytest.raises(ValueError, match="`model` must be converted"):
            export_onnx(unfit, inputs, path)
    with pytest.raises(ValueError, match=r"`example_input`.* \(8, 5\)"):
        export_onnx(model, torch.randn(8, 5), path)
    for empty in (torch.randn(0, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="`example_input` must hold at least one"):
            export_onnx(model, empty, path)
    with pytest.raises(FileNotFoundError):
        export_onnx(model, inputs, tmp_path / "nowhere" / "model.onnx")
    with torch.no_grad():
        model[0].weight.add_(0.01)
    with pytest.raises(ValueError, match="must lie on its grid, but 'weight' of layer '0'"):
        export_onnx(model, inputs, path)
    assert list(tmp_path.iterdir()) == []
