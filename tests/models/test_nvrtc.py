import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from fedhq.models.ops.nvrtc import (
    Compiled,
    NvrtcError,
    Source,
    find_nvrtc,
    load_cubin,
    read_source,
)

SOURCES = ("cuda_rows.cu", "cuda_flat.cu", "cuda_fit.cu")
ARCHITECTURES = [
    *(pytest.param(number, marks=pytest.mark.slow) for number in (75, 80, 89, 120)),
    90,
]
TINY = Source("tiny.cu", 'extern "C" __global__ void tiny(int *x) { *x = 1; }')

needs_nvrtc = pytest.mark.skipif(find_nvrtc() is None, reason="NVRTC is not installed")


class Counting:
    """In place of the library: counts what it compiles."""

    version = (13, 0)

    def __init__(self):
        self.compiled = []

    def compile(self, source, architecture, options=()):
        self.compiled.append(architecture)
        return Compiled(f"{source.text} {architecture} {self.version}".encode() * 100, "")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDHQ_CACHE", str(tmp_path))
    return tmp_path / "fedhq"


@needs_nvrtc
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_and_keeps_its_values_in_registers(name, architecture):
    nvrtc = find_nvrtc()
    if architecture not in nvrtc.architectures:
        pytest.skip(f"this NVRTC does not know sm_{architecture}")
    source = read_source(name)
    compiled = nvrtc.compile(source, architecture, ["--ptxas-options=-v"])
    entries = re.findall(r"Compiling entry function '(\w+)'", compiled.log)
    spilled = re.findall(r"(\d+) bytes spill stores", compiled.log)
    assert compiled.cubin.startswith(b"\x7fELF")
    assert "warning" not in compiled.log
    assert len(entries) == len(spilled) > 0
    assert dict(zip(entries, spilled, strict=True)) == dict.fromkeys(entries, "0")


def test_the_newest_of_the_wanted_version_is_found_in_wheels(tmp_path, monkeypatch):
    for place in ("cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("not a library")
    spec = ModuleSpec("nvidia", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    for wanted, found in (("*", "cu13"), ("13", "cu13"), ("12", "cuda_nvrtc")):
        with pytest.raises(NvrtcError, match=f"{found}.* cannot be loaded"):
            find_nvrtc.__wrapped__(wanted)


@needs_nvrtc
def test_products_and_sums_are_not_contracted():
    text = 'extern "C" __global__ void f(float *x) { x[0] = x[1] * x[2] + x[3]; }'
    contracting = find_nvrtc().compile(Source("f.cu", text), 90, ["--fmad=true"]).cubin
    assert find_nvrtc().compile(Source("f.cu", text), 90).cubin != contracting


@needs_nvrtc
def test_a_source_that_does_not_compile_is_refused_with_the_compiler_s_words():
    with pytest.raises(NvrtcError, match=r'broken\.cu for sm_90: [^$]*"nonsense" is undefined'):
        find_nvrtc().compile(Source("broken.cu", "int f() { return nonsense; }"), 90)


@needs_nvrtc
def test_an_unknown_architecture_is_refused():
    with pytest.raises(NvrtcError, match="sm_1"):
        find_nvrtc().compile(TINY, 1)


def test_a_source_is_compiled_once(cache):
    nvrtc = Counting()
    first = load_cubin(nvrtc, TINY, 90)
    assert load_cubin(nvrtc, TINY, 90) == first == nvrtc.compile(TINY, 90).cubin
    assert nvrtc.compiled == [90, 90]  # the second is the test's own


def test_all_that_matters_is_in_the_key(cache):
    nvrtc, newer = Counting(), Counting()
    newer.version = (13, 5)
    other = Source(TINY.name, TINY.text, (("quant.h", "int x;"),))
    for compiler, source, architecture in (
        (nvrtc, TINY, 90),
        (nvrtc, TINY, 80),
        (nvrtc, other, 90),
        (newer, TINY, 90),
    ):
        load_cubin(compiler, source, architecture)
    assert nvrtc.compiled == [90, 80, 90]
    assert newer.compiled == [90]
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "foreign"])
def test_what_is_not_as_it_was_written_is_compiled_anew(cache, damage):
    nvrtc = Counting()
    cubin = load_cubin(nvrtc, TINY, 90)
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "foreign":
        load_cubin(nvrtc, TINY, 80)
        (other,) = set(cache.iterdir()) - {path}
        content = bytearray(other.read_bytes())
    elif damage == "flipped":
        content[-1] ^= 1
    path.write_bytes(content[: {"truncated": 50, "empty": 0}.get(damage)])
    del nvrtc.compiled[:]
    assert load_cubin(nvrtc, TINY, 90) == cubin
    assert load_cubin(nvrtc, TINY, 90) == cubin
    assert nvrtc.compiled == [90]


def test_a_cache_that_cannot_be_written_does_no_harm(cache):
    cache.write_text("not a folder")
    nvrtc = Counting()
    assert load_cubin(nvrtc, TINY, 90) == load_cubin(nvrtc, TINY, 90)
    assert nvrtc.compiled == [90, 90]


def test_writers_at_the_same_time_leave_one_whole_file(cache):
    nvrtc = Counting()
    with ThreadPoolExecutor(8) as pool:
        cubins = set(pool.map(lambda _: load_cubin(nvrtc, TINY, 90), range(32)))
    assert len(cubins) == 1
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]
    del nvrtc.compiled[:]
    assert load_cubin(nvrtc, TINY, 90) in cubins
    assert not nvrtc.compiled


@pytest.mark.skipif(os.name != "posix", reason="folders have modes on POSIX")
def test_the_cache_belongs_to_its_user(cache):
    load_cubin(Counting(), TINY, 90)
    assert Path(cache).stat().st_mode & 0o077 == 0
