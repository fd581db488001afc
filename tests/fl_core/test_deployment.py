"""What a federation ships, and that training and deployment quantize by the same settings."""

import pytest
import torch

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.datasets import split_dataset
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.deployment import make_recipe, ship
from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.seeds import Purpose, generator
from fedhq.fl_core.settings import (
    LayerSettings,
    QuantizationSettings,
    TrainingSettings,
)
from fedhq.fl_core.weights import read_weights
from fedhq.models import (
    PerGroup,
    build_model,
    fake_quant_layers,
    output_divergence,
)


@pytest.fixture(scope="module")
def split():
    return split_dataset(load_dataset("digits"), 300, 100, generator(0, Purpose.SPLIT))


@pytest.fixture(scope="module")
def model(split):
    """Trained in float for two passes."""
    network = build_model("cnn", (1, 8, 8), 10, seed=0)
    trainer = LocalTrainer(network, TrainingSettings(local_epochs=2))
    rng = generator(0, Purpose.BATCHES)
    trainer.train(read_weights(network), split.train, Strategy.parse("fp32"), 0.1, rng)
    return trainer._model(Strategy.parse("fp32"))


def shipped_at(bits, model, calibration, **quantization):
    deployed = Strategy.parse(f"qat-w{bits}a{bits}")
    return ship(model, deployed, QuantizationSettings(**quantization), calibration, 32)


def bits_of(shipped):
    return {n: layer.weight_quantizers["weight"].bits for n, layer in fake_quant_layers(shipped)}


def test_every_setting_reaches_the_model(model, split):
    layers = (LayerSettings("conv2", 8, 8),)
    shipped = shipped_at(3, model, split.calibration, keep_first=True, layers=layers)
    assert bits_of(shipped) == {"conv2": 8, "linear": 3}
    shipped = shipped_at(3, model, split.calibration, keep_last=True, exclude=("conv1",))
    assert bits_of(shipped) == {"conv2": 3}
    recipe = make_recipe(QuantizationSettings(group_size=16, weight_fit="absmax"), 4, 8)
    assert (recipe.granularity, recipe.weight_fit.value) == (PerGroup(16), "absmax")


def test_a_client_trains_with_the_quantization_that_ships(split):
    network = build_model("cnn", (1, 8, 8), 10, seed=0)
    quantization = QuantizationSettings(keep_first=True, group_size=4)
    trainer = LocalTrainer(network, TrainingSettings(), quantization)
    resident = trainer._model(Strategy.parse("qat-w2a2"))
    assert bits_of(resident) == {"conv2": 2, "linear": 2}
    assert trainer._quantization is quantization


def test_bias_correction_brings_the_shipped_model_nearer_to_the_float_one(model, split):
    plain, corrected = (
        shipped_at(2, model, split.calibration, correct_bias=on) for on in (False, True)
    )
    batches = [split.test.inputs]
    near, far = (output_divergence(model, m, batches) for m in (corrected, plain))
    assert near < far
    assert all(
        torch.equal(a, b)
        for (name, a), (_, b) in zip(
            plain.named_parameters(), corrected.named_parameters(), strict=True
        )
        if not name.endswith("bias")
    )


def test_a_pattern_that_fits_nothing_is_an_error(model, split):
    with pytest.raises(ValueError, match="'nope' fits none of"):
        shipped_at(3, model, split.calibration, layers=(LayerSettings("nope", 4, 4),))
