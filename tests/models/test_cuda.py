"""CUDA's kernels: on a GPU where there is one; everywhere on the CPU, by an emulated driver.

The emulation runs the very sources and the launches, blocks one after the other, and what it gives
is compared with the plain torch kernels, which share no code with it. Races it cannot show.
"""

import ctypes
import itertools
import shutil
import subprocess
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhq.models.ops import cpu_kernels, cuda_cut, cuda_driver, cuda_kernels, torch_kernels
from fedhq.models.ops.cuda_driver import CudaError, Kernel
from fedhq.models.ops.nvrtc import find_nvrtc

HERE = Path(__file__).parent
OPS = Path(cuda_kernels.__file__).parent
STREAM = 7
FLAGS = (
    *("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-math-errno"),
    *("-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", f"-I{OPS}", f"-I{HERE}"),
    # A GPU refuses addresses that are not aligned; here they are an illegal instruction.
    *("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"),
    *("-include", "cuda_shim.h", "-x", "c++"),
)
SOURCES = (
    *(OPS / f"cuda_{name}.cu" for name in ("rows", "flat", "fit")),
    HERE / "cuda_emulator.cpp",
)

# Rows of every way to cut them, aligned and not, and tensors without elements.
SHAPES = [
    *((1, 1), (3, 9), (5, 27), (70, 12), (33, 33), (7, 120), (3, 255), (2, 256), (3, 300)),
    *((2, 511), (2, 1000), (2, 1153), (3, 4608), (1, 9001), (1, 16384), (2, 20000), (1, 30003)),
    *((0, 5), (4, 0)),
]
WIRE_SHAPES = [(1, 1), (3, 9), (32, 9), (1, 31), (4, 7), (4, 32), (2, 1153), (2, 8200), (4, 0)]
TYPES = [torch.float32, torch.bfloat16]
RATIOS = torch.linspace(1.0, 0.3, 5)
KEY = 0x1234_5678_9ABC_DEF0

shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
types = pytest.mark.parametrize("dtype", TYPES, ids=str)
needs_gpu = pytest.mark.skipif(not cuda_driver.is_available(), reason="no GPU or no NVRTC")


def values(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 3
    x[:, :1] *= 20  # so that a row that sees its neighbour's first value is found out
    return x.to(dtype)


def grid(rows):
    generator = torch.Generator().manual_seed(1)
    scale = torch.rand(rows, generator=generator) * 0.3 + 0.1
    return scale, torch.randint(-3, 4, (rows,), generator=generator, dtype=torch.int32)


# Each takes a module of kernels and x, and gives tensors that must be equal bit for bit.


def dynamic(kernels, x):
    symmetric = kernels.quantize_dynamic(x, -7, 7, True)
    return *symmetric, *kernels.quantize_dynamic(x, 0, 15, False)


def static(kernels, x):
    scale, zero = (t.to(x.device) for t in grid(len(x)))
    y, mask = kernels.quantize_static(x, scale, zero, -8, 7, True)
    plain, none = kernels.quantize_static(x, scale, zero, -8, 7, False)
    grad = values(x.shape, x.dtype, seed=2).to(x.device)
    return y, mask, plain, none, kernels.mask_gradient(grad, mask)


def learned(kernels, x):
    scale, zero = (t.to(x.device) for t in grid(len(x)))
    grad = values(x.shape, x.dtype, seed=2).to(x.device)
    return kernels.learned_backward(grad, x, scale, zero, -8, 7)


def fitted(kernels, x):
    ratios = RATIOS.to(x.device)
    found = [
        kernels.fit_range(x, qmin, 7, symmetric, ratios, stride)
        for (qmin, symmetric), stride in itertools.product(((-7, True), (0, False)), (1, 3))
    ]
    return *itertools.chain(*found), *kernels.quantize_fitted(x, -7, 7, True, ratios, 2, True)


def packed(kernels, x, bits):
    residual = values(x.shape, seed=3).to(x.device)
    alone = kernels.stochastic_pack(x, None, bits, KEY)
    both = kernels.stochastic_pack(x, residual, bits, -KEY)
    return *alone, *both, residual


def unpacked(kernels, x, bits):
    one = kernels.stochastic_pack(x, None, bits, KEY)
    sums = [values(x.shape, seed=4).to(x.device) for _ in range(2)]
    for total, senders in zip(sums, (1, 11), strict=True):
        weights = [0.3 * i + 0.1 for i in range(senders)]
        kernels.unpack_add([one[0]] * senders, [one[1]] * senders, weights, bits, total)
    return kernels.unpack(one[0], bits, x.numel()), *sums


def assert_same(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.cpu(), their.cpu(), rtol=0, atol=0, equal_nan=True)


def assert_gradients_agree(ours, theirs):
    assert_same(ours[:1], theirs[:1])
    for our, their in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(our.cpu(), their.cpu(), rtol=1e-6, atol=1e-5)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("the emulation needs a C++ compiler")
    path = tmp_path_factory.mktemp("emulator") / "emulator.so"
    subprocess.run([compiler, *FLAGS, *map(str, SOURCES), "-o", str(path), "-ldl"], check=True)
    return cuda_driver.declare(ctypes.CDLL(str(path)))


@pytest.fixture
def emulated(library, monkeypatch):
    """CUDA's kernels, for tensors on the CPU; gives blocks, threads, stream of the last launch."""
    monkeypatch.setattr(cuda_driver, "_driver", lambda: library)
    monkeypatch.setattr(cuda_driver, "_architecture", lambda device: 90)
    monkeypatch.setattr(cuda_driver, "_device_guard", lambda device: nullcontext())
    monkeypatch.setattr(cuda_driver, "_stream", lambda device: STREAM)
    monkeypatch.setattr(cuda_driver, "_load_library", lambda source, architecture: 1)
    cuda_driver._load_kernel.cache_clear()
    yield (ctypes.c_longlong * 4).in_dll(library, "last_launch")
    cuda_driver._load_kernel.cache_clear()


@shapes
@types
@pytest.mark.parametrize("operation", [dynamic, static, fitted])
def test_they_equal_plain_torch_bit_for_bit(emulated, operation, shape, dtype):
    x = values(shape, dtype)
    assert_same(operation(cuda_kernels, x), operation(torch_kernels, x))


@shapes
@types
def test_gradients_of_learned_ranges_equal_plain_torch(emulated, shape, dtype):
    x = values(shape, dtype)
    assert_gradients_agree(learned(cuda_kernels, x), learned(torch_kernels, x))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", WIRE_SHAPES, ids=str)
def test_the_wire_equals_plain_torch_bit_for_bit(emulated, shape, bits):
    x = values(shape)
    for operation in (packed, unpacked):
        assert_same(operation(cuda_kernels, x, bits), operation(torch_kernels, x, bits))


@pytest.mark.parametrize("cols", [20, 1153, 16385])
def test_they_treat_what_is_not_finite_as_the_cpu_does(emulated, cols):
    x = values((6, cols))
    for row, bad in enumerate((np.nan, -np.nan, np.inf, -np.inf)):
        x[row, cols // 2] = bad
    for operation in (dynamic, static, fitted):
        assert_same(operation(cuda_kernels, x), operation(cpu_kernels, x))
    assert_same(packed(cuda_kernels, x, 5), packed(cpu_kernels, x, 5))
    assert_same(learned(cuda_kernels, x)[:1], learned(cpu_kernels, x)[:1])


def test_rows_of_zeros_and_of_the_greatest_floats_are_treated_as_on_the_cpu(emulated):
    x = torch.tensor([0.0, 1e-45, 1e-38, 3.4e38, 2.0])[:, None].repeat(1, 40)
    x[:, 1::2] *= -1
    for operation in (dynamic, static, fitted):
        assert_same(operation(cuda_kernels, x), operation(cpu_kernels, x))
    assert_same(packed(cuda_kernels, x, 4), packed(cpu_kernels, x, 4))


@pytest.mark.parametrize("stride", [1, 3])
def test_every_piece_of_a_row_is_judged_by_its_own_samples(emulated, stride):
    x = values((2, 3000)) * torch.linspace(0.01, 1.0, 3000) ** 4
    ratios = torch.linspace(1.0, 0.05, 70)
    ours = cuda_kernels.fit_range(x, -7, 7, True, ratios, stride)
    assert_same(ours, torch_kernels.fit_range(x, -7, 7, True, ratios, stride))


@pytest.mark.parametrize("cols", [4, 700])
def test_of_ratios_without_any_error_the_first_is_taken(emulated, cols):
    x = torch.full((1, cols), 8.0)  # the codes 4, 2 and 1 of the scales 2, 4 and 8 are exact
    worse = [0.5] * 30
    for ratios, scale in (([*worse, 1.75, 3.5, 7.0], 2.0), ([7.0, 3.5, *worse, 1.75], 8.0)):
        found = cuda_kernels.fit_range(x, -7, 7, True, torch.tensor(ratios), 1)
        assert found[0].tolist() == [scale]


def test_bit_k_of_byte_j_of_a_mask_is_element_32_k_plus_j(emulated):
    inside = torch.zeros(600, dtype=torch.bool)
    inside[[0, 31, 32, 255, 256 + 32 * 5 + 17, 599]] = True
    x = torch.where(inside, 0.0, 99.0)[None]
    one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    mask = cuda_kernels.quantize_static(x, one, zero, -2, 1, True)[1]
    bits = np.unpackbits(mask.numpy().reshape(3, 32, 1), axis=2, bitorder="little")
    order = bits.transpose(0, 2, 1).ravel()
    assert order[:600].tolist() == inside.int().tolist()
    assert not order[600:].any()


@pytest.mark.parametrize("bits", range(2, 9))
def test_byte_j_of_a_plane_has_element_j_of_every_run(emulated, bits):
    qmax = 2 ** (bits - 1) - 1
    levels = torch.arange(331).float() % (2 * qmax + 1) - qmax  # rounding leaves them alone
    sent, scale = cuda_kernels.stochastic_pack(levels[None], None, bits, KEY)
    assert scale.item() == 1
    codes, unread, first = np.zeros(331, int), bits, 0
    for plane in (p for p in (8, 4, 2, 1) if bits & p):
        unread -= plane
        stride = -(-331 * plane // 8)
        for i in range(331):
            byte = int(sent[first + i % stride])
            codes[i] |= (byte >> (i // stride * plane) & (2**plane - 1)) << unread
        first += stride
    assert first == len(sent)
    assert codes.tolist() == (levels + qmax).int().tolist()


@pytest.mark.parametrize("offset", range(1, 4))
def test_tensors_that_are_not_aligned_give_the_same(emulated, offset):
    shape = (4, 64)
    shifted = torch.empty(4 * 64 + offset)[offset:].view(shape).copy_(values(shape))
    assert_same(dynamic(cuda_kernels, shifted), dynamic(torch_kernels, values(shape)))
    assert_same(static(cuda_kernels, shifted), static(torch_kernels, values(shape)))
    assert_same(packed(cuda_kernels, shifted, 4), packed(torch_kernels, values(shape), 4))
    assert_gradients_agree(learned(cuda_kernels, shifted), learned(torch_kernels, values(shape)))
    sums = torch.zeros(4 * 64 + offset)
    sent = torch_kernels.stochastic_pack(shifted, None, 4, KEY)
    ours, theirs = sums[offset:].view(shape), torch.zeros(shape)
    cuda_kernels.unpack_add([sent[0]], [sent[1]], [2.0], 4, ours)
    torch_kernels.unpack_add([sent[0]], [sent[1]], [2.0], 4, theirs)
    assert_same([ours], [theirs])
    assert not sums[:offset].any()


def test_a_launch_has_a_warp_for_every_mask_block_and_torch_s_stream(emulated):
    mask = torch.zeros(9 * 32, dtype=torch.uint8)
    cuda_kernels.mask_gradient(torch.ones(8 * 256 + 1), mask)
    assert list(emulated[:3]) == [2, cuda_cut.THREADS, STREAM]


def test_rows_share_blocks_and_long_rows_are_shared_by_blocks(emulated):
    cuda_kernels.quantize_dynamic(torch.ones(65, 9), -7, 7, True)
    assert list(emulated[:2]) == [2, 256]  # four lanes a row
    cuda_kernels.quantize_dynamic(torch.ones(2, 1028), -7, 7, True)
    assert list(emulated[:2]) == [2, 64]
    cuda_kernels.quantize_dynamic(torch.ones(2, 3 * 8192), -7, 7, True)
    assert list(emulated[:2]) == [6, 256]


def test_nothing_is_launched_for_nothing(emulated):
    before = emulated[3]
    cuda_kernels.mask_gradient(torch.ones(0), torch.ones(0, dtype=torch.uint8))
    cuda_kernels.quantize_dynamic(torch.ones(0, 4), -7, 7, True)
    assert emulated[3] == before


def test_a_kernel_that_does_not_exist_is_named(emulated):
    kernel = Kernel("cuda_flat.cu", cuda_kernels._MASK.layout)
    with pytest.raises(CudaError, match=r"symbol not found \(500\) about nonsense"):
        kernel.launch("nonsense", torch.device("cpu"), 1, 32, 0, 0, 0, 0)


def test_every_thread_has_an_argument_block_of_its_own():
    addresses = [ctypes.addressof(cuda_driver._BLOCK.bytes)]
    other = threading.Thread(
        target=lambda: addresses.append(ctypes.addressof(cuda_driver._BLOCK.bytes))
    )
    other.start()
    other.join()
    assert len(set(addresses)) == 2
    assert cuda_driver._BLOCK.pointers[0] == addresses[0]


def test_the_driver_gets_machine_code(library, monkeypatch):
    if find_nvrtc() is None:
        pytest.skip("NVRTC is not installed")
    monkeypatch.setattr(cuda_driver, "_driver", lambda: library)
    assert cuda_driver._load_library.__wrapped__("cuda_flat.cu", 90)  # else the stand-in refuses


@pytest.mark.parametrize("cols", [0, 1, 9, 256, 257, 4608, 16384, 16385, 2**20 + 1, 2**33])
@pytest.mark.parametrize("rows", [0, 1, 5, 2**20])
def test_pieces_cover_every_row_once_and_their_teams_fit_blocks(rows, cols):
    cut = cuda_cut.cut_rows(rows, cols, 16)
    assert (cut.pieces - 1) * cut.length < max(cols, 1) <= max(cut.pieces * cut.length, 1)
    assert cut.threads % 32 == 0
    assert cut.threads <= 512
    assert cut.team in (4, 8, 16, 32) or cut.team == cut.threads
    assert cut.blocks * (cut.threads // cut.team) >= rows * cut.pieces
    assert cut.blocks < 2**31


@needs_gpu
@types
@pytest.mark.parametrize("operation", [dynamic, static, fitted])
def test_a_gpu_equals_the_cpu_bit_for_bit(operation, dtype):
    for x in (values(shape, dtype) for shape in SHAPES):
        assert_same(operation(cuda_kernels, x.cuda()), operation(cpu_kernels, x))


@needs_gpu
@types
def test_a_gpu_s_gradients_of_learned_ranges_equal_the_cpu_s_and_one_another(dtype):
    for x in (values(shape, dtype) for shape in SHAPES):
        ours = learned(cuda_kernels, x.cuda())
        assert_gradients_agree(ours, learned(cpu_kernels, x))
        assert_same(ours, learned(cuda_kernels, x.cuda()))


@needs_gpu
@pytest.mark.parametrize("bits", range(2, 9))
def test_a_gpu_s_wire_equals_the_cpu_s_bit_for_bit(bits):
    for x, operation in itertools.product(map(values, SHAPES), (packed, unpacked)):
        assert_same(operation(cuda_kernels, x.cuda(), bits), operation(cpu_kernels, x, bits))


@needs_gpu
def test_launches_follow_the_current_stream():
    x = values((64, 1000)).cuda()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        x.mul_(2)  # if quantization ran on another stream it would not see this
        y = cuda_kernels.quantize_dynamic(x, -7, 7, True)[0]
    stream.synchronize()
    assert_same([y], cpu_kernels.quantize_dynamic(x.cpu(), -7, 7, True)[:1])


@needs_gpu
@pytest.mark.parametrize("operation", [dynamic, static, learned, fitted])
@pytest.mark.parametrize("shape", [(8, 576), (2, 20000)], ids=str)
def test_a_cuda_graph_captures_them(operation, shape):
    x = values(shape).cuda()
    prepared = fixed_inputs(operation, x)
    prepared()  # loads the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = prepared()
    x.copy_(values(shape, seed=5).cuda())
    graph.replay()
    torch.cuda.synchronize()
    assert_same(captured, prepared())


def fixed_inputs(operation, x):
    """The operation on inputs that lie on the GPU already; copies cannot be captured."""
    scale, zero = (t.cuda() for t in grid(len(x)))
    grad, ratios = values(x.shape, seed=2).cuda(), RATIOS.cuda()
    calls = {
        dynamic: lambda: cuda_kernels.quantize_dynamic(x, -7, 7, True),
        static: lambda: cuda_kernels.quantize_static(x, scale, zero, -8, 7, True),
        learned: lambda: cuda_kernels.learned_backward(grad, x, scale, zero, -8, 7),
        fitted: lambda: cuda_kernels.fit_range(x, -7, 7, True, ratios, 1),
    }
    return calls[operation]
