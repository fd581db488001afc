"""What others' code relies on: a lean import, no clash with folders of their own, types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDERS = ("allocator", "fl_core", "models", "studies", "tests")  # that a user may have, too

PROJECT = """
import sys
from pathlib import Path
{imports}
from tests.cases import NAME as case

for package in (allocator, fl_core, models, studies):
    assert package.NAME == "mine", package
    assert Path(package.__file__).is_relative_to(Path.cwd()), package
problem = AllocationProblem(
    ("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]], [[0.1, 0], [0.1, 0]], tradeoff=10.0
)
assert solve(problem, {solver}).status is Status.OPTIMAL
{more}
print(case)
"""
MINE = "import allocator, fl_core, models, studies"
THEIRS = "from fedhq.allocator import AllocationProblem, Cvx, Exact, Status, solve"
WITH_TORCH = """
from fedhq.models import build_model
from fedhq.fl_core import Trainer
assert build_model("mlp", (1, 8, 8), 10, seed=0) is not None
"""


def run(code: str, *arguments: str, folder: Path | None = None) -> str:
    """What a fresh process prints that runs code as a program."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_beyond(first: str, then: str) -> set[str]:
    """Modules that an import loads after another."""
    return set(
        json.loads(
            run(
                f"import json, sys, {first}\n"
                "before = set(sys.modules)\n"
                f"import {then}\n"
                "print(json.dumps(sorted(set(sys.modules) - before)))"
            )
        )
    )


def foreign(modules: set[str]) -> set[str]:
    """Those that neither Python nor fedhq brings; NumPy's own names for types cost nothing."""
    own = {*sys.stdlib_module_names, "fedhq"}
    return {m for m in modules if m.split(".")[0] not in own and not m.startswith("numpy.typing")}


def test_importing_the_allocator_loads_numpy_scipy_and_nothing_else_that_is_installed() -> None:
    found = loaded_beyond("numpy, scipy", "fedhq.allocator")
    assert foreign(found) <= {"numpy._typing._add_docstring"}


def test_settings_of_a_federation_come_without_torch() -> None:
    found = loaded_beyond("numpy, scipy", "fedhq.fl_core; fedhq.fl_core.FederationSettings()")
    assert "fedhq.fl_core.settings" in found
    assert "torch" not in found


def write_project(folder: Path, program: str) -> None:
    """A project with folders of the names that fedhq's have in its repository."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("NAME = 'mine'\n", "utf-8")
    (folder / "tests" / "cases.py").write_text("from models import NAME\n", "utf-8")
    (folder / "main.py").write_text(program, "utf-8")


def run_project(folder: Path, imports: str, solver: str, more: str = "") -> str:
    """What the project prints, its folder being current and first on the path."""
    write_project(folder, PROJECT.format(imports=imports, solver=solver, more=more))
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("imports", [f"{MINE}\n{THEIRS}", f"{THEIRS}\n{MINE}"])
def test_a_project_keeps_folders_of_its_own_with_the_same_names(tmp_path, imports) -> None:
    assert run_project(tmp_path, imports, "Exact()") == "mine"


@pytest.mark.slow
def test_so_it_does_with_torch_and_with_a_solver_in_a_process_of_its_own(tmp_path) -> None:
    imports, solver = f"{THEIRS}\n{MINE}", "Cvx('SCIP', time_limit_seconds=60.0)"
    assert run_project(tmp_path, imports, solver, WITH_TORCH) == "mine"
