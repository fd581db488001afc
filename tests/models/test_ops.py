import numpy as np
import pytest
import torch

from fedhq.models.ops import torch_kernels
from fedhq.models.ops.sizes import mask_bytes

BITS = range(2, 9)
# Empty, a single one, odd rows as of a convolution, beyond a mask block, rows of whole blocks; and
# what several threads share: a long row, a few, many rows with blocks that straddle them.
SMALL = [(0, 5), (3, 0), (1, 1), (5, 27), (3, 300), (7, 256)]
LARGE = [(1, 70_001), (3, 30_000), (220, 301)]
SHAPES = [(1, shape) for shape in SMALL] + [(t, shape) for t in (1, 2) for shape in LARGE]
RATIOS = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
NAN, INF = float("nan"), float("inf")


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0):
    """Gaussian rows of very different spread; every ninth value is zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x *= torch.logspace(-3, 3, max(shape[0], 1))[: shape[0], None]
    x.view(-1)[::9] = 0.0
    return x.to(dtype)


def codes_of(bits: int, symmetric: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def grid_for(x: torch.Tensor, bits: int, symmetric: bool):
    """A grid that clips some values of every row."""
    codes = codes_of(bits, symmetric)
    scale, zero = torch_kernels.fit_range(x, *codes, symmetric, torch.tensor([0.6]), 1)
    return (scale, zero), codes


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all bits agree, signs of zeros too; a NaN is as good as another."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    whole = {4: torch.int32, 2: torch.int16}[one.element_size()]
    agree = (one.view(whole) == other.view(whole)) | (one.isnan() & other.isnan())
    return bool(agree.all())


def all_same(ours, theirs) -> bool:
    return all(same_bits(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("threads", "shape"), SHAPES, indirect=["threads"])
def test_compiled_rounding_is_that_of_plain_torch(compiled, threads, shape, dtype, symmetric):
    x = values(shape, dtype)
    for bits in (3,) if shape in LARGE else BITS:
        codes = codes_of(bits, symmetric)
        dynamic = x, *codes, symmetric
        assert all_same(
            compiled.quantize_dynamic(*dynamic), torch_kernels.quantize_dynamic(*dynamic)
        )
        grid, codes = grid_for(x, bits, symmetric)
        for with_mask in (True, False):
            static = x, *grid, *codes, with_mask
            assert all_same(
                compiled.quantize_static(*static), torch_kernels.quantize_static(*static)
            )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("threads", "shape"), SHAPES, indirect=["threads"])
def test_compiled_ranges_are_those_of_plain_torch(compiled, threads, shape, dtype, symmetric):
    x = values(shape, dtype)
    ratios = RATIOS[:3] if shape in LARGE else RATIOS
    for bits, stride in ((2, 1), (5, 7)):
        fitted = x, *codes_of(bits, symmetric), symmetric, ratios, stride
        assert all_same(compiled.fit_range(*fitted), torch_kernels.fit_range(*fitted))
        ours = compiled.quantize_fitted(*fitted, True)
        assert all_same(ours, torch_kernels.quantize_fitted(*fitted, True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("threads", "shape"), SHAPES, indirect=["threads"])
def test_compiled_gradients_are_those_of_plain_torch(compiled, threads, shape, dtype):
    x, grad = values(shape, dtype), values(shape, dtype, seed=1)
    for bits, symmetric in ((2, True), (4, False)):
        grid, codes = grid_for(x, bits, symmetric)
        mask = torch_kernels.quantize_static(x, *grid, *codes, True)[1]
        ours, theirs = (k.mask_gradient(grad, mask) for k in (compiled, torch_kernels))
        assert same_bits(ours, theirs)
        learned = grad, x, *grid, *codes
        ours, theirs = (k.learned_backward(*learned) for k in (compiled, torch_kernels))
        assert same_bits(ours[0], theirs[0])
        if x.numel():
            magnitude = grad.float().abs().sum(dim=1).max()
            torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6 * float(magnitude))
            torch.testing.assert_close(ours[2], theirs[2], rtol=1e-5, atol=1e-6 * float(magnitude))


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize(
    "types", [(torch.float32,), (torch.bfloat16,), (torch.float32, torch.float64)]
)
def test_many_weights_at_once_are_the_same_one_by_one(threads, types):
    shapes = [(64, 27), (1, 30_000), (0, 4), (3, 0), (5, 256), (200, 300), (1, 1)]
    x = [values(shape, types[k % len(types)], seed=k) for k, shape in enumerate(shapes)]
    bits = [2 + k for k in range(len(shapes))]
    y = [torch.full_like(one, 7.0) for one in x]
    masks = [torch.full((mask_bytes(one.numel()),), 7, dtype=torch.uint8) for one in x]
    torch.ops.fedhq.quantize_weights(x, y, masks, bits, RATIOS)
    for one, width, found, mask in zip(x, bits, y, masks, strict=True):
        fitted = one, *codes_of(width, True), True, RATIOS, 1, True
        wanted = torch_kernels.quantize_fitted(*fitted)
        assert torch.equal(found, wanted[0])
        assert torch.equal(mask, wanted[1])


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_dynamic_ranges_reach_the_largest_magnitude_and_clip_nothing(kernels, bits):
    x, qmax = values((6, 51)), 2 ** (bits - 1) - 1
    y, scale, zero = kernels.quantize_dynamic(x, -qmax, qmax, True)
    assert torch.equal(scale, x.abs().amax(dim=1) / qmax)
    assert not zero.any()
    assert ((y - x).abs() <= 0.50001 * scale[:, None]).all()
    assert (y / scale[:, None]).round().unique().numel() <= 2**bits - 1


@pytest.mark.parametrize("offset", [-10.0, -0.3, 0.0, 0.3, 10.0])
def test_asymmetric_dynamic_ranges_hold_every_value_and_zero(kernels, offset):
    x = torch.rand(4, 99, generator=torch.Generator().manual_seed(0)) + offset
    x[:, 0] = 0.0
    y, scale, zero = kernels.quantize_dynamic(x, 0, 15, False)
    assert ((0 <= zero) & (zero <= 15)).all()
    # The rounded zero point may push an end half a step beyond the last code.
    assert ((y - x).abs() <= 1.00001 * scale[:, None]).all()
    assert not y[:, 0].any()


def best_range(row: np.ndarray, low: int, high: int, symmetric: bool, stride: int):
    """The first of all ratios with the least squared error, in NumPy, one value at a time."""
    one, best, found = np.float32, np.inf, (0.0, 0)
    smallest, largest = min(row.min(), one(0)), max(row.max(), one(0))
    for ratio in RATIOS.numpy():
        span, steps = (np.abs(row).max(), high) if symmetric else (largest - smallest, high - low)
        scale = max(one(ratio * span) / one(steps), one(1e-12))
        zero = 0 if symmetric else int(low - np.rint(one(ratio * smallest) * (one(1) / scale)))
        zero = min(max(zero, low), high) if not symmetric else 0
        code = np.clip(np.rint(row[::stride] * (one(1) / scale)), low - zero, high - zero)
        error = float(((code * scale - row[::stride]).astype(np.float64) ** 2).sum())
        if error < best:
            best, found = error, (float(scale), zero)
    return found


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_fitted_ranges_are_those_of_a_search_by_hand(kernels, bits, symmetric):
    x, (low, high) = values((9, 130)), codes_of(bits, symmetric)
    for stride in (1, 3):
        scale, zero = kernels.fit_range(x, low, high, symmetric, RATIOS, stride)
        wanted = [best_range(row, low, high, symmetric, stride) for row in x.numpy()]
        assert list(zip(scale.tolist(), zero.tolist(), strict=True)) == wanted


def test_equal_errors_leave_the_first_ratio(kernels):
    # Judged by the first value alone, which lies on either grid.
    x = torch.tensor([[1.0, 4.0]])
    for ratios in ([0.5, 1.0], [1.0, 0.5]):
        scale, _ = kernels.fit_range(x, -4, 4, True, torch.tensor(ratios), 2)
        assert scale == ratios[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 256), (3, 85), (5, 257), (2, 1000)])
def test_a_bit_of_the_mask_stands_for_one_element(kernels, shape):
    x = values(shape)
    (scale, zero), codes = grid_for(x, 3, True)
    _, mask = kernels.quantize_static(x, scale, zero, *codes, True)
    code = (x * (1 / scale)[:, None]).round()
    inside = ((code >= codes[0]) & (code <= codes[1])).flatten().numpy()
    assert mask.numel() == mask_bytes(x.numel())
    bits = np.zeros(8 * mask.numel(), bool)
    for element, is_inside in enumerate(inside):
        block, place = divmod(element, 256)
        k, j = divmod(place, 32)
        bits[8 * (32 * block + j) + k] = is_inside
    assert np.array_equal(np.unpackbits(mask.numpy(), bitorder="little").astype(bool), bits)
    gradient = kernels.mask_gradient(torch.full(shape, 3.0), mask)
    assert np.array_equal(gradient.numpy().ravel(), np.where(inside, np.float32(3), 0))


def test_a_masked_gradient_is_zero_even_if_it_was_not_finite(kernels):
    x = torch.tensor([[9.0, 0.1, 9.0]])
    grid = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    _, mask = kernels.quantize_static(x, *grid, -2, 1, True)
    passed = kernels.mask_gradient(torch.tensor([[NAN, 2.0, -INF]]), mask)
    assert same_bits(passed, torch.tensor([[0.0, 2.0, 0.0]]))


def test_learned_gradients_are_those_of_a_formula_in_double(kernels):
    x, grad = values((4, 3000)), values((4, 3000), seed=1)
    (scale, zero), (low, high) = grid_for(x, 4, False)
    dx, dscale, dzero = kernels.learned_backward(grad, x, scale, zero, low, high)
    steps = x.double() * scale.reciprocal().double()[:, None]
    code = (x * scale.reciprocal()[:, None]).round().double()
    ends = (low - zero)[:, None].double(), (high - zero)[:, None].double()
    inside = (code >= ends[0]) & (code <= ends[1])
    g = grad.double()
    by_scale = (g * torch.where(inside, code - steps, code.clamp(*ends))).sum(dim=1)
    by_zero = -(g * ~inside).sum(dim=1) * scale
    assert 0.01 < inside.double().mean() < 0.999
    assert torch.equal(dx, torch.where(inside, grad, 0.0))
    sizes = g.abs().sum(dim=1)
    assert ((dscale - by_scale).abs() < 1e-5 * sizes).all()
    assert ((dzero - by_zero).abs() < 1e-5 * sizes * scale).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("spoil", [NAN, -NAN, INF, -INF])
def test_a_row_that_is_not_finite_spoils_itself_alone(kernels, spoil, symmetric):
    x, codes = values((3, 40)), codes_of(3, symmetric)
    spoiled = x.clone()
    spoiled[1, 7] = spoil
    y, scale, _ = kernels.quantize_dynamic(spoiled, *codes, symmetric)
    assert y[1].isnan().all()
    assert not scale[1].isfinite()
    fitted, _ = kernels.fit_range(spoiled, *codes, symmetric, RATIOS, 1)
    assert not fitted[1].isfinite()
    assert torch.equal(y[[0, 2]], kernels.quantize_dynamic(x, *codes, symmetric)[0][[0, 2]])
    unspoiled, _ = kernels.fit_range(x, *codes, symmetric, RATIOS, 1)
    assert torch.equal(fitted[[0, 2]], unspoiled[[0, 2]])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "row", [[0.0, -0.0, 0.0], [1e-45, -1e-40, 1e-39], [3e38, -3e38, 1e38], [1e-12, 0.0, -1e-13]]
)
def test_extreme_rows_are_alike_in_both_ways(compiled, row, symmetric):
    x, codes = torch.tensor([row]), codes_of(4, symmetric)
    dynamic = x, *codes, symmetric
    ours, theirs = (k.quantize_dynamic(*dynamic) for k in (compiled, torch_kernels))
    assert all_same(ours, theirs)
    fitted = *dynamic, RATIOS, 1
    assert all_same(compiled.fit_range(*fitted), torch_kernels.fit_range(*fitted))
    assert not ours[0][x == 0].any()


def test_given_ranges_clip_infinities_and_keep_nan(kernels):
    x = torch.tensor([[NAN, INF, -INF, 3e38]])
    grid = torch.ones(1), torch.tensor([1], dtype=torch.int32)
    y, mask = kernels.quantize_static(x, *grid, 0, 3, True)
    assert y[0, 0].isnan()
    assert y[0, 1:].tolist() == [2.0, -1.0, 2.0]
    assert not mask.any()


def test_operators_refuse_what_their_kernels_would_misread():
    ops, x = torch.ops.fedhq, torch.ones(4, 6)
    scale, zero, ratios = torch.ones(4), torch.zeros(4, dtype=torch.int32), torch.ones(1)
    for bad in (torch.ones(6, 4).t(), torch.ones(24), torch.ones(2, 2, 6)):
        with pytest.raises(ValueError, match="contiguous"):
            ops.quantize_dynamic(bad, -7, 7, True)
    with pytest.raises(ValueError, match=r"\(rows,\)"):
        ops.quantize_static(x, scale[:3], zero, -8, 7, False)
    for grid in ((scale, zero.long()), (scale.double(), zero), (scale.bfloat16(), zero)):
        with pytest.raises(ValueError, match=r"\(rows,\) float32"):
            ops.quantize_static(x, *grid, -8, 7, False)
    with pytest.raises(ValueError, match="of floats"):
        ops.quantize_dynamic(x.long(), -7, 7, True)
    with pytest.raises(ValueError, match="`mask` must have 32 bytes"):
        ops.mask_gradient(x, torch.zeros(32, dtype=torch.int64))
    with pytest.raises(ValueError, match="`grad` must be as `x`"):
        ops.learned_backward(torch.ones(4, 5), x, scale, zero, -8, 7)
    with pytest.raises(ValueError, match="`ratios` must be 1 to 64"):
        ops.fit_range(x, -8, 7, True, torch.ones(65), 1)
    with pytest.raises(ValueError, match="`stride >= 1`"):
        ops.fit_range(x, -8, 7, True, ratios, 0)
    with pytest.raises(ValueError, match="`mask` of 32 bytes"):
        ops.quantize_weights([x], [x.clone()], [torch.zeros(3, dtype=torch.uint8)], [4], ratios)
