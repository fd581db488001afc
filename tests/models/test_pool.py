"""Max pooling by the compiled kernel is torch's own, to the last bit."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import grad, vmap

from fedhq.models import MaxPool2d, Recipe, build_model, pool, prepare_
from fedhq.models.ops import cpu_kernels
from fedhq.models.ops.cpu_build import BuildError

NAN, INF = float("nan"), float("inf")
OURS, TORCHS = MaxPool2d(2), nn.MaxPool2d(2)
# Outputs of a row: below, at and between the sizes of groups; odd sides; several threads' worth.
SHAPES = [
    *((2, 3, height, width) for height in (2, 5) for width in (2, 3, 4, 7, 8, 9, 14, 16, 19, 34)),
    (3, 6, 8),
    (1, 1, 2, 2),
    (5, 7, 50, 51),
]

# What torch itself still uses of it warns.
JIT = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def of_torch(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ties(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Few different values, so that most windows have several that are equal."""
    values = torch.tensor([-1.0, -0.0, 0.0, 1.0])
    return values[torch.randint(4, shape, generator=torch.Generator().manual_seed(seed))]


def extremes(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    values = torch.tensor([NAN, -NAN, INF, -INF, -INF, -INF, 0.0, -0.0, 1e-45, -3e38])
    return values[torch.randint(10, shape, generator=torch.Generator().manual_seed(seed))]


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all bits agree, signs of zeros too; a NaN is as good as another."""
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16}[one.element_size()]
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    agree = (one.view(whole) == other.view(whole)) | (one.isnan() & other.isnan())
    return bool(agree.all())


def pooled(module: nn.Module, x: torch.Tensor, given: torch.Tensor | None = None):
    """The result, and the gradient of the input."""
    x = x.detach().requires_grad_()
    y = module(x)
    given = extremes(tuple(y.shape), 9).to(y.dtype) if given is None else given
    return y.detach(), torch.autograd.grad(y, x, given)[0]


@pytest.fixture
def never(monkeypatch):
    """The compiled kernels must not be called."""

    def called(*_):
        raise AssertionError("the compiled kernel was called")

    monkeypatch.setattr(cpu_kernels, "max_pool", called)
    monkeypatch.setattr(cpu_kernels, "max_pool_gradient", called)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", [of_torch, ties, extremes])
def test_the_compiled_kernel_gives_the_very_bits_of_torch(compiled, threads, values, dtype):
    for seed, shape in enumerate(SHAPES):
        x = values(shape, seed).to(dtype)
        y, dx = pooled(OURS, x)
        wanted, dwanted = pooled(TORCHS, x)
        assert same_bits(y, wanted), shape
        assert same_bits(dx, dwanted), shape
        assert same_bits(compiled.max_pool(x), wanted)


def test_every_order_of_four_values_is_decided_as_torch_does(compiled):
    few = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0])
    windows = torch.cartesian_prod(few, few, few, few).view(-1, 2, 2)
    # Side by side, so that groups of 8 are tried, and one by one.
    for x in (windows.unsqueeze(0), windows.permute(1, 0, 2).reshape(1, 2, -1)):
        for one, other in zip(pooled(OURS, x), pooled(TORCHS, x), strict=True):
            assert same_bits(one, other)


def test_the_compiled_kernel_serves_training_and_evaluation(compiled, monkeypatch):
    calls = []
    kernel = cpu_kernels.max_pool
    monkeypatch.setattr(cpu_kernels, "max_pool", lambda x: calls.append(x.shape) or kernel(x))
    x = of_torch((2, 3, 4, 4), 0)
    assert OURS(x).grad_fn is None
    assert "Halve" in type(OURS(x.requires_grad_()).grad_fn).__name__
    with torch.no_grad():
        OURS(x)
    assert len(calls) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3},
        {"kernel_size": 2, "stride": 1},
        {"kernel_size": (2, 3)},
        {"kernel_size": 2, "padding": 1},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 2, "ceil_mode": True},
    ],
)
def test_other_windows_are_torchs_own(never, settings):
    x = of_torch((2, 3, 7, 9), 0)
    ours, torchs = (pooled(kind(**settings), x) for kind in (MaxPool2d, nn.MaxPool2d))
    assert all(same_bits(one, other) for one, other in zip(ours, torchs, strict=True))


@pytest.mark.parametrize(
    "x",
    [
        of_torch((2, 3, 8, 6), 0).transpose(2, 3),
        of_torch((2, 3, 8, 6), 0).to(memory_format=torch.channels_last),
        of_torch((2, 3, 8, 12), 0)[..., ::2],
        of_torch((2, 3, 8, 6), 0).double(),
        of_torch((2, 3, 8, 6), 0).half(),
        torch.zeros(0, 3, 8, 6),
    ],
)
def test_other_layouts_and_types_are_torchs_own(never, x):
    ours, torchs = (pooled(module, x) for module in (OURS, TORCHS))
    assert all(same_bits(one, other) for one, other in zip(ours, torchs, strict=True))
    assert ours[0].stride() == torchs[0].stride()


def test_indices_and_meta_tensors_are_torchs_own(never):
    x = ties((2, 3, 4, 6), 0)
    for one, other in zip(
        MaxPool2d(2, return_indices=True)(x), nn.MaxPool2d(2, return_indices=True)(x), strict=True
    ):
        assert torch.equal(one, other)
    assert OURS(x.to("meta")).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("shape", [(2, 3, 1, 4), (2, 0, 4, 4), (4, 4), (1, 1, 1, 4, 4)])
def test_what_torch_refuses_is_refused(shape):
    with pytest.raises(RuntimeError) as wanted:
        TORCHS(torch.zeros(shape))
    with pytest.raises(RuntimeError) as found:
        OURS(torch.zeros(shape))
    assert str(found.value) == str(wanted.value)


def test_gradients_of_any_layout_and_shared_inputs(compiled):
    x = ties((2, 3, 8, 6), 0)
    for given in (torch.ones(1).expand(2, 3, 4, 3), of_torch((2, 3, 3, 4), 1).transpose(2, 3)):
        assert same_bits(pooled(OURS, x, given)[1], pooled(TORCHS, x, given)[1])
    assert pooled(OURS, x)[1].is_contiguous()


def test_an_input_changed_before_the_backward_pass_is_an_error(compiled):
    x = of_torch((1, 1, 4, 4), 0).requires_grad_() * 1.0
    y = OURS(x)
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_of_gradients_and_several_at_once_are_those_of_torch(compiled):
    x = of_torch((2, 3, 6, 7), 0).requires_grad_()
    given = of_torch((4, 2, 3, 3, 3), 1)
    found = []
    for module in (OURS, TORCHS):
        (first,) = torch.autograd.grad((module(x) ** 3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
        (several,) = torch.autograd.grad(module(x), x, given, is_grads_batched=True)
        found.append((first.detach(), second, several))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


@JIT
def test_forward_derivatives_are_those_of_torch():
    x, direction = of_torch((2, 3, 4, 6), 0), of_torch((2, 3, 4, 6), 1)
    found = []
    for module in (OURS, TORCHS):
        with forward_ad.dual_level():
            y = module(forward_ad.make_dual(x, direction))
            found.append(forward_ad.unpack_dual(y).tangent)
    assert torch.equal(*found)


def test_transformed_functions_are_those_of_torch():
    x = of_torch((5, 2, 3, 4, 6), 0)
    found = [vmap(grad(lambda one, m=module: (m(one) ** 3).sum()))(x) for module in (OURS, TORCHS)]
    assert torch.equal(*found)


@JIT
def test_what_is_compiled_exported_or_traced_has_plain_pools(compiled):
    x = of_torch((2, 3, 6, 8), 0)
    whole = torch.compile(OURS, fullgraph=True, backend="aot_eager")
    for one, other in zip(pooled(whole, x), pooled(OURS, x), strict=True):
        assert same_bits(one, other)
    exported = torch.export.export(OURS, (x,))
    assert torch.ops.aten.max_pool2d.default in {node.target for node in exported.graph.nodes}
    assert "aten::max_pool2d" in str(torch.jit.trace(OURS, (x,)).graph)


def test_without_compiled_kernels_pooling_is_torchs_own_and_nobody_is_warned(monkeypatch):
    is_compiled = pool._is_compiled.__wrapped__

    def fails():
        raise BuildError("no C compiler was found.")

    with monkeypatch.context() as patch:
        patch.setattr(pool, "load_library", fails)
        assert not is_compiled()
    monkeypatch.setenv("FEDHQ_KERNELS", "torch")
    assert not is_compiled()


def rectified_first(model: nn.Sequential) -> nn.Sequential:
    """The cnn as it is usually written: ReLU before torch's own pool."""
    layers = OrderedDict(copy.deepcopy(model).named_children())
    for block in (1, 2):
        layers[f"pool{block}"] = nn.MaxPool2d(2)
        layers.move_to_end(f"pool{block}")
    for name in ("flatten", "linear"):
        layers.move_to_end(name)
    names = [f"{kind}{block}" for block in (1, 2) for kind in ("conv", "norm", "relu", "pool")]
    return nn.Sequential(OrderedDict((n, layers[n]) for n in [*names, "flatten", "linear"]))


@pytest.mark.parametrize("recipe", [None, Recipe(2, 2)])
@pytest.mark.parametrize("side", [8, 15])
def test_the_cnn_trains_to_the_very_bits_of_one_that_rectifies_before_torchs_pool(side, recipe):
    model = build_model("cnn", (1, side, side), 10, seed=0)
    usual = rectified_first(model)
    x, labels = of_torch((32, 1, side, side), 0), torch.arange(32) % 10
    trained = []
    for network in (model, usual):
        if recipe is not None:
            prepare_(network, recipe)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), labels).backward()
            optimizer.step()
        trained.append(network.state_dict())
    assert list(trained[0]) == list(trained[1])
    assert all(same_bits(one, trained[1][name]) for name, one in trained[0].items())
