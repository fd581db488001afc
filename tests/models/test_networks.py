import pytest
import torch

from fedhq.models import build_model

SHAPES = [(1, 28, 28), (1, 8, 8), (3, 9, 13)]


@pytest.mark.parametrize("name", ["cnn", "mlp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_networks_give_a_logit_per_class(name, shape):
    model = build_model(name, shape, num_classes=7, seed=0)
    assert model(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name):
    first, again, other = (
        torch.cat([p.flatten() for p in build_model(name, (1, 8, 8), 10, seed).parameters()])
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    build_model("cnn", (1, 8, 8), 10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_does_not_change_the_network():
    torch.manual_seed(1)
    first = build_model("mlp", (1, 8, 8), 10, seed=5).state_dict()
    torch.manual_seed(2)
    second = build_model("mlp", (1, 8, 8), 10, seed=5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"one of \['cnn', 'mlp'\], but got 'resnet'"):
        build_model("resnet", (1, 8, 8), 10, seed=0)
    with pytest.raises(ValueError, match="`input_shape`"):
        build_model("cnn", (1, 0, 8), 10, seed=0)
    with pytest.raises(ValueError, match="`num_classes >= 1`"):
        build_model("cnn", (1, 8, 8), 0, seed=0)
    with pytest.raises(ValueError, match="`height, width >= 4`"):
        build_model("cnn", (1, 3, 8), 10, seed=0)
