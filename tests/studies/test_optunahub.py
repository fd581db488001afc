"""The packages for OptunaHub: the registry's layout, their examples, and that they stand alone."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import optunahub
import plotly.graph_objects as go
import pytest
import yaml

REGISTRY = Path(__file__).parents[2] / "studies" / "optunahub" / "package"
PACKAGES = {
    "samplers/solver_seeded": {"SolverSeededSampler", "allocation_seeds"},
    "benchmarks/federated_precision": {"Point", "Problem"},
    "visualization/allocation_heatmap": {"plot_allocation_heatmap"},
}
TAGS = {"samplers": "sampler", "benchmarks": "benchmark", "visualization": "visualization"}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def readme(package: str) -> str:
    return (REGISTRY / package / "README.md").read_text(encoding="utf-8")


def test_no_package_is_forgotten_here():
    found = {str(p.parent.relative_to(REGISTRY)) for p in REGISTRY.rglob("__init__.py")}
    assert found == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_files_that_the_registry_asks_for(package):
    for name in ("README.md", "LICENSE", "__init__.py", "example.py"):
        assert (REGISTRY / package / name).is_file()
    assert "MIT License" in (REGISTRY / package / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_front_matter_of_a_readme_is_what_the_registry_reads(package):
    _, head, _ = readme(package).split("---\n", 2)
    front = yaml.safe_load(head)
    assert all(isinstance(front[key], str) for key in ("author", "title", "description"))
    assert all(isinstance(text, str) for text in front["tags"] + front["optuna_versions"])
    assert TAGS[package.split("/")[0]] in front["tags"]
    assert front["license"] == "MIT License"


@pytest.mark.parametrize("package", PACKAGES)
def test_images_that_a_readme_shows_are_there(package):
    for path in re.findall(r"!\[.*?\]\((.*?)\)", readme(package)):
        assert (REGISTRY / package / path).is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_loads_and_its_docstring_examples_run(package):
    module = optunahub.load_local_module(package, registry_root=str(REGISTRY))
    assert set(module.__all__) == PACKAGES[package]
    inner = [m for name, m in sys.modules.items() if name.startswith(f"{module.__name__}.")]
    results = [doctest.testmod(m) for m in inner]
    assert sum(r.attempted for r in results) > 0
    assert sum(r.failed for r in results) == 0


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The packages where `load_module` looks before it asks the network."""
    held = tmp_path / "github.com" / "optuna" / "optunahub-registry" / "main" / "package"
    shutil.copytree(REGISTRY, held, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_example_of_a_readme_runs(package, hub_cache, monkeypatch):
    shown = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", readme(package), flags=re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert isinstance(names["study"], optuna.Study)
    assert len(shown) == (package == "visualization/allocation_heatmap")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "says"),
    [
        ("samplers/solver_seeded", r"TPE: \d+ by trial \d+\nseeded: \d+ by trial 0"),
        ("benchmarks/federated_precision", r"policy: 3 .* 0\.\d%.*\nclients: 20 .* \d\d\.\d%"),
        ("visualization/allocation_heatmap", r"\d+ allocations in allocation_heatmap.html"),
    ],
)
def test_an_example_runs_as_it_stands(package, says, tmp_path):
    command = [sys.executable, "-W", "error", str(REGISTRY / package / "example.py")]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.match(says, done.stdout)


def test_sampler_and_heatmap_need_no_fedhq(tmp_path):
    code = f"""
import sys
sys.modules["fedhq"] = None  # whoever imports it fails
import optuna, optunahub
load = lambda name: optunahub.load_local_module(name, registry_root={str(REGISTRY)!r})
sampler = load("samplers/solver_seeded").SolverSeededSampler([{{"client_0": "b"}}])
study = optuna.create_study(sampler=sampler)
study.optimize(lambda t: len(t.suggest_categorical("client_0", ["a", "b"])), n_trials=3)
assert study.trials[0].params == {{"client_0": "b"}}
load("visualization/allocation_heatmap").plot_allocation_heatmap(study)
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
