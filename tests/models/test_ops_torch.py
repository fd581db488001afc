"""The operators inside torch: opcheck, torch.compile, torch.func, fake tensors, other types."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from fedhq.models import (
    PerGroup,
    Range,
    Recipe,
    fake_quantize,
    fake_quantize_dynamic,
    prepare_,
)
from fedhq.models.fake_quant import fake_quantize_fitted

# Dynamo instantiates autograd functions itself, and torch warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

ops = torch.ops.fedhq
RATIOS = torch.tensor([0.4, 0.7, 1.0])


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weighted(y: torch.Tensor) -> torch.Tensor:
    """A number whose gradient differs from value to value."""
    return (y * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum()


def static(x, scale, zero_point):
    return fake_quantize(x, scale, zero_point, -2, 1)


def learned(x, scale, zero_point):
    return fake_quantize(x, scale, zero_point, -2, 1, 0.5)


def dynamic(x, scale, zero_point):
    return fake_quantize_dynamic(x, -7, 7, True, scale.shape)[0]


def fitted(x, scale, zero_point):
    return fake_quantize_fitted(x, 0, 3, False, scale.shape, RATIOS)[0]


ALL = [static, dynamic, fitted]


def calls(dtype: torch.dtype):
    """Every operator with arguments of its own."""
    x, grid = gaussian(3, 90).to(dtype), (torch.full((3,), 0.3), torch.ones(3, dtype=torch.int32))
    mask = ops.quantize_static(x, *grid, 0, 3, True)[1]
    yield ops.quantize_dynamic, (x, -7, 7, True)
    yield ops.quantize_static, (x, *grid, 0, 3, True)
    yield ops.quantize_static, (x, *grid, 0, 3, False)
    yield ops.mask_gradient, (x, mask)
    yield ops.learned_backward, (x, x, *grid, 0, 3)
    yield ops.fit_range, (x, 0, 3, False, RATIOS, 2)
    yield ops.quantize_fitted, (x, 0, 3, False, RATIOS, 1, True)
    y, masks = [torch.zeros_like(x), torch.zeros_like(x)], [mask.clone(), mask.clone()]
    yield ops.quantize_weights, ([x, x], y, masks, [2, 4], RATIOS)
    if dtype == torch.float32:
        yield ops.stochastic_pack, (x, None, 3, 5)
        yield ops.stochastic_pack, (x, torch.zeros(3, 90), 3, 5)
        packed, scale = ops.stochastic_pack(x, None, 3, 5)
        yield ops.unpack, (packed, 3, 270)
        yield ops.unpack_add, ([packed], [scale], [0.5], 3, torch.zeros(3, 90))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_opcheck_passes_for_every_operator(dtype):
    for operator, arguments in calls(dtype):
        torch.library.opcheck(operator.default, arguments)


def test_meta_tensors_get_the_shapes_and_types_of_real_ones():
    for operator, arguments in calls(torch.bfloat16):
        found = operator(*arguments)
        if found is None:
            continue
        meta = operator(*(a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments))
        pairs = zip(found, meta, strict=True) if isinstance(found, tuple) else [(found, meta)]
        for one, other in pairs:
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            assert other.is_meta


@pytest.mark.parametrize("function", [*ALL, learned])
@pytest.mark.parametrize("scale_shape", [(), (4,), (4, 3)])
def test_compiling_the_full_graph_changes_nothing(function, scale_shape):
    def run(f):
        x = gaussian(4, 30).requires_grad_()
        scale = (gaussian(*scale_shape).abs() + 0.2).requires_grad_(function is learned)
        zero_point = torch.full(scale_shape, -1, dtype=torch.int32)
        y = f(x, scale, zero_point)
        weighted(y).backward()
        return y.detach(), x.grad, scale.grad

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for one, other in zip(run(function), run(compiled), strict=True):
        assert one is other is None or torch.equal(one, other)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


@pytest.mark.parametrize("ranges", [(Range.DYNAMIC, Range.DYNAMIC), (Range.LEARNED, Range.LEARNED)])
def test_a_prepared_model_compiles_into_one_graph(ranges):
    recipe = Recipe(4, 4, weight_range=ranges[0], activation_range=ranges[1])
    model, x = prepare_(network(), recipe), gaussian(2, 3, 8, 8)
    model(x)  # learned ranges begin with the first batch
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (model, compiled):
        model.zero_grad()
        weighted(run(x)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert torch.equal(model(x), compiled(x))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_inductor_compiles_it_also_with_channels_last():
    model = prepare_(network(), Recipe(4, 4)).to(memory_format=torch.channels_last)
    x = gaussian(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x))


@pytest.mark.parametrize("cols", [10, 64, 128, 65])  # 4 rows: a part of a mask block, one, two
@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("is_shared", [True, False])
def test_clients_stacked_by_vmap_are_clients_one_by_one(function, cols, is_shared):
    x, zero_point = gaussian(3, 4, cols), torch.tensor([0, -1, -1, 0], dtype=torch.int32)
    scale = gaussian(3, 4, seed=1).abs() + 0.2
    if is_shared:
        scale = scale[0]

    def gradient(x, scale):
        return grad(lambda x: weighted(function(x, scale, zero_point)))(x)

    found = vmap(gradient, (0, None if is_shared else 0))(x, scale)
    wanted = [gradient(x[k], scale if is_shared else scale[k]) for k in range(3)]
    assert torch.equal(found, torch.stack(wanted))


@pytest.mark.parametrize("is_shared", [True, False])
def test_learned_ranges_stack_as_well(is_shared):
    x, zero_point = gaussian(3, 4, 30), torch.randint(-2, 2, (3, 4), dtype=torch.int32)
    scale = gaussian(*(() if is_shared else (3,)), 4, seed=1).abs() + 0.2

    def gradients(x, scale, zero_point):
        return grad(lambda x, s: weighted(learned(x, s, zero_point)), (0, 1))(x, scale)

    found = vmap(gradients, (0, None if is_shared else 0, 0))(x, scale, zero_point)
    wanted = [gradients(x[k], scale if is_shared else scale[k], zero_point[k]) for k in range(3)]
    for one, other in zip(found, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(other))


@pytest.mark.parametrize("function", ALL)
def test_the_gradient_may_be_taken_outside_of_vmap(function):
    x, scale = 3 * gaussian(5, 4, 10), torch.full((4,), 0.5)
    zero_point = torch.zeros(4, dtype=torch.int32)

    def total(x):
        return vmap(lambda one: weighted(function(one, scale, zero_point)))(x).sum()

    wanted = [grad(lambda one: weighted(function(one, scale, zero_point)))(one) for one in x]
    assert torch.equal(grad(total)(x), torch.stack(wanted))


@pytest.mark.parametrize("recipe", [Recipe(4, 4), Recipe(4, None, granularity=PerGroup(4))])
def test_models_of_many_clients_are_stacked(recipe):
    model, x = prepare_(network(), recipe), gaussian(2, 5, 3, 8, 8)
    names = [name for name, _ in model.named_parameters()]
    clients = [[gaussian(*p.shape, seed=k) for p in model.parameters()] for k in range(2)]

    def gradients(parameters, x):
        named = dict(zip(names, parameters, strict=True))
        return grad(lambda p: weighted(functional_call(model, p, (x,))))(named)

    stacked = vmap(gradients)([torch.stack(pair) for pair in zip(*clients, strict=True)], x)
    for k, parameters in enumerate(clients):
        for name, wanted in gradients(parameters, x[k]).items():
            assert (stacked[name][k] - wanted).norm() <= 1e-4 * wanted.norm() + 1e-6


@pytest.mark.parametrize("is_inside", [True, False])
@pytest.mark.parametrize("recipe", [Recipe(4, 4), Recipe(2, None, granularity=PerGroup(4))])
def test_who_trains_what_is_stacked_gets_the_gradients_inside_and_outside(recipe, is_inside):
    model, x = prepare_(nn.Linear(8, 3), recipe), gaussian(4, 5, 8)
    weights = gaussian(4, 3, 8, seed=1).requires_grad_()

    def loss(weight, x):
        return weighted(functional_call(model, {"weight": weight}, (x,)))

    if is_inside:
        found = vmap(grad(loss))(weights, x)
    else:
        (found,) = torch.autograd.grad(vmap(loss)(weights, x).sum(), weights)
    wanted = [grad(loss)(*one) for one in zip(weights.detach(), x, strict=True)]
    torch.testing.assert_close(found, torch.stack(wanted))


def test_clients_without_values_stack_too():
    stacked = vmap(lambda x: fake_quantize_dynamic(x, -7, 7, True, (2,))[0])(torch.zeros(3, 2, 0))
    assert stacked.shape == (3, 2, 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_rounded_in_plain_torch(dtype):
    x = gaussian(4, 50).to(dtype).requires_grad_()
    y, scale, _ = fake_quantize_dynamic(x, -7, 7, True, (4,))
    working = torch.float64 if dtype == torch.float64 else torch.float32
    assert (y.dtype, scale.dtype) == (dtype, working)
    steps = x.detach().to(working) * scale.reciprocal()[:, None]
    assert torch.equal(y, (steps.round().clamp(-7, 7) * scale[:, None]).to(dtype))
    clipped = fake_quantize(x, scale / 2, 0, -7, 7)
    clipped.sum().backward()
    assert torch.equal(x.grad, ((2 * steps).round().abs() <= 7).to(dtype))


def test_a_mask_of_another_size_is_refused():
    x = torch.ones(4, 6)
    with pytest.raises(ValueError, match="`mask` must have 32 bytes for 24 values, but is"):
        ops.mask_gradient(x, torch.empty(0, dtype=torch.uint8))


def test_several_gradients_at_once_are_those_one_by_one():
    x, scale = (3 * gaussian(4, 10)).requires_grad_(), torch.full((4,), 0.5)
    y = static(x, scale, torch.zeros(4, dtype=torch.int32))
    given = gaussian(3, 4, 10, seed=1)
    (found,) = torch.autograd.grad(y, x, given, retain_graph=True, is_grads_batched=True)
    wanted = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in given]
    assert torch.equal(found, torch.stack(wanted))
