"""Promises of the whole package: one-way imports, complete wheel, running docstring examples."""

import ast
import doctest
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("allocator", "models", "fl_core", "studies")  # each may import those before it
DATA_SUFFIXES = (".json", ".toml", ".csv", ".c", ".h", ".cu")
HUB = ROOT / "studies" / "optunahub"
"""Packages of their own, in OptunaHub's layout: no part of the wheel, tested where they are."""
FILES = sorted(
    p for layer in LAYERS for p in (ROOT / layer).rglob("*.py") if not p.is_relative_to(HUB)
)
FOREIGN = {"bare_loop.py", "in_flower.py", "in_pfl.py", "in_blazefl.py"}
"""Programs, run as scripts in environments of their own."""
MODULES = [
    "fedhq." + ".".join(p.relative_to(ROOT).with_suffix("").parts)
    for p in FILES
    if p.parent.name != "simulators" or p.name not in FOREIGN
]


def imported_names(path: Path) -> set[str]:
    """Absolute names of all that a file imports, relative imports resolved."""
    package = ["fedhq", *path.relative_to(ROOT).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_and_never_name_a_bare_folder(path: Path) -> None:
    mine = LAYERS.index(path.relative_to(ROOT).parts[0])
    for name in imported_names(path):
        parts = name.split(".")
        assert parts[0] not in LAYERS, f"{name} is a bare folder: use a relative import"
        if parts[0] == "fedhq" and len(parts) > 1:
            assert LAYERS.index(parts[1]) <= mine, f"{name} points up"


def test_the_wheel_lists_every_folder_that_holds_a_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(config["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(ROOT) for p in FILES if p.name == "__init__.py"}
    assert listed == {"fedhq." + ".".join(f.parts) for f in folders}


def test_nothing_but_the_four_folders_and_the_usual_stands_at_the_top() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked if not name.startswith(".")}
    assert {name for name in top if (ROOT / name).is_dir()} <= {
        *LAYERS,
        "tests",
        "examples",
        "docs",
    }


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_importing_the_allocator_loads_neither_torch_nor_cvxpy_nor_optuna() -> None:
    code = (
        "import sys, fedhq.allocator\n"
        "heavy = {'torch', 'cvxpy', 'optuna', 'pydantic', 'rich', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True)
    (wheel,) = tmp_path.glob("fedhq-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if n.startswith("fedhq/")}
    data = [p for layer in LAYERS for p in (ROOT / layer).rglob("*") if p.suffix in DATA_SUFFIXES]
    wanted = {f"fedhq/{p.relative_to(ROOT)}" for p in [*FILES, *data]}
    wanted |= {f"fedhq/{layer}/py.typed" for layer in LAYERS}
    assert held == wanted


def test_the_examples_of_the_readme_run() -> None:
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted > 5
    assert results.failed == 0
