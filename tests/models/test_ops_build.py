import os
import shutil
import subprocess
import sys

import pytest
import torch

from fedhq.models.ops import cpu_build, cpu_kernels, library, torch_kernels

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
CACHES = (cpu_build.load_library, library.cpu, cpu_kernels._kernel)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of compiled kernels, as a process sees it that has loaded none yet."""
    monkeypatch.setenv("FEDHQ_CACHE", str(tmp_path))
    monkeypatch.delenv("FEDHQ_KERNELS", raising=False)
    for function in CACHES:
        function.cache_clear()
    yield tmp_path / "fedhq"
    monkeypatch.undo()
    for function in CACHES:
        function.cache_clear()


def quantized() -> torch.Tensor:
    x = torch.linspace(-1, 2, 40).view(2, 20)
    y: torch.Tensor = torch.ops.fedhq.quantize_dynamic(x, -7, 7, True)[0]
    return y


def built(cache) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


@NEEDS_COMPILER
def test_kernels_are_compiled_once_and_kept(cache):
    quantized()
    (name,) = built(cache)
    stamp = (cache / name).stat().st_mtime_ns
    cpu_build.load_library.cache_clear()
    cpu_build.load_library()
    assert built(cache) == [name]
    assert (cache / name).stat().st_mtime_ns == stamp


@NEEDS_COMPILER
def test_a_damaged_result_is_compiled_anew(cache):
    compiler = shutil.which("cc")
    damaged = cache / f"cpu-{cpu_build._key(compiler)}.so"
    damaged.parent.mkdir()
    damaged.write_bytes(b"this is no library")
    assert quantized().isfinite().all()
    assert library.cpu() is cpu_kernels
    assert damaged.stat().st_size > 1000


@NEEDS_COMPILER
def test_the_key_depends_on_flags_sources_and_processor(monkeypatch):
    compiler = shutil.which("cc")
    keys = {cpu_build._key(compiler)}
    assert cpu_build._key(compiler) in keys
    with monkeypatch.context() as patch:
        patch.setattr(cpu_build, "_FLAGS", (*cpu_build._FLAGS, "-g"))
        keys.add(cpu_build._key(compiler))
    with monkeypatch.context() as patch:
        patch.setattr(cpu_build, "_features", lambda: "flags: another")
        keys.add(cpu_build._key(compiler))
    with monkeypatch.context() as patch:
        source = cpu_build._source
        patch.setattr(cpu_build, "_source", lambda name: source(name) + b" ")
        keys.add(cpu_build._key(compiler))
    assert len(keys) == 4


@NEEDS_COMPILER
def test_a_compiler_that_fails_is_quoted(cache, monkeypatch):
    monkeypatch.setattr(cpu_build, "_FLAGS", ("-fno-such-flag",))
    with pytest.raises(cpu_build.BuildError, match="no-such-flag"):
        cpu_build.load_library()
    assert built(cache) == []


def test_without_a_compiler_plain_torch_warns_and_gives_the_same(cache, monkeypatch):
    monkeypatch.setenv("FEDHQ_KERNELS", "torch")
    wanted = quantized()
    library.cpu.cache_clear()
    monkeypatch.delenv("FEDHQ_KERNELS")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.warns(UserWarning, match=r"no C compiler was found\..*FEDHQ_KERNELS=torch"):
        found = quantized()
    assert torch.equal(found, wanted)
    assert library.cpu() is torch_kernels


def test_a_cache_that_cannot_be_written_is_a_build_error(cache, monkeypatch):
    in_the_way = cache.parent / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("FEDHQ_CACHE", str(in_the_way))
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    with pytest.raises(cpu_build.BuildError, match="could not be compiled into"):
        cpu_build.load_library()


def test_plain_torch_can_be_asked_for(cache, monkeypatch):
    monkeypatch.setenv("FEDHQ_KERNELS", "torch")
    quantized()
    assert library.cpu() is torch_kernels
    assert not cache.exists()


def test_compiled_kernels_can_be_insisted_on(cache, monkeypatch):
    monkeypatch.setenv("FEDHQ_KERNELS", "compiled")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(cpu_build.BuildError, match="no C compiler was found"):
        quantized()


def test_other_kernels_are_refused(cache, monkeypatch):
    monkeypatch.setenv("FEDHQ_KERNELS", "fast")
    with pytest.raises(ValueError, match="`FEDHQ_KERNELS` must be auto, torch or compiled"):
        quantized()


@NEEDS_COMPILER
def test_two_processes_may_compile_at_once(tmp_path):
    program = (
        "import torch, fedhq.models\n"
        "print(torch.ops.fedhq.quantize_dynamic(torch.ones(1, 3), -7, 7, True)[0].tolist())\n"
    )
    environment = {**os.environ, "FEDHQ_CACHE": str(tmp_path), "FEDHQ_KERNELS": "compiled"}
    command = [sys.executable, "-W", "error", "-c", program]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert output == "[[1.0, 1.0, 1.0]]\n"
    assert len(built(tmp_path / "fedhq")) == 1
