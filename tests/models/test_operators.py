"""Counts against torch's own counter, and against sums written out."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedhq.allocator.operators import OperatorKind
from fedhq.models import Recipe, build_model, list_operators, prepare_
from fedhq.models.operators import kept_bytes

IMAGE = (1, 8, 8)
NETWORKS = {
    "mlp": IMAGE,
    "cnn": IMAGE,
    "resnet8": IMAGE,
    "resnet20": IMAGE,
    "vit": IMAGE,
    "cnn1d": (3, 12),
    "gru": (3, 5),
    "charlm": (6,),
}


def batch(shape: tuple[int, ...], examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    if len(shape) == 1:
        return torch.zeros(examples, *shape, dtype=torch.int64), torch.zeros(
            examples, *shape, dtype=torch.int64
        )
    return torch.rand(examples, *shape), torch.zeros(examples, dtype=torch.int64)


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_half_of_what_torch_counts_as_operations(name) -> None:
    shape = NETWORKS[name]
    model, (inputs, labels) = build_model(name, shape, 4, 0), batch(shape, 2)
    listed = list_operators(model, inputs, labels, name)
    counter = FlopCounterMode(display=False)
    with counter:
        nn.functional.cross_entropy(model(inputs), labels).backward()
    assert listed.in_float.multiply_adds == counter.get_total_flops() // 2 > 0
    # Fake quantization is no product: the same products are made.
    assert listed.quantizing.multiply_adds == listed.in_float.multiply_adds
    assert listed.in_float.quantized_elements == 0 < listed.quantizing.quantized_elements


def test_a_networks_counts_are_those_written_out() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)
    )
    inputs, labels = batch((2, 4, 4), 7)
    listed = list_operators(model, inputs, labels, "mine")
    conv, linear = 7 * 3 * 16 * 2 * 9, 7 * 48 * 5
    # The first layer has no gradient of its input, the last one has both.
    assert listed.in_float.multiply_adds == 2 * conv + 3 * linear
    values = 7 * 2 * 16 + 7 * 48 + 3 * 2 * 9 + 48 * 5
    assert listed.quantizing.quantized_elements == values
    (relu,) = (o for o in listed.in_float.operators if o.name == "aten.relu")
    assert (relu.bytes_read, relu.bytes_written, relu.launches) == (4 * 7 * 48, 4 * 7 * 48, 1)
    assert not relu.is_backward
    kinds = {o.name: o.kind for o in listed.quantizing.operators}
    assert kinds["aten.convolution_backward"] is OperatorKind.CONVOLUTION
    assert kinds["aten.mm"] is OperatorKind.MATMUL
    assert kinds["aten.t"] is OperatorKind.VIEW
    (update,) = (o for o in listed.in_float.operators if o.kind is OperatorKind.UPDATE)
    assert (update.launches, update.tensors) == (1, 2 * len(list(model.parameters())))
    assert (listed.model, listed.batch_size) == ("mine", 7)


def test_only_the_pool_that_nobody_compiled_is_slow() -> None:
    inputs, labels = batch((1, 8, 8), 2)
    for name, slow in (("cnn", False), ("cnn1d", True)):
        shape = NETWORKS[name]
        listed = list_operators(build_model(name, shape, 4, 0), *batch(shape, 2), name)
        assert (OperatorKind.POOLING in {o.kind for o in listed.in_float.operators}) is slow
    theirs = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 4))
    listed = list_operators(theirs, inputs, labels, "theirs")
    assert OperatorKind.POOLING in {o.kind for o in listed.in_float.operators}


def test_work_grows_with_the_batch_in_a_straight_line_and_bits_make_no_difference() -> None:
    model = build_model("cnn", IMAGE, 4, 0)
    sizes = [list_operators(model, *batch(IMAGE, n), "cnn") for n in (2, 4, 6)]
    adds, moved = (
        [getattr(s.quantizing, name) for s in sizes] for name in ("multiply_adds", "bytes_moved")
    )
    assert adds == [adds[0], 2 * adds[0], 3 * adds[0]]
    assert moved[2] - moved[1] == pytest.approx(moved[1] - moved[0], rel=1e-3)  # of the masks
    other = list_operators(model, *batch(IMAGE, 4), "cnn", Recipe(8, 2))
    assert other.quantizing == sizes[1].quantizing


def test_the_network_stays_as_it_was_and_so_do_the_random_numbers() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2)).eval()
    before, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    list_operators(model, torch.rand(3, 4, generator=torch.Generator()), torch.zeros(3).long(), "x")
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert torch.equal(state, torch.get_rng_state())


def test_memory_is_what_the_backward_pass_keeps_and_the_parameters() -> None:
    model, inputs = nn.Linear(4, 2), torch.rand(8, 4)
    labels = torch.zeros(8, dtype=torch.int64)
    # The input; log-probabilities, labels and the sum of the weights of the loss; 10 parameters.
    assert kept_bytes(model, inputs, labels) == 4 * 32 + 4 * 16 + 8 * 8 + 4 + 12 * 10
    quantizing = kept_bytes(prepare_(nn.Linear(4, 2), Recipe(2, 2)), inputs, labels)
    assert quantizing > kept_bytes(model, inputs, labels)


@pytest.mark.parametrize("trains", [False, True])
def test_memory_is_that_of_training_and_nothing_else_changes(trains) -> None:
    """Dropout keeps its mask when it trains, whatever mode the network is in, and draws."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train(trains)
    model[1].eval()
    batch_norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train(trains)
    inputs, labels = torch.rand(8, 4), torch.zeros(8, dtype=torch.int64)
    state, running = torch.get_rng_state(), batch_norm[1].running_mean.clone()
    found = kept_bytes(model, inputs, labels)
    plain = kept_bytes(nn.Sequential(model[0], model[2]), inputs, labels)
    assert found > plain + 8 * 4  # mask, and its product
    listed = list_operators(model, inputs, labels, "dropping")
    assert listed.in_float.memory_bytes == found
    kept_bytes(batch_norm, inputs, labels)
    assert torch.equal(running, batch_norm[1].running_mean)
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model] == [trains, False, trains]
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch is empty"):
        list_operators(nn.Linear(4, 2), torch.zeros(0, 4), torch.zeros(0).long(), "x")
    with pytest.raises(ValueError, match="must have a layer that the recipe quantizes"):
        list_operators(nn.LayerNorm(4), torch.zeros(2, 4), torch.zeros(2).long(), "x")
