import numpy as np
import pytest
import torch

from fedhq.models.ops import torch_kernels
from fedhq.models.ops.library import mix_key
from fedhq.models.ops.sizes import as_matrix, packed_bytes, planes
from fedhq.models.ops.wire_arrays import has_foreign_code

BITS = range(2, 9)
KEY = 0x0123_4567_89AB_CDEF
SMALL = [(0, 5), (3, 0), (1, 1), (5, 27), (3, 300), (7, 256)]
LARGE = [(1, 70_001), (3, 30_000), (220, 301)]
SHAPES = [(1, shape) for shape in SMALL] + [(t, shape) for t in (1, 2) for shape in LARGE]
NAN, INF = float("nan"), float("inf")


def values(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    return x * torch.logspace(-3, 3, max(shape[0], 1))[: shape[0], None]


def decoded(kernels, packed, scale, bits: int, shape: tuple[int, ...]) -> torch.Tensor:
    codes = kernels.unpack(packed, bits, shape[0] * shape[1]).view(shape)
    return (codes.float() - (2 ** (bits - 1) - 1)) * scale[:, None]


def packed_by_hand(codes: np.ndarray, bits: int) -> np.ndarray:
    """One code at a time, as `fl_core.wire.rounding` describes the layout."""
    parts, shift = [], bits
    for width in planes(bits):
        shift -= width
        stride = -(-len(codes) * width // 8)
        plane = np.zeros(stride, np.uint8)
        for element, code in enumerate(codes.tolist()):
            run, j = divmod(element, stride)
            plane[j] |= ((code >> shift) & (2**width - 1)) << (width * run)
        parts.append(plane)
    return np.concatenate(parts)


@pytest.mark.parametrize(("threads", "shape"), SHAPES, indirect=["threads"])
@pytest.mark.parametrize("with_residual", [True, False])
def test_compiled_packing_is_that_of_plain_torch(compiled, threads, shape, with_residual):
    x = values(shape)
    for bits in (3,) if shape in LARGE else BITS:
        left = [values(shape, seed=2) * 0.1 if with_residual else None for _ in range(2)]
        ours = compiled.stochastic_pack(x, left[0], bits, KEY)
        theirs = torch_kernels.stochastic_pack(x, left[1], bits, KEY)
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
        assert not with_residual or torch.equal(left[0], left[1])
        codes = [k.unpack(ours[0], bits, x.numel()) for k in (compiled, torch_kernels)]
        assert torch.equal(*codes)
        sums = [values(shape, seed=3) for _ in range(2)]
        for kernels, total in zip((compiled, torch_kernels), sums, strict=True):
            kernels.unpack_add([ours[0]] * 2, [ours[1]] * 2, [0.3, 0.7], bits, total)
        assert torch.equal(*sums)


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 63, 64, 65, 1001])
@pytest.mark.parametrize("bits", BITS)
def test_unpacking_inverts_the_layout_made_by_hand(kernels, bits, total):
    codes = np.random.default_rng(total).integers(0, 2**bits, total, dtype=np.uint8)
    packed = torch.from_numpy(packed_by_hand(codes, bits))
    assert packed.numel() == packed_bytes(total, bits)
    assert np.array_equal(kernels.unpack(packed, bits, total).numpy(), codes)


@pytest.mark.parametrize("bits", BITS)
def test_packing_makes_the_layout_made_by_hand(kernels, bits):
    packed, _ = kernels.stochastic_pack(values((3, 37)), None, bits, KEY)
    codes = kernels.unpack(packed, bits, 3 * 37).numpy()
    assert codes.max() <= 2**bits - 2
    assert np.array_equal(packed.numpy(), packed_by_hand(codes, bits))


@pytest.mark.parametrize("bits", BITS)
def test_a_value_becomes_a_neighbouring_level(kernels, bits):
    x = values((5, 200))
    packed, scale = kernels.stochastic_pack(x, None, bits, KEY)
    assert torch.equal(scale, x.abs().amax(dim=1) / (2 ** (bits - 1) - 1))
    error = decoded(kernels, packed, scale, bits, x.shape) - x
    assert (error.abs() <= scale[:, None] * 1.00001).all()
    assert error.unique().numel() > 100


def test_rounding_is_unbiased_at_every_fraction(kernels):
    fractions = torch.tensor([0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
    whole = torch.tensor([-6.0, -1.0, 0.0, 3.0])
    wanted = (whole[:, None] + fractions).flatten()
    copies, keys = 500, 20
    # The first value makes every scale 1.
    x = torch.cat([torch.full((len(wanted), 1), 7.0), wanted[:, None].expand(-1, copies)], dim=1)
    total = torch.zeros(x.shape, dtype=torch.float64)
    for key in range(keys):
        packed, scale = kernels.stochastic_pack(x.contiguous(), None, 4, KEY + key * 7919)
        total += decoded(kernels, packed, scale, 4, x.shape)
    means = total[:, 1:].mean(dim=1) / keys
    deviation = (fractions * (1 - fractions) / (copies * keys)).sqrt().repeat(len(whole))
    assert ((means - wanted).abs() <= 5 * deviation + 1e-6).all()


@pytest.mark.parametrize("other", [KEY + 1, KEY ^ (1 << 31), 0x9E37_79B9_7F4A_7C15])
def test_keys_round_independently(kernels, other):
    x = torch.full((1, 10_001), 0.5)
    x[0, 0] = 7.0
    ups = [kernels.stochastic_pack(x, None, 4, key)[0] for key in (KEY, other)]
    one, two = (kernels.unpack(packed, 4, x.numel())[1:] > 7 for packed in ups)
    # Five standard deviations of a fair coin's mean over ten thousand throws.
    assert abs(float((one == two).float().mean()) - 0.5) < 0.025
    neighbours = float((one[1:] == one[:-1]).float().mean())
    assert abs(neighbours - 0.5) < 0.025


def test_the_key_decides_and_threads_do_not(kernels):
    x = values((3, 30_000))
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            found.append(kernels.stochastic_pack(x, None, 3, KEY)[0])
        finally:
            torch.set_num_threads(1)
    assert torch.equal(*found)


@pytest.mark.parametrize("bits", BITS)
def test_the_residual_is_exactly_what_was_not_sent(kernels, bits):
    x, residual = values((4, 99)), values((4, 99), seed=1) * 0.2
    target = x + residual
    packed, scale = kernels.stochastic_pack(x, residual, bits, KEY)
    assert torch.equal(residual, target - decoded(kernels, packed, scale, bits, x.shape))


def test_with_error_feedback_all_is_sent_in_the_end(kernels):
    x, residual = values((4, 50)), torch.zeros(4, 50)
    sent = torch.zeros(4, 50, dtype=torch.float64)
    for k in range(30):
        packed, scale = kernels.stochastic_pack(x, residual, 2, KEY + k)
        sent += decoded(kernels, packed, scale, 2, x.shape)
    magnitude = x.abs().amax(dim=1, keepdim=True)
    assert ((sent + residual - 30 * x.double()).abs() < 1e-4 * magnitude).all()
    assert (residual.abs() < 10 * magnitude).all()


def test_a_tensor_without_residual_is_left_as_it_was(kernels):
    x = values((2, 40))
    before = x.clone()
    kernels.stochastic_pack(x, None, 4, KEY)
    assert torch.equal(x, before)


@pytest.mark.parametrize("spoil", [NAN, INF, -INF])
def test_a_row_that_is_not_finite_sends_nothing_and_keeps_its_residual(kernels, spoil):
    x, residual = values((3, 20)), torch.full((3, 20), 0.125)
    x[1, 3] = spoil
    packed, scale = kernels.stochastic_pack(x, residual, 4, KEY)
    codes = kernels.unpack(packed, 4, 60).view(3, 20)
    assert scale.isfinite().tolist() == [True, False, True]
    assert (codes[1] == 7).all()
    assert (residual[1] == 0.125).all()
    assert residual[[0, 2]].isfinite().all()


def test_extreme_rows_stay_finite(kernels):
    x = torch.tensor([[0.0, -0.0], [1e-45, -1e-40], [3.4e38, -3.4e38], [1e-37, 0.0]])
    packed, scale = kernels.stochastic_pack(x, None, 4, KEY)
    assert scale[0] == 0
    assert (scale[1:] >= torch.finfo(torch.float32).tiny).all()
    sent = decoded(kernels, packed, scale, 4, x.shape)
    assert sent.isfinite().all()
    assert not sent[0].any()
    torch.testing.assert_close(sent[2:], x[2:])


@pytest.mark.parametrize("bits", BITS)
def test_adding_up_is_decoding_and_adding_one_after_the_other(kernels, bits):
    shape, weights = (3, 101), [0.25, -1.5, 0.1]
    packs = [kernels.stochastic_pack(values(shape, seed=k), None, bits, k) for k in range(3)]
    total = values(shape, seed=9)
    wanted = total.clone()
    for (packed, scale), weight in zip(packs, weights, strict=True):
        levels = kernels.unpack(packed, bits, total.numel()).view(shape).float()
        wanted += (levels - (2 ** (bits - 1) - 1)) * (scale * weight)[:, None]
    packed, scales = zip(*packs, strict=True)
    kernels.unpack_add(list(packed), list(scales), weights, bits, total)
    assert torch.equal(total, wanted)


TENSORS = [(3, 5), (7,), (), (0, 4), (2, 1, 3, 3), (40, 50)]


@pytest.mark.parametrize("bits", BITS)
def test_all_tensors_at_once_are_packed_and_added_as_one_by_one(kernels, bits):
    rng = np.random.default_rng(bits)
    x, owed = ([rng.normal(size=s).astype(np.float32) for s in TENSORS] for _ in range(2))
    keys, shapes = [mix_key(k) for k in range(len(x))], [as_matrix(s) for s in TENSORS]
    left = [torch.tensor(o).view(shape) for o, shape in zip(owed, shapes, strict=True)]
    one_by_one = [
        kernels.stochastic_pack(torch.from_numpy(v).view(shape), kept, bits, key)
        for v, shape, kept, key in zip(x, shapes, left, keys, strict=True)
    ]
    codes, scales = (torch.cat(parts).numpy() for parts in zip(*one_by_one, strict=True))
    packed, found = np.empty_like(codes), np.empty_like(scales)
    kernels.stochastic_pack_all(x, owed, bits, keys, found, packed)
    assert (packed.tobytes(), found.tobytes()) == (codes.tobytes(), scales.tobytes())
    for one, kept in zip(owed, left, strict=True):
        assert one.tobytes() == kept.numpy().tobytes()
    body = np.concatenate([found.view(np.uint8), packed])
    totals = [np.ones(shape, np.float32) for shape in TENSORS]
    kernels.unpack_add_all([body, body], [0.3, 0.7], bits, totals)
    for total, shape, (code, scale) in zip(totals, shapes, one_by_one, strict=True):
        wanted = torch.ones(shape)
        kernels.unpack_add([code] * 2, [scale] * 2, [0.3, 0.7], bits, wanted)
        assert total.tobytes() == wanted.numpy().tobytes()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_one_foreign_code_is_found_wherever_it_stands(kernels, bits):
    most, runs = 2**bits - 1, 8 // bits
    clean = np.random.default_rng(0).integers(0, most, (runs, 300))
    for run, byte in ((0, 0), (runs - 1, 299), (runs // 2, 77), (None, None)):
        codes = clean.copy()
        if run is not None:
            codes[run, byte] = most
        packed = (codes << (bits * np.arange(runs))[:, None]).sum(axis=0).astype(np.uint8)
        assert kernels.has_foreign_code(packed, bits) == (run is not None)
    with pytest.raises(ValueError, match="one plane"):
        has_foreign_code(packed, 3)


def test_the_wire_refuses_other_types():
    ops, x = torch.ops.fedhq, torch.ones(4, 6)
    for bad in (x.bfloat16(), x.double()):
        with pytest.raises(ValueError, match="the wire takes contiguous float32"):
            ops.stochastic_pack(bad, None, 4, 0)
    packed, scale = ops.stochastic_pack(x, None, 4, 0)
    with pytest.raises(ValueError, match="the wire takes contiguous float32"):
        ops.unpack_add([packed], [scale], [1.0], 4, x.bfloat16())


def test_keys_that_differ_in_one_bit_give_streams_that_have_nothing_in_common(kernels):
    x = torch.full((1, 20_000), 0.5)
    x[0, 0] = 7.0  # a scale of 1: the others go up or down like a fair coin
    first = torch.ops.fedhq.stochastic_pack(x, None, 4, 5)[0]
    codes = torch.ops.fedhq.unpack(first, 4, x.numel())[1:]
    for bit in (0, 31, 32, 45, 63):
        key = (5 ^ (1 << bit)) - ((1 << 64) if bit == 63 else 0)
        other = torch.ops.fedhq.stochastic_pack(x, None, 4, key)[0]
        agreement = (torch.ops.fedhq.unpack(other, 4, x.numel())[1:] == codes).float().mean()
        assert abs(float(agreement) - 0.5) < 5 * 0.5 / len(codes) ** 0.5


def test_the_wire_refuses_what_its_kernels_would_misread():
    ops, x = torch.ops.fedhq, torch.ones(4, 6)
    packed, scale = ops.stochastic_pack(x, None, 4, 0)
    for bits in (1, 9):
        with pytest.raises(ValueError, match="`2 <= wire_bits <= 8`"):
            ops.stochastic_pack(x, None, bits, 0)
    with pytest.raises(ValueError, match="contiguous"):
        ops.stochastic_pack(torch.ones(6, 4).t(), None, 4, 0)
    with pytest.raises(ValueError, match="`residual`"):
        ops.stochastic_pack(x, torch.zeros(4, 5), 4, 0)
    with pytest.raises(ValueError, match="`packed` must be 12 bytes"):
        ops.unpack(packed[:-1], 4, 24)
    with pytest.raises(ValueError, match="`packed` must be 12 bytes"):
        ops.unpack_add([packed[:-1]], [scale], [1.0], 4, torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"\(rows,\)"):
        ops.unpack_add([packed], [scale[:-1]], [1.0], 4, torch.zeros(4, 6))
    with pytest.raises(ValueError, match="one length"):
        ops.unpack_add([packed], [scale], [1.0, 2.0], 4, torch.zeros(4, 6))
