import pytest
import torch

from fedhq.models.ops import cuda_kernels
from fedhq.studies import bench_cuda

CASES = list(bench_cuda.cases(2**13, torch.device("cpu")))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_compared_can_be_called(case):
    case.ours()
    for _, call in case.others:
        call()


def test_a_dynamic_range_moves_eight_bytes_for_a_float_and_four_for_a_bfloat16():
    dynamic = [case for case in CASES if case.name.startswith("dynamic") and "4,096" in case.name]
    assert [case.num_bytes for case in dynamic] == [8 * 2**13, 4 * 2**13]


@pytest.mark.skipif(cuda_kernels.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing():
    with pytest.raises(SystemExit, match="need a GPU"):
        bench_cuda.main([])


@pytest.mark.skipif(not cuda_kernels.is_available(), reason="no GPU or no NVRTC")
def test_with_a_gpu_it_prints_a_table(capsys):
    bench_cuda.main(["--elements", "65536"])
    assert capsys.readouterr().out.count("device copy") == len(CASES)
