"""Promises of the whole package: one-way imports, complete wheel, running docstring examples.

Its sources are looked at where they are imported from: a checkout, or an installed wheel.
"""

import ast
import doctest
import importlib
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOME = Path(find_spec("fedhq.allocator").origin).resolve().parents[1]
"""The folder that holds the four packages; the root of a checkout, unless a wheel is tested."""
LAYERS = ("allocator", "models", "fl_core", "studies")  # each may import those before it
HUB = HOME / "studies" / "optunahub"
"""Packages of their own, in OptunaHub's layout: no part of the wheel, tested where they are."""
FILES = sorted(
    p for layer in LAYERS for p in (HOME / layer).rglob("*.py") if not p.is_relative_to(HUB)
)
FOREIGN = {"bare_loop.py", "in_flower.py", "in_pfl.py", "in_blazefl.py"}
"""Programs, run as scripts in environments of their own."""
MODULES = [
    "fedhq." + ".".join(p.relative_to(HOME).with_suffix("").parts)
    for p in FILES
    if p.parent.name != "simulators" or p.name not in FOREIGN
]


def imported_names(path: Path) -> set[str]:
    """Absolute names of all that a file imports, relative imports resolved."""
    package = ["fedhq", *path.relative_to(HOME).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOME)))
def test_imports_point_down_and_never_name_a_bare_folder(path: Path) -> None:
    mine = LAYERS.index(path.relative_to(HOME).parts[0])
    for name in imported_names(path):
        parts = name.split(".")
        assert parts[0] not in LAYERS, f"{name} is a bare folder: use a relative import"
        if parts[0] == "fedhq" and len(parts) > 1:
            assert LAYERS.index(parts[1]) <= mine, f"{name} points up"


def test_the_wheel_lists_every_folder_that_holds_a_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(config["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(HOME) for p in FILES if p.name == "__init__.py"}
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


def test_the_examples_of_the_readme_run() -> None:
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted > 5
    assert results.failed == 0
