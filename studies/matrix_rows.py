"""One row of the matrix: an interpreter, ages of dependencies, tests of the installed wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..allocator.errors import FedHQError
from .distributions import Distributions, unpack_tests
from .uv_tool import run_uv

_INSTALL_SECONDS = 1800.0
_ASK_SECONDS = 60.0
_TEST_TOOLS = ("pytest", "pytest-xdist")
_NAMED = ("numpy", "scipy", "highspy", "cvxpy", "torch", "optuna", "flwr")
_SUMMARY = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.MULTILINE)
_LEFT_OUT = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")


class Ages(StrEnum):
    """Which of the versions that pyproject allows are installed."""

    OLDEST = "oldest"
    """The lower bounds of the direct dependencies; of theirs the newest that fit."""
    NEWEST = "newest"


class Extent(StrEnum):
    """What is installed and tested."""

    CORE = "core"
    """No extra: the allocator."""
    FULL = "full"
    """The extra `test`: everything."""


class Outcome(StrEnum):
    """What came of a row."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"
    """There is no such interpreter: nothing was run."""
    REFUSED = "not installable"


@dataclass(frozen=True)
class Row:
    """What is run.

    Args:
        python: Version of the interpreter, as "3.11".
        ages: Of the dependencies.
        extent: What is installed.
        tests: What pytest is told to run, within the sdist; the default of `extent` where empty.
    """

    python: str
    ages: Ages
    extent: Extent
    tests: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.python}-{self.ages}-{self.extent}"


@dataclass(frozen=True)
class Result:
    """What came out.

    Args:
        row: What was run.
        outcome: What came of it.
        note: Counts of tests, or why there are none.
        interpreter: Its full version; empty where it is missing.
        versions: Of the packages that matter, "numpy 2.0.0".
        seconds: From the environment to the last test.
    """

    row: Row
    outcome: Outcome
    note: str
    interpreter: str = ""
    versions: tuple[str, ...] = ()
    seconds: float = 0.0


def run_row(row: Row, built: Distributions, folder: Path, timeout_seconds: float) -> Result:
    """Installs the wheel into a clean environment and runs the sdist's tests against it.

    Args:
        row: What is run.
        built: The wheel and the sdist.
        folder: Of the environment, the tests and the log `pytest.log`; replaced if it is there.
        timeout_seconds: How long the tests may take.
    """
    start = time.monotonic()
    if (interpreter := find_python(row.python)) is None:
        return Result(row, Outcome.MISSING, f"no Python {row.python} on this machine")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        tests = unpack_tests(built.sdist, folder / "sdist")
        python, versions = _install(row, interpreter, built.wheel, tests, folder)
    except FedHQError as error:
        return Result(row, Outcome.REFUSED, str(error))
    outcome, note = _test(row, python, tests, folder / "pytest.log", timeout_seconds)
    full = _ask(python, "import platform; print(platform.python_version())")
    return Result(row, outcome, note, full, versions, time.monotonic() - start)


def find_python(version: str) -> Path | None:
    """An interpreter of that version: on the path, among pyenv's, or one that uv has.

    Example:
        >>> find_python("2.0") is None
        True
    """
    for candidate in _candidates(version):
        if _ask(candidate, "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[Path]:
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)
    try:
        yield Path(run_uv(["python", "find", "--no-project", version], _ASK_SECONDS).strip())
    except FedHQError:
        return  # uv has none


def _ask(interpreter: Path, code: str) -> str:
    """What a line of Python prints; empty if it fails, as a shim without its interpreter does."""
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _install(
    row: Row, interpreter: Path, wheel: Path, tests: Path, folder: Path
) -> tuple[Path, tuple[str, ...]]:
    """Makes the environment; its interpreter, and the versions in it."""
    pins, home = folder / "pins.txt", folder / "environment"
    wheels_only = ("--only-binary", ":all:")
    resolution = "lowest-direct" if row.ages is Ages.OLDEST else "highest"
    extras = ("--extra", "test") if row.extent is Extent.FULL else ()
    run_uv(["venv", "--quiet", "--no-project", "--python", interpreter, home], _INSTALL_SECONDS)
    python = home / "bin" / "python"
    ask: list[str | Path] = [
        "pip",
        "compile",
        "--quiet",
        "--python",
        python,
        "--resolution",
        resolution,
    ]
    files: list[str | Path] = [tests / "pyproject.toml", "--output-file", pins]
    run_uv([*ask, *wheels_only, *extras, *files], _INSTALL_SECONDS)
    tools = () if row.extent is Extent.FULL else _TEST_TOOLS
    install: list[str | Path] = ["pip", "install", "--quiet", "--python", python, *wheels_only]
    install.append("--compile-bytecode")  # as pip does: a warning of a compiler is none of a test
    run_uv([*install, "--requirement", pins, wheel, *tools], _INSTALL_SECONDS)
    run_uv(["pip", "check", "--quiet", "--python", python], _INSTALL_SECONDS)
    lines = pins.read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if re.fullmatch(r"\S+==\S+", line))
    return python, tuple(f"{name} {pinned[name]}" for name in _NAMED if name in pinned)


def _test(
    row: Row, python: Path, tests: Path, log: Path, timeout_seconds: float
) -> tuple[Outcome, str]:
    where = _ask(python, "import fedhq.allocator as a; print(a.__file__)")
    if not Path(where).is_relative_to(python.parents[1].resolve()):
        return Outcome.FAILED, f"imports {where or 'no fedhq'} instead of the wheel"
    default = ("tests",) if row.extent is Extent.FULL else ("tests/allocator",)
    command = [str(python.with_name("pytest")), "-q", "-n", "2", *(row.tests or default)]
    with log.open("wb") as file:
        try:
            code = subprocess.run(
                command,
                cwd=tests,
                env=_clean(python),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return Outcome.FAILED, f"not done after {timeout_seconds:g} s; see {log}"
    return judge(code, log.read_text("utf-8", "replace"), log)


def _clean(python: Path) -> dict[str, str]:
    """This process' environment, with the row's programs before all others."""
    variables = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return {**variables, "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]])}


def judge(code: int, output: str, log: Path) -> tuple[Outcome, str]:
    """What pytest's exit status and output say; no test at all is no success.

    Example:
        >>> judge(0, "2 passed, 1 skipped in 0.05s", Path("log"))
        (<Outcome.PASSED: 'passed'>, '2 passed, 1 skipped')
        >>> judge(5, "no tests ran in 0.01s", Path("log"))
        (<Outcome.FAILED: 'failed'>, 'exit status 5; see log')
    """
    counts = _SUMMARY.findall(output)
    said = counts[-1] if counts else f"exit status {code}"
    return (Outcome.PASSED, said) if code == 0 else (Outcome.FAILED, f"{said}; see {log}")


def rows(
    pythons: Sequence[str],
    ages: Sequence[Ages],
    extents: Sequence[Extent],
    tests: tuple[str, ...] = (),
) -> list[Row]:
    """All rows of these, the quick ones first."""
    return [Row(p, age, extent, tests) for extent in extents for p in pythons for age in ages]
