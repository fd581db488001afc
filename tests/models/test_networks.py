"""Networks: shapes, seeds, exports, what they may see, and that they learn real tasks."""

import pytest
import torch
from torch import nn

from fedhq.models import build_model

INPUTS = [
    *((name, shape) for name in ("cnn", "mlp") for shape in ((1, 28, 28), (1, 8, 8), (3, 9, 13))),
    *((name, shape) for name in ("resnet8", "resnet20") for shape in ((3, 32, 32), (1, 7, 9))),
    *(("vit", shape) for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 12, 18))),
    *((name, shape) for name in ("cnn1d", "gru") for shape in ((6, 100), (1, 9))),
]
ONE_OF_EACH = [
    ("cnn", (1, 8, 8)),
    ("mlp", (1, 8, 8)),
    ("resnet8", (1, 8, 8)),
    ("resnet20", (1, 8, 8)),
    ("vit", (1, 8, 8)),
    ("cnn1d", (6, 20)),
    ("gru", (6, 20)),
    ("charlm", (12,)),
]
QUANTIZED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.GRU)


def examples(name, shape, count, seed=0):
    """Random inputs: characters in 0 ... 6 for charlm, else floats of both signs."""
    rng = torch.Generator().manual_seed(seed)
    if name == "charlm":
        return torch.randint(7, (count, *shape), generator=rng)
    return torch.randn(count, *shape, generator=rng)


@pytest.mark.parametrize(("name", "shape"), INPUTS)
def test_networks_give_a_logit_per_class(name, shape):
    model = build_model(name, shape, num_classes=7, seed=0)
    assert model(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("length", [12, 5, 1])
def test_the_language_model_gives_every_place_a_logit_per_character(length):
    model = build_model("charlm", (12,), num_classes=7, seed=0)
    assert model(torch.zeros(2, length, dtype=torch.int64)).shape == (2, 7, length)


@pytest.mark.parametrize(("name", "shape"), ONE_OF_EACH)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name, shape):
    first, again, other = (
        torch.cat([p.flatten() for p in build_model(name, shape, 7, seed).parameters()])
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_first_weights_of_cnn_and_mlp_are_those_of_the_recorded_runs():
    cnn = dict(build_model("cnn", (1, 8, 8), 10, seed=0).named_parameters())
    mlp = dict(build_model("mlp", (1, 8, 8), 10, seed=0).named_parameters())
    assert [*cnn] == [
        *("conv1.weight", "norm1.weight", "norm1.bias"),
        *("conv2.weight", "norm2.weight", "norm2.bias"),
        *("linear.weight", "linear.bias"),
    ]
    for found, recorded in (
        (cnn["conv1.weight"][0, 0, 0], [-0.0025, 0.1788, -0.2743]),
        (cnn["linear.bias"][:3], [-0.0584, -0.0662, 0.0079]),
        (mlp["linear1.weight"][0, :3], [-0.0009, 0.0671, -0.1029]),
        (mlp["linear.bias"][:3], [0.0201, 0.1028, 0.0802]),
    ):
        torch.testing.assert_close(found, torch.tensor(recorded), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "shape"), ONE_OF_EACH)
def test_no_example_changes_the_answer_to_another(name, shape):
    model = build_model(name, shape, 7, seed=0)  # in training mode: no batch statistics either
    inputs = examples(name, shape, 4)
    torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), ONE_OF_EACH)
def test_every_parameter_gets_a_gradient(name, shape):
    model = build_model(name, shape, 7, seed=0)
    model(examples(name, shape, 4)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("name", "shape"), ONE_OF_EACH)
def test_all_that_multiplies_is_a_plain_layer_that_quantizes(name, shape):
    model = build_model(name, shape, 7, seed=0)
    matrices = {key for key, p in model.named_parameters() if p.ndim > 1 and key != "positions"}
    owned = {
        f"{place}.{key}"
        for place, layer in model.named_modules()
        if type(layer) in QUANTIZED
        for key, _ in layer.named_parameters(recurse=False)
    }
    assert matrices
    assert matrices <= owned


@pytest.mark.filterwarnings("ignore:The tensor attributes self.gru._flat_weights")  # torch's own
@pytest.mark.parametrize(("name", "shape"), ONE_OF_EACH)
def test_networks_are_traced_for_any_number_of_examples(name, shape):
    model = build_model(name, shape, 7, seed=0).eval()
    sizes = ({0: torch.export.Dim("examples")},)
    program = torch.export.export(model, (examples(name, shape, 3),), dynamic_shapes=sizes)
    inputs = examples(name, shape, 5, seed=1)
    torch.testing.assert_close(program.module()(inputs), model(inputs))


@pytest.mark.parametrize("place", [0, 4, 11])
def test_a_character_changes_no_logit_before_it(place):
    model = build_model("charlm", (12,), 7, seed=0)
    tokens = examples("charlm", (12,), 3)
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % 7
    difference = (model(tokens) - model(changed)).abs().amax(dim=(0, 1))
    assert difference[:place].sum() < 1e-5
    assert difference[place] > 1e-2


def test_the_order_of_an_images_patches_and_of_a_series_matters():
    for name, shape in (("vit", (1, 8, 8)), ("gru", (6, 20))):
        model = build_model(name, shape, 7, seed=0)
        inputs = examples(name, shape, 3)
        assert (model(inputs) - model(inputs.flip(-1))).abs().max() > 1e-2


def test_a_shortcut_of_a_residual_network_has_no_parameters():
    model = build_model("resnet20", (3, 32, 32), 10, seed=0)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 20
    assert sum(p.numel() for p in model.parameters()) == 269_722  # the paper's 0.27 million


def test_the_global_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    build_model("vit", (1, 8, 8), 10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_does_not_change_the_network():
    torch.manual_seed(1)
    first = build_model("mlp", (1, 8, 8), 10, seed=5).state_dict()
    torch.manual_seed(2)
    second = build_model("mlp", (1, 8, 8), 10, seed=5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet", (1, 8, 8), "one of .*'resnet20', 'resnet8', 'vit'.*, but got 'resnet'"),
        ("cnn", (1, 0, 8), r"`input_shape` must be positive .*height.* for the cnn.*\(1, 0, 8\)"),
        ("cnn", (6, 100), r"the cnn, but got \(6, 100\). Networks for 2 axes: cnn1d, gru"),
        ("gru", (64,), r"\(channels, time\) for the gru.* Networks for 1 axes: charlm"),
        ("charlm", (1, 8, 8), r"\(time\) for the charlm.* cnn, mlp, resnet20, resnet8, vit"),
        ("mlp", (), "Networks for 0 axes: none"),
        ("cnn", (1, 3, 8), "`height, width >= 4`"),
        ("cnn1d", (6, 3), "`time >= 4` must hold for the cnn1d.*but got 3"),
        ("vit", (3, 9, 13), r"share a divisor of at least 2 for the vit.*\(9, 13\)"),
        ("vit", (3, 96, 8), r"share a divisor of at least 12 .*\(96, 8\)"),
    ],
)
def test_names_and_shapes_that_do_not_suit_are_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, shape, 10, seed=0)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="`num_classes >= 1`"):
        build_model("cnn", (1, 8, 8), 0, seed=0)
