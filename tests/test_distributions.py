"""What a release consists of: the wheel holds the packages, typed; the sdist what tests need."""

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from fedhq.allocator import FedHQError
from fedhq.studies import distributions
from fedhq.studies.distributions import (
    PACKAGES,
    ROOT,
    Distributions,
    build_distributions,
    copy_sources,
    differences,
    source_files,
    unpack_tests,
)

DATA_SUFFIXES = (".py", ".json", ".jsonl.gz", ".toml", ".csv", ".c", ".h", ".cu", ".typed")
APART = "studies/optunahub/"  # packages of their own, in OptunaHub's layout
PUBLIC = ("fedhq.allocator", "fedhq.fl_core", "fedhq.fl_core.flower", "fedhq.models")

USER = """
from pathlib import Path

import numpy as np

from fedhq.allocator import AllocationProblem, Exact, FedHQError, Solution, solve
from fedhq.fl_core import FederationSettings, RoundRecord, read_rounds


def plan(seconds: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[str]:
    problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), seconds, 0 * seconds, tradeoff=10.0)
    solution: Solution = solve(problem, Exact())
    names: tuple[str, ...] = tuple(str(strategy) for strategy in solution.allocation.strategies)
    return list(names)


def last(folder: Path, settings: FederationSettings) -> RoundRecord | None:
    try:
        return read_rounds(folder)[-1]
    except FedHQError as error:
        print(error, settings.menu)
        return None


wrong: int = solve(1, Exact())
"""
WRONG = [  # what mypy says of the last line
    'error: Incompatible types in assignment (expression has type "Solution", variable has type '
    '"int")  [assignment]',
    'error: Argument 1 to "solve" has incompatible type "int"; expected "AllocationProblem"  '
    "[arg-type]",
]
TYPED = ("numpy", "scipy", "scipy-stubs", "optype", "numpy_typing_compat", "torch", "flwr")
"""What public types are made of. What else is installed here would take mypy a minute."""

UNSEEN = """_inductor _dynamo distributed onnx ao fx export _export _functorch testing jit _refs
_decomp _subclasses profiler package _higher_order_ops _prims masked _lazy mps xpu mtia accelerator
_logging compiler func""".split()
"""Parts of torch that no public type is made of: to mypy `Any`, else a thousand modules more."""
MYPY_INI = f"""[mypy]
[{",".join(f"mypy-torch.{p}.*" for p in UNSEEN)}]
follow_imports = skip
"""


needs_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="needs a checkout"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Distributions:
    return build_distributions(ROOT, tmp_path_factory.mktemp("built"))


@pytest.mark.slow
@needs_checkout
def test_the_wheel_holds_every_module_and_data_file(built) -> None:
    wanted = {
        f"fedhq/{name}"
        for name in source_files(ROOT)
        if name.split("/")[0] in PACKAGES
        and name.endswith(DATA_SUFFIXES)
        and not name.startswith(APART)
    }
    assert {f"fedhq/{package}/py.typed" for package in PACKAGES} <= wanted
    with zipfile.ZipFile(built.wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("fedhq/")} == wanted


@pytest.mark.slow
@needs_checkout
def test_the_sdist_holds_all_files_of_the_checkout_that_are_not_hidden(built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in held if name.startswith("fedhq.egg-info/")}
    assert held - made - {"PKG-INFO", "setup.cfg"} == set(source_files(ROOT))


@pytest.mark.slow
@needs_checkout
def test_unpacked_for_tests_it_cannot_be_imported(built, tmp_path) -> None:
    folder = unpack_tests(built.sdist, tmp_path)
    assert (folder / "tests" / "test_distributions.py").exists()
    left = {
        p.relative_to(folder).as_posix()
        for layer in PACKAGES
        for p in folder.glob(f"{layer}/**/*.py")
    }
    assert left == {
        name for name in source_files(ROOT) if name.startswith(APART) and name.endswith(".py")
    }


def environment(wheel: Path, home: Path) -> Path:
    """The interpreter of an environment with the wheel's files and links to other packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in TYPED:
        if (package := Path(sysconfig.get_path("purelib")) / name).is_dir():
            (site / name).symlink_to(package)
    return home / "bin" / "python"


def public_names(package: str) -> list[str]:
    """Lines of a program, one for each name that a package makes public: mypy tells its type."""
    names = getattr(import_module(package), "__all__", ())
    return [f"from {package} import {name}; reveal_type({name})\n" for name in names]


@pytest.mark.slow
@needs_checkout
def test_types_reach_a_user_from_the_wheel_for_every_public_name(built, tmp_path) -> None:
    pytest.importorskip("mypy")
    python = environment(built.wheel, tmp_path / "environment")
    (tmp_path / "user.py").write_text(USER, "utf-8")
    names = [line for package in PUBLIC for line in public_names(package)]
    (tmp_path / "names.py").write_text("".join(names), "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    (tmp_path / "mypy.ini").write_text(MYPY_INI, "utf-8")
    command += ["--config-file", "mypy.ini"]
    command += ["--python-executable", str(python), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "user.py", "names.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert [line for line in said if line.startswith("error")] == WRONG, done.stdout + done.stderr
    kinds = [line.partition("Revealed type is ")[2] for line in said if "Revealed type" in line]
    assert '"Any"' not in kinds
    assert len(kinds) == len(names)


def write_wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_wheels_differ_by_what_one_lacks_and_by_what_a_file_says(tmp_path) -> None:
    one = write_wheel(tmp_path / "one.whl", same="1", changed="2", lost="3")
    other = write_wheel(tmp_path / "other.whl", same="1", changed="4", new="5")
    assert differences(one, other) == ["changed", "lost", "new"]
    assert differences(one, one) == []


def test_without_git_what_is_hidden_or_built_is_left_out(tmp_path) -> None:
    kept = {"pyproject.toml", "studies/build.py", "docs/dist.md"}
    for name in {*kept, ".env", "runs/a.json", "dist/fedhq.whl", "docs/.b", "x/__pycache__/c.pyc"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    assert set(source_files(tmp_path)) == kept


def test_a_folder_that_is_no_checkout_is_refused(tmp_path) -> None:
    with pytest.raises(FedHQError, match="no checkout of fedhq"):
        copy_sources(tmp_path, tmp_path / "copy")


def test_an_sdist_that_lacks_something_of_the_wheel_is_refused(tmp_path, monkeypatch) -> None:
    def build(arguments: list, timeout_seconds: float) -> str:
        folder, direct = arguments[arguments.index("--out-dir") + 1], "--wheel" in arguments
        folder.mkdir(exist_ok=True)
        write_wheel(folder / "fedhq-1-py3-none-any.whl", **({"data.json": "1"} if direct else {}))
        (folder / "fedhq-1.tar.gz").write_bytes(b"")
        return ""

    monkeypatch.setattr(distributions, "run_uv", build)
    monkeypatch.setattr(
        distributions, "copy_sources", lambda root, target: target.mkdir(parents=True)
    )
    with pytest.raises(FedHQError, match=r"same wheel.*data\.json"):
        build_distributions(tmp_path, tmp_path / "dist")
