"""torchao's tensors hold our codes and scales, and compute our logits."""

import pytest
import torch
from torch import nn
from torchao.quantization import IntxUnpackedToInt8Tensor, IntxWeightOnlyConfig, quantize_

from fedhq.models import PerGroup, Recipe, build_model, deploy, prepare_
from fedhq.models.torchao_export import TorchaoActivations, to_torchao


def perceptron():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 5))


def inputs(count=64):
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group_size", [None, 16])
def test_weights_keep_their_codes_and_scales(bits, group_size):
    recipe = Recipe(bits, None)
    if group_size is not None:
        recipe = Recipe(bits, None, granularity=PerGroup(group_size))
    model = deploy(perceptron(), recipe, [inputs()])
    exported = to_torchao(model)
    assert torch.equal(exported(inputs()), model(inputs()))
    for ours, theirs in ((model[0], exported[0]), (model[2], exported[2])):
        assert type(theirs) is nn.Linear
        assert theirs.weight.target_dtype == getattr(torch, f"int{bits}")
        assert theirs.weight.block_size == (1, group_size or ours.in_features)
        scale = ours.weight_quantizers.weight.scale
        assert torch.equal(theirs.weight.scale, scale.view(len(scale), -1))
        assert torch.equal(theirs.weight.dequantize(), ours.weight)
        assert theirs.weight.qdata.dtype == torch.int8
        assert -(2 ** (bits - 1)) <= theirs.weight.qdata.min() < 0


def test_a_language_model_goes_over_with_its_embedding():
    tokens = torch.randint(7, (8, 12), generator=torch.Generator().manual_seed(0))
    model = deploy(build_model("charlm", (12,), 7, seed=0), Recipe(4, None), [tokens])
    exported = to_torchao(model)
    assert torch.allclose(exported(tokens), model(tokens), atol=1e-5)
    kinds = {type(module) for module in exported.modules()}
    assert {nn.Linear, nn.Embedding} <= kinds
    assert not any("FakeQuant" in kind.__name__ for kind in kinds)
    (embedding,) = (m for m in exported.modules() if isinstance(m, nn.Embedding))
    assert isinstance(embedding.weight, IntxUnpackedToInt8Tensor)


def test_the_tensors_are_those_of_torchaos_own_conversion():
    theirs = perceptron()
    quantize_(theirs, IntxWeightOnlyConfig(weight_dtype=torch.int4))
    ours = to_torchao(deploy(perceptron(), Recipe(4, None), [inputs()]))
    assert type(ours[0].weight) is type(theirs[0].weight)
    assert ours[0].weight.block_size == theirs[0].weight.block_size


def test_static_ranges_go_over_only_where_told_how():
    model = deploy(perceptron(), Recipe(8, 8), [inputs()])
    with pytest.raises(ValueError, match=r"`activations` must say .* static input range of '0'"):
        to_torchao(model)
    in_float = deploy(perceptron(), Recipe(8, None), [inputs()])
    assert torch.equal(to_torchao(model, TorchaoActivations.FLOAT)(inputs()), in_float(inputs()))
    dynamic = to_torchao(model, TorchaoActivations.INT8_PER_TOKEN)
    error = (dynamic(inputs()) - model(inputs())).abs().max()
    assert 0 < error < 0.05 * model(inputs()).abs().max()


def test_what_torchao_cannot_hold_is_refused_by_name():
    images = torch.rand(4, 1, 8, 8)
    model = deploy(build_model("cnn", (1, 8, 8), 5, seed=0), Recipe(4, None), [images])
    with pytest.raises(ValueError, match="'conv1' is a FakeQuantConv2d"):
        to_torchao(model)
    series = torch.randn(4, 6, 20)
    model = deploy(build_model("gru", (6, 20), 5, seed=0), Recipe(4, None), [series])
    with pytest.raises(ValueError, match="'gru' is a FakeQuantGRU"):
        to_torchao(model)
    for unfit in (perceptron(), prepare_(perceptron(), Recipe(4, 8))):
        with pytest.raises(ValueError, match="`model` must be converted"):
            to_torchao(unfit)


def test_the_model_stays_as_it_was():
    model = deploy(perceptron(), Recipe(4, None), [inputs()])
    before = model(inputs())
    to_torchao(model)
    assert torch.equal(model(inputs()), before)
    assert not isinstance(model[0].weight, IntxUnpackedToInt8Tensor)
